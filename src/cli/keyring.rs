//! The RSA keys of a home: `keys/NAME.pem` private, `keys/NAME.pub` public.
//!
//! The public half stands apart so that an encrypted key can be listed and sealed to without its passphrase, and so that
//! the keys of others have a place and a name.

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use p2pdb_protocol::{
    id::RecipientId,
    keys::{KeyError, PrivateKey, PublicKey},
};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    cli::{context::rng, failure::Advise as _, passphrase::PassphraseArgs},
    config::{
        Home, HomeError, Name,
        home::{self, Overwrite},
    },
};

/// What a home has of the private half of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PrivateHalf {
    /// Nothing: it is the key of somebody else.
    None,
    /// It is there and needs a passphrase.
    Encrypted,
    /// It is there as it is.
    Plain,
}

impl PrivateHalf {
    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::None => "public only",
            Self::Encrypted => "encrypted",
            Self::Plain => "private",
        }
    }
}

/// A key of the home.
#[derive(Debug, Clone)]
pub(super) struct Key {
    pub(super) name: Name,
    pub(super) public: PublicKey,
    pub(super) private: PrivateHalf,
}

/// The keys of a home.
#[derive(Debug)]
pub(super) struct Keyring {
    home: Home,
}

impl Keyring {
    pub(super) const fn new(home: Home) -> Self {
        Self { home }
    }

    fn public_path(&self, name: &Name) -> PathBuf {
        self.home.keys().join(format!("{name}.pub"))
    }

    /// Every key, by name.
    pub(super) fn all(&self) -> Result<Vec<Key>> {
        let mut names: BTreeSet<Name> = self.home.key_names()?.into_iter().collect();
        let directory = self.home.keys();
        let failed = || format!("cannot list {}", directory.display());
        for item in fs::read_dir(&directory).with_context(failed)? {
            let path = item.with_context(failed)?.path();
            if path.extension().is_some_and(|extension| extension == "pub") {
                names.extend(path.file_stem().and_then(|stem| stem.to_str()?.parse::<Name>().ok()));
            }
        }
        names.into_iter().map(|name| self.load(name)).collect()
    }

    /// The key with this name or id.
    pub(super) fn find(&self, text: &str) -> Result<Key> {
        if let Ok(id) = text.parse::<RecipientId>() {
            return self
                .all()?
                .into_iter()
                .find(|key| key.public.recipient_id() == id)
                .ok_or_else(|| anyhow!("this home has no key {id}"))
                .hint("list the keys with `p2pdb key list`, or import its PEM file with `p2pdb key import`");
        }
        let name: Name = text.parse()?;
        if !self.home.key(&name).exists() && !self.public_path(&name).exists() {
            return Err(anyhow!("this home has no key named {name}")).hint(format!(
                "list the keys with `p2pdb key list`, or make it with `p2pdb key new {name}`"
            ));
        }
        self.load(name)
    }

    fn load(&self, name: Name) -> Result<Key> {
        let private_path = self.home.key(&name);
        let pem = match home::read_secret(&private_path) {
            Ok(bytes) => {
                Some(to_text(bytes).with_context(|| format!("cannot read {}", private_path.display()))?)
            }
            Err(HomeError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        let private = match &pem {
            None => PrivateHalf::None,
            Some(pem) if is_encrypted(pem) => PrivateHalf::Encrypted,
            Some(_) => PrivateHalf::Plain,
        };
        let public_path = self.public_path(&name);
        let public = match (fs::read_to_string(&public_path), pem) {
            (Ok(text), _) => PublicKey::from_pem(&text),
            (Err(_), Some(pem)) => PrivateKey::from_pem(&pem, None).map(|key| key.public_key().clone()),
            (Err(error), None) => {
                return Err(error).with_context(|| format!("cannot read {}", public_path.display()));
            }
        };
        let public = match public {
            Err(KeyError::NeedsPassphrase) => {
                Err(anyhow!("the key {name} is encrypted and {name}.pub is missing")).hint(format!(
                    "move {} elsewhere and import it from there with `p2pdb key import`",
                    private_path.display()
                ))?
            }
            public => public.with_context(|| format!("the key {name} cannot be used"))?,
        };
        Ok(Key { name, public, private })
    }

    /// The private half of a key; asks for its passphrase if it has one.
    pub(super) fn unlock(&self, key: &Key, passphrase: &PassphraseArgs) -> Result<PrivateKey> {
        let name = &key.name;
        if key.private == PrivateHalf::None {
            return Err(anyhow!("of the key {name} this home has the public half only"))
                .hint("import its private key, or name another key");
        }
        let pem = to_text(home::read_secret(&self.home.key(name))?)?;
        let private = read_private(&pem, &format!("the key {name}"), passphrase)?;
        if *private.public_key() != key.public {
            return Err(anyhow!("{name}.pem and {name}.pub are not halves of one key"))
                .hint(format!("remove the wrong one from {}", self.home.keys().display()));
        }
        Ok(private)
    }

    /// Fails if the name is taken by a private key.
    pub(super) fn check_free(&self, name: &Name) -> Result<()> {
        let path = self.home.key(name);
        if path.exists() { Err(HomeError::Exists { path }.into()) } else { Ok(()) }
    }

    /// Keeps a private key, encrypted if there is a passphrase.
    pub(super) fn add_private(&self, name: &Name, key: &PrivateKey, passphrase: Option<&str>) -> Result<Key> {
        let pem = match passphrase {
            Some(passphrase) => key.to_encrypted_pem(&mut rng(), passphrase)?,
            None => key.to_pem()?,
        };
        let public_path = self.public_path(name);
        if let Ok(text) = fs::read_to_string(&public_path)
            && PublicKey::from_pem(&text).ok().as_ref() != Some(key.public_key())
        {
            return Err(HomeError::Exists { path: public_path }.into());
        }
        home::write_secret(&self.home.key(name), pem.as_bytes(), Overwrite::No)?;
        home::write_public(&public_path, key.public_key().to_pem()?.as_bytes(), Overwrite::Yes)?;
        let private = if passphrase.is_some() { PrivateHalf::Encrypted } else { PrivateHalf::Plain };
        Ok(Key { name: name.clone(), public: key.public_key().clone(), private })
    }

    /// Keeps the public key of somebody else.
    pub(super) fn add_public(&self, name: &Name, key: &PublicKey) -> Result<Key> {
        self.check_free(name)?;
        home::write_public(&self.public_path(name), key.to_pem()?.as_bytes(), Overwrite::No)?;
        Ok(Key { name: name.clone(), public: key.clone(), private: PrivateHalf::None })
    }
}

/// Reads a private key; asks for its passphrase if it has one.
pub(super) fn read_private(pem: &str, of: &str, passphrase: &PassphraseArgs) -> Result<PrivateKey> {
    let read = match PrivateKey::from_pem(pem, None) {
        Err(KeyError::NeedsPassphrase) => PrivateKey::from_pem(pem, Some(&passphrase.existing(of)?)),
        read => read,
    };
    read.with_context(|| format!("cannot use {of}"))
}

/// Whether this PEM file holds a private key that needs a passphrase.
pub(super) fn is_encrypted(pem: &str) -> bool {
    pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

/// Whether this PEM file holds a public key.
pub(super) fn is_public(pem: &str) -> bool {
    pem.contains("-----BEGIN PUBLIC KEY-----")
}

/// The text of a secret file, without a copy left behind.
pub(super) fn to_text(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>> {
    String::from_utf8(std::mem::take(&mut *bytes))
        .map(Zeroizing::new)
        .map_err(|_| anyhow!("expected a text file in UTF-8"))
}
