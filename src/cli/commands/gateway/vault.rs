//! The files of a user in one encrypted file.
//!
//! `p2pdb backup v1\n`, 16 bytes of salt, and ChaCha20-Poly1305 with a zero nonce and the head as associated data, of JSON:
//! paths in the home and their texts. The key is scrypt of passphrase and salt with N = 2^17, r = 8, p = 1 (128 MiB, about half a
//! second), hence of this one file. Keys that are encrypted by themselves stay so.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce, aead::AeadInOut as _};
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    cli::{context::rng, failure::Advise as _, format::some},
    config::{
        Home, Name,
        home::{self, Overwrite},
    },
};

const MAGIC: &[u8; 16] = b"p2pdb backup v1\n";
const SALT_BYTES: usize = 16;
const HEAD_BYTES: usize = MAGIC.len() + SALT_BYTES;
/// log2 of N, r and p of scrypt.
const COST: (u8, u32, u32) = (17, 8, 1);
/// Longest vault that is read, in bytes.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// The files of a user: paths within the home, and their texts, which are wiped when this is dropped.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Vault {
    files: BTreeMap<String, String>,
}

impl Drop for Vault {
    fn drop(&mut self) {
        for text in self.files.values_mut() {
            text.zeroize();
        }
    }
}

/// Where in the home a path of a vault lies; nothing for one that has no place there.
fn place(home: &Home, path: &str) -> Option<PathBuf> {
    let name = |text: &str| text.parse::<Name>().ok();
    match path.split_once('/') {
        None if path == "network.toml" => Some(home.network()),
        Some(("keys", file)) => match (file.strip_suffix(".pem"), file.strip_suffix(".pub")) {
            (Some(key), _) => Some(home.key(&name(key)?)),
            (_, Some(key)) => Some(home.keys().join(format!("{}.pub", name(key)?))),
            _ => None,
        },
        Some(("tables", file)) => Some(home.table(&name(file.strip_suffix(".toml")?)?)),
        _ => None,
    }
}

impl Vault {
    /// The user of a home.
    pub(super) fn of(home: &Home) -> Result<Self> {
        let mut vault = Self::default();
        let mut take = |path: String, is_secret: bool| -> Result<()> {
            let file = home.root().join(&path);
            let text = if is_secret {
                String::from_utf8(home::read_secret(&file)?.to_vec()).map_err(|_| anyhow!("expected UTF-8"))
            } else {
                fs::read_to_string(&file).map_err(Into::into)
            };
            vault.files.insert(path, text.with_context(|| format!("cannot read {}", file.display()))?);
            Ok(())
        };
        for name in home.key_names()? {
            take(format!("keys/{name}.pem"), true)?;
        }
        for item in fs::read_dir(home.keys()).context("cannot list the keys")? {
            let file = item.context("cannot list the keys")?.file_name();
            if let Some(file) = file.to_str().filter(|file| file.ends_with(".pub"))
                && place(home, &format!("keys/{file}")).is_some()
            {
                take(format!("keys/{file}"), false)?;
            }
        }
        for name in home.table_names()? {
            take(format!("tables/{name}.toml"), true)?;
        }
        if home.network().exists() {
            take("network.toml".to_owned(), false)?;
        }
        Ok(vault)
    }

    /// What there is of private keys and tables, for people.
    pub(super) fn summary(&self) -> String {
        let count = |start: &str, end: &str| {
            self.files.keys().filter(|path| path.starts_with(start) && path.ends_with(end)).count()
        };
        let keys = some(count("keys/", ".pem"), "private key", "private keys");
        let tables = some(count("tables/", ".toml"), "table", "tables");
        format!("{keys} and {tables}")
    }

    /// The vault, encrypted.
    pub(super) fn seal(&self, passphrase: &str) -> Result<Vec<u8>> {
        let mut head = [0_u8; HEAD_BYTES];
        let (magic, salt) = head.split_at_mut(MAGIC.len());
        magic.copy_from_slice(MAGIC);
        rng().fill_bytes(salt);
        let cipher = cipher(passphrase, salt)?;
        let mut body = Zeroizing::new(serde_json::to_vec(self)?);
        let encrypted = cipher.encrypt_in_place(&Nonce::default(), &head, &mut *body);
        encrypted.map_err(|_| anyhow!("the backup cannot be encrypted"))?;
        Ok([&head[..], &body[..]].concat())
    }

