//! Identifiers: 32 bytes on the wire, bech32m with a type prefix for people (SPEC 3.2, 3.3, 4.3).

use std::{fmt, str::FromStr};

use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not the identifier that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Not bech32m, or a character was mistyped.
    #[error("not a valid id: {reason}; expected {expected}1 followed by 58 characters")]
    Malformed {
        /// The prefix that was expected.
        expected: &'static str,
        /// What the bech32m decoder found.
        reason: String,
    },
    /// A valid id of another type.
    #[error("expected an id that begins with {expected}1, got one of {got}1")]
    WrongType {
        /// The prefix that was expected.
        expected: &'static str,
        /// The prefix that was found.
        got: String,
    },
    /// Right prefix and checksum, but not 32 bytes.
    #[error("expected an id of 32 bytes, got {got}")]
    WrongLength {
        /// The number of bytes found.
        got: usize,
    },
}

fn parse(text: &str, expected: &'static str) -> Result<[u8; 32], ParseIdError> {
    let malformed = |reason: String| ParseIdError::Malformed { expected, reason };
    let checked = CheckedHrpstring::new::<Bech32m>(text.trim()).map_err(|e| malformed(e.to_string()))?;
    let got = checked.hrp().to_lowercase();
    if got != expected {
        return Err(ParseIdError::WrongType { expected, got });
    }
    let bytes: Vec<u8> = checked.byte_iter().collect();
    bytes.try_into().map_err(|bytes: Vec<u8>| ParseIdError::WrongLength { got: bytes.len() })
}

struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = [u8; 32];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("32 bytes")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<[u8; 32], E> {
        bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The bech32m prefix of this type of id.
            pub const PREFIX: &'static str = $prefix;

            /// The id with these bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The bytes as they stand on the wire.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let text = bech32::encode::<Bech32m>(Hrp::parse_unchecked($prefix), &self.0)
                    .map_err(|_| fmt::Error)?;
                f.pad(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let id = parse(text, $prefix).map(Self)?;
                // Upper case and stray padding bits would be further texts for the same id.
                if id.to_string() == text.trim() {
                    Ok(id)
                } else {
                    let reason = "not in its one lower-case form".to_owned();
                    Err(ParseIdError::Malformed { expected: $prefix, reason })
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    serializer.serialize_bytes(&self.0)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    text.parse().map_err(de::Error::custom)
                } else {
                    deserializer.deserialize_bytes(IdVisitor).map(Self)
                }
            }
        }
    };
}

id!(
    /// Identifies an entry by its header and body (SPEC 4.3); begins with its bucket (SPEC 5.5).
    EntryId,
    "p2entry"
);
id!(
    /// SHA-256 of a table's public key (SPEC 3.2).
    TableId,
    "p2table"
);
id!(
    /// SHA-256 of a recipient's public key (SPEC 3.2).
    RecipientId,
    "p2key"
);
id!(
    /// SHA-256 of the parameters a network shares (SPEC 2.2).
    NetworkId,
    "p2net"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_and_a_wrong_type_are_told_apart() {
        let id = TableId::from_bytes([7; 32]);
        let text = id.to_string();
        assert_eq!(text.parse::<TableId>(), Ok(id));
        assert!(matches!(text.parse::<EntryId>(), Err(ParseIdError::WrongType { .. })));
        let typo = text.replace("p2table1q", "p2table1p");
        assert!(matches!(typo.parse::<TableId>(), Err(ParseIdError::Malformed { .. })));
    }
}
