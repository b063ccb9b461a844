//! Table cards: one file that lets its holder find, post to or read a table (SPEC 12.1).

use std::fmt;

use serde::{Deserialize, de::IgnoredAny};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    keys::{KeyError, PrivateKey, PublicKey},
    network::{NetworkError, NetworkFile},
};

const VERSION: i64 = 1;

/// A table as people hand it on: where it lives, and as many of its keys as they share.
#[derive(Clone)]
pub struct TableCard {
    /// What people call the table.
    pub name: String,
    /// The network it lives on.
    pub network: NetworkFile,
    /// The table's public key.
    pub table_public: PublicKey,
    /// The table's private key: lets the holder post.
    pub table_private: Option<PrivateKey>,
    /// The public key of a recipient that the holders share: lets the holder post to it.
    pub recipient_public: Option<PublicKey>,
    /// The private key of that recipient: lets the holder read.
    pub recipient_private: Option<PrivateKey>,
}

/// Why a text is not a table card. Written for the person who was handed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CardError {
    /// Not TOML, or a key is missing, unknown or of another type.
    #[error(
        "not a table card: {reason}\n\
         a table card has `version`, `name`, [network], [table] with `public_key` and maybe `private_key`, \
         and maybe [recipient] with the same: ask its sender for it again, as a file"
    )]
    File {
        /// What the TOML parser found, with line and column.
        reason: String,
    },
    /// Of a later version.
    #[error("`version` is {got}, expected {VERSION}: update p2pdb to use this card")]
    Version {
        /// Its version.
        got: i64,
    },
    /// A name that cannot be shown.
    #[error("`name` is {got:?}, expected 1 to 64 printable characters: choose another name")]
    Name {
        /// The name found.
        got: String,
    },
    /// The network is not one.
    #[error("in [network]: {0}")]
    Network(#[source] NetworkError),
    /// A key is not one.
    #[error("`{field}`: {source}")]
    Key {
        /// Which key of the card, like `table.public_key`.
        field: &'static str,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A private key that belongs to another public key.
    #[error(
        "`{section}.private_key` is not the private key of `{section}.public_key`: \
         ask the card's sender for a right one, or remove the private key"
    )]
    Mismatch {
        /// `table` or `recipient`.
        section: &'static str,
    },
    /// A private recipient key without its public key.
    #[error("`recipient.private_key` is there without `recipient.public_key`: add the public key")]
    NoRecipientPublic,
}

/// A card of this version as it is written, unknown keys refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "version")]
    _version: IgnoredAny,
    name: String,
    network: toml::Table,
    table: Keys,
    recipient: Option<Keys>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    public_key: String,
    private_key: Option<String>,
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.private_key.zeroize();
    }
}

/// The version alone, so that a later card is told from a broken one.
#[derive(Deserialize)]
struct Version {
    version: i64,
}