    /// Opens what [`Vault::seal`] made.
    pub(super) fn open(bytes: &[u8], passphrase: &str) -> Result<Self> {
        let Some((head, body)) =
            bytes.split_at_checked(HEAD_BYTES).filter(|(head, _)| head.starts_with(MAGIC))
        else {
            return Err(anyhow!("this is not a backup of p2pdb"))
                .hint("name the file that `p2pdb gateway backup` wrote");
        };
        let mut body = Zeroizing::new(body.to_vec());
        cipher(passphrase, head.get(MAGIC.len()..).unwrap_or_default())?
            .decrypt_in_place(&Nonce::default(), head, &mut *body)
            .map_err(|_| anyhow!("wrong passphrase, or the backup is damaged"))
            .hint("try again, or take another copy of the file")?;
        serde_json::from_slice(&body).context("the backup is of another version").hint("update p2pdb")
    }

    /// Puts the files into a home. Nothing is written unless all can be: what is there must be the same.
    pub(super) fn restore(&self, home: &Home) -> Result<()> {
        let mut missing = Vec::new();
        for (path, text) in &self.files {
            let file = place(home, path)
                .ok_or_else(|| anyhow!("the backup holds {path:?}, which has no place here"))?;
            match fs::read(&file).map(Zeroizing::new) {
                Ok(there) if *there == text.as_bytes() => {}
                Ok(_) => {
                    return Err(anyhow!("{} exists already, and is another one", file.display()))
                        .hint("restore into a new home, with --home DIRECTORY");
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push((file, path, text)),
                Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
            }
        }
        for (file, path, text) in missing {
            if path.ends_with(".pub") || path == "network.toml" {
                home::write_public(&file, text.as_bytes(), Overwrite::No)?;
            } else {
                home::write_secret(&file, text.as_bytes(), Overwrite::No)?;
            }
        }
        Ok(())
    }
}

fn cipher(passphrase: &str, salt: &[u8]) -> Result<ChaCha20Poly1305> {
    let (log_n, r, p) = COST;
    let mut key = Zeroizing::new([0_u8; 32]);
    let params = scrypt::Params::new(log_n, r, p).map_err(|_| anyhow!("scrypt does not work here"))?;
    scrypt::scrypt(passphrase.as_bytes(), salt, &params, &mut *key)
        .map_err(|_| anyhow!("scrypt does not work here"))?;
    Ok(ChaCha20Poly1305::new((&*key).into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use tempfile::TempDir;

    use super::*;

    fn vault(files: &[(&str, &str)]) -> Vault {
        Vault { files: files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect() }
    }

    fn home() -> (TempDir, Home) {
        let directory = TempDir::new().unwrap();
        let home = Home::create(&directory.path().join("home")).unwrap();
        (directory, home)
    }

    #[test]
    fn a_vault_opens_with_its_passphrase_alone() {
        let sealed = vault(&[("keys/me.pem", "secret")]).seal("right").unwrap();
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        assert_eq!(Vault::open(&sealed, "right").unwrap().files["keys/me.pem"], "secret");
        let wrong = Vault::open(&sealed, "wrong").err().unwrap();
        assert_eq!(wrong.to_string(), "wrong passphrase, or the backup is damaged");
        let mut altered = sealed.clone();
        altered[HEAD_BYTES] ^= 1;
        assert!(Vault::open(&altered, "right").is_err());
        for cut in [&sealed[..HEAD_BYTES - 1], b"-----BEGIN PRIVATE KEY-----, and so on"] {
            assert_eq!(Vault::open(cut, "right").err().unwrap().to_string(), "this is not a backup of p2pdb");
        }
    }

    #[test]
    fn files_go_where_they_belong_or_nowhere() {
        let (_directory, home) = home();
        for bad in [
            "../x",
            "keys/../x.pem",
            "/etc/passwd",
            "keys/a/b.pem",
            "node.key",
            "config.toml",
            "tables/x",
            "keys/.pem",
        ] {
            assert!(vault(&[("keys/me.pem", "k"), (bad, "x")]).restore(&home).is_err(), "{bad}");
            assert!(!home.key(&"me".parse().unwrap()).exists(), "nothing is written beside {bad}");
        }
    }

    #[test]
    fn what_is_there_is_not_replaced() {
        let (_directory, home) = home();
        let first = vault(&[("keys/me.pem", "mine"), ("network.toml", "n")]);
        first.restore(&home).unwrap();
        first.restore(&home).unwrap();
        assert!(vault(&[("keys/a.pem", "a"), ("keys/me.pem", "other")]).restore(&home).is_err());
        assert!(!home.key(&"a".parse().unwrap()).exists());
        assert_eq!(*home::read_secret(&home.key(&"me".parse().unwrap())).unwrap(), *b"mine");
    }
}
