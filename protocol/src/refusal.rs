//! What admission answers for an entry, and the codes it has on the wire (SPEC 6.1, 6.2).

use std::fmt;

macro_rules! refusals {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $text:literal;)*) => {
        /// Why an entry was refused (SPEC 6.1).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Refusal {
            $($(#[$doc])* $variant,)*
            /// A code of a later version of the protocol.
            Unknown(u64),
        }

        impl Refusal {
            /// Every refusal that this version knows.
            pub const ALL: &'static [Refusal] = &[$(Refusal::$variant),*];

            /// The code on the wire (SPEC 6.2).
            #[must_use]
            pub const fn code(self) -> u64 {
                match self {
                    $(Refusal::$variant => $code,)*
                    Refusal::Unknown(code) => code,
                }
            }

            /// The stable name, as in SPEC 6.2.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Refusal::$variant => $name,)*
                    Refusal::Unknown(_) => "unknown",
                }
            }

            /// The refusal with this code.
            #[must_use]
            pub const fn from_code(code: u64) -> Self {
                match code {
                    $($code => Refusal::$variant,)*
                    other => Refusal::Unknown(other),
                }
            }
        }

        impl fmt::Display for Refusal {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Refusal::$variant => f.write_str($text),)*
                    Refusal::Unknown(code) => write!(f, "refused with the unknown code {code}"),
                }
            }
        }
    };
}

refusals! {
    /// Dropped on purpose earlier: expired, evicted, retracted or refused for good.
    Dropped = 2, "dropped", "the node dropped this entry earlier and will not take it again";
    /// Longer than the network permits.
    TooLarge = 10, "too_large", "the entry is larger than the network permits";
    /// Not the structure of SPEC 4.1, or bytes after it.
    Malformed = 11, "malformed", "the entry does not decode";
    /// Decodes, but is not the one encoding of its values.
    NonCanonical = 12, "non_canonical", "the entry is not encoded canonically";
    /// A header version this node does not know.
    UnknownVersion = 13, "unknown_version", "the entry has a version this node does not know";
    /// No recipients, too many, out of order, or a wrapped key of an impossible length.
    BadRecipients = 14, "bad_recipients", "the recipients are missing, too many or out of order";
    /// `expires` is not after `created`.
    BadExpiry = 15, "bad_expiry", "the entry expires before it was created";
    /// The body is not the one the header commits to.
    BodyMismatch = 16, "body_mismatch", "the body is not the one the header commits to";
    /// Created too far in the future.
    CreatedInFuture = 20, "created_in_future", "the entry's time is in the future: check the clock";
    /// Already expired.
    Expired = 21, "expired", "the entry has expired";
    /// Older than the node keeps entries.
    BeyondHorizon = 22, "beyond_horizon", "the entry is older than this node keeps entries";
    /// The proof has a wrong length.
    WorkMalformed = 30, "work_malformed", "the proof of work has a wrong length";
    /// A puzzle is not solved.
    WorkInsufficient = 31, "work_insufficient", "the proof of work is not enough for this entry";
    /// The node does not mirror the table.
    TableNotMirrored = 40, "table_not_mirrored", "this node does not mirror the table";
    /// The node lacks the table's public key and none was sent.
    TableKeyMissing = 41, "table_key_missing", "the table's public key is unknown here: send it along";
    /// The key is not the table's, or not one that SPEC 3.1 permits.
    TableKeyInvalid = 42, "table_key_invalid", "the table's public key is not valid or not the table's";
    /// Not signed by the table's key.
    SignatureInvalid = 43, "signature_invalid", "the entry is not signed by the table's key";
    /// A quota of the peer, the table or the disk is used up.
    QuotaExceeded = 50, "quota_exceeded", "a quota of this node is used up";
    /// Try again later.
    Busy = 60, "busy", "the node is busy: try again later";
    /// The node could not write it.
    StoreFailed = 61, "store_failed", "the node could not store the entry";
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Whether only a faulty or hostile peer passes such an entry on: honest nodes check it before.
    #[must_use]
    pub const fn is_misbehaviour(self) -> bool {
        matches!(
            self,
            Refusal::Malformed
                | Refusal::NonCanonical
                | Refusal::BadRecipients
                | Refusal::BadExpiry
                | Refusal::BodyMismatch
                | Refusal::WorkMalformed
                | Refusal::WorkInsufficient
                | Refusal::TableKeyInvalid
                | Refusal::SignatureInvalid
        )
    }
}

/// What becomes of an entry that was handed to a node (SPEC 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Durably stored by this very request.
    Stored,
    /// Already stored.
    Known,
    /// Not taken.
    Refused(Refusal),
}

impl Outcome {
    /// The code on the wire (SPEC 6.2).
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Outcome::Stored => 0,
            Outcome::Known => 1,
            Outcome::Refused(refusal) => refusal.code(),
        }
    }

    /// The outcome with this code.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        match code {
            0 => Outcome::Stored,
            1 => Outcome::Known,
            other => Outcome::Refused(Refusal::from_code(other)),
        }
    }

    /// Whether the node holds the entry now.
    #[must_use]
    pub const fn is_held(self) -> bool {
        matches!(self, Outcome::Stored | Outcome::Known)
    }

    /// The stable name, as in SPEC 6.2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Stored => "stored",
            Outcome::Known => "known",
            Outcome::Refused(refusal) => refusal.name(),
        }
    }
}