impl TableCard {
    /// Reads a card and checks that its private keys belong to its public ones.
    ///
    /// # Errors
    /// What is wrong with it: a message for people.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        // The parser's whole message quotes the line at fault, which may be one of a private key.
        let file_error = |error: toml::de::Error| {
            let line = error
                .span()
                .map_or(1, |span| 1 + text.bytes().take(span.start).filter(|c| *c == b'\n').count());
            CardError::File { reason: format!("line {line}: {}", error.message()) }
        };
        match toml::from_str(text).map_err(file_error)? {
            Version { version: VERSION } => {}
            Version { version: got } => return Err(CardError::Version { got }),
        }
        let file: File = toml::from_str(text).map_err(file_error)?;
        let network = file.network.to_string();
        let (table_public, table_private) =
            file.table.read("table", "table.public_key", "table.private_key")?;
        let (recipient_public, recipient_private) = match &file.recipient {
            None => (None, None),
            Some(keys) => {
                let (public, private) =
                    keys.read("recipient", "recipient.public_key", "recipient.private_key")?;
                (Some(public), private)
            }
        };
        Ok(Self {
            name: checked_name(&file.name)?,
            network: NetworkFile::parse(&network).map_err(CardError::Network)?,
            table_public,
            table_private,
            recipient_public,
            recipient_private,
        })
    }

    /// The card's text. It holds the private keys that the card does.
    ///
    /// # Errors
    /// The card breaks a rule that [`Self::parse`] checks, so that nobody could read it.
    pub fn to_toml(&self) -> Result<Zeroizing<String>, CardError> {
        self.network.network.check().map_err(CardError::Network)?;
        // Wiped on drop; the capacity spares the reallocations that would leave copies of the keys behind.
        let mut text = Zeroizing::new(String::with_capacity(32 << 10));
        let name = toml::Value::String(checked_name(&self.name)?);
        text.push_str(&format!(
            "version = {VERSION}\nname = {name}\n\n[network]\n{}",
            self.network.to_toml()
        ));
        write_keys(&mut text, "table", &self.table_public, self.table_private.as_ref())?;
        match (&self.recipient_public, &self.recipient_private) {
            (Some(public), private) => write_keys(&mut text, "recipient", public, private.as_ref())?,
            (None, Some(_)) => return Err(CardError::NoRecipientPublic),
            (None, None) => {}
        }
        Ok(text)
    }
}

impl Keys {
    fn read(
        &self,
        section: &'static str,
        public_field: &'static str,
        private_field: &'static str,
    ) -> Result<(PublicKey, Option<PrivateKey>), CardError> {
        let public = PublicKey::from_pem(&self.public_key)
            .map_err(|source| CardError::Key { field: public_field, source })?;
        let private = self
            .private_key
            .as_deref()
            .map(|pem| PrivateKey::from_pem(pem, None))
            .transpose()
            .map_err(|source| CardError::Key { field: private_field, source })?;
        check_match(section, &public, private.as_ref())?;
        Ok((public, private))
    }
}

fn check_match(
    section: &'static str,
    public: &PublicKey,
    private: Option<&PrivateKey>,
) -> Result<(), CardError> {
    match private {
        Some(private) if private.public_key() != public => Err(CardError::Mismatch { section }),
        _ => Ok(()),
    }
}

fn write_keys(
    text: &mut Zeroizing<String>,
    section: &'static str,
    public: &PublicKey,
    private: Option<&PrivateKey>,
) -> Result<(), CardError> {
    check_match(section, public, private)?;
    let failed = |source| CardError::Key { field: section, source };
    // PEM has no character that TOML would want escaped.
    let public = public.to_pem().map_err(failed)?;
    for part in ["\n[", section, "]\npublic_key = '''\n", public.trim_end(), "\n'''\n"] {
        text.push_str(part);
    }
    if let Some(private) = private {
        let private = private.to_pem().map_err(failed)?;
        for part in ["private_key = '''\n", private.trim_end(), "\n'''\n"] {
            text.push_str(part);
        }
    }
    Ok(())
}

/// Names are shown on terminals, where control characters do harm.
fn checked_name(name: &str) -> Result<String, CardError> {
    let is_valid = matches!(name.chars().count(), 1..=64) && !name.chars().any(char::is_control);
    if is_valid { Ok(name.to_owned()) } else { Err(CardError::Name { got: name.to_owned() }) }
}

impl fmt::Debug for TableCard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |is_there: bool| if is_there { "<redacted>" } else { "none" };
        f.debug_struct("TableCard")
            .field("name", &self.name)
            .field("network", &self.network.network.name)
            .field("table", &self.table_public.table_id())
            .field("table_private", &shown(self.table_private.is_some()))
            .field("recipient", &self.recipient_public.as_ref().map(PublicKey::recipient_id))
            .field("recipient_private", &shown(self.recipient_private.is_some()))
            .finish()
    }
}

#[cfg(test)]
mod tests;
