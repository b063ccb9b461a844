//! Passphrases of encrypted keys: from a file, a variable or a prompt, never from an argument.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};
use zeroize::Zeroizing;

use crate::{cli::failure::Advise as _, config::home};

/// The environment variable that may hold a passphrase.
pub(super) const VARIABLE: &str = "P2PDB_PASSPHRASE";

const HINT: &str = "set P2PDB_PASSPHRASE, pass --passphrase-file FILE, or run this on a terminal";

/// Where a passphrase comes from: this file, else `P2PDB_PASSPHRASE`, else a prompt.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct PassphraseArgs {
    /// Read the passphrase of encrypted keys from a file; else from P2PDB_PASSPHRASE, else from a prompt
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase of an existing key.
    pub(super) fn existing(&self, of: &str) -> Result<Zeroizing<String>> {
        self.given()?.map_or_else(|| prompt(&format!("Passphrase of {of}: ")), Ok)
    }

    /// A passphrase for a new key, which is asked for twice.
    pub(super) fn fresh(&self, of: &str) -> Result<Zeroizing<String>> {
        let passphrase = match self.given()? {
            Some(given) => given,
            None => {
                let first = prompt(&format!("New passphrase of {of}: "))?;
                if *first != *prompt("The same again: ")? {
                    return Err(anyhow!("the two passphrases differ")).hint("try again");
                }
                first
            }
        };
        if passphrase.is_empty() {
            return Err(anyhow!("expected a passphrase, got an empty one"))
                .hint("leave out --encrypt for a key without a passphrase");
        }
        Ok(passphrase)
    }

    fn given(&self) -> Result<Option<Zeroizing<String>>> {
        let Some(path) = &self.passphrase_file else {
            return match env::var(VARIABLE) {
                Ok(text) => Ok(Some(Zeroizing::new(text))),
                Err(env::VarError::NotPresent) => Ok(None),
                Err(env::VarError::NotUnicode(_)) => Err(anyhow!("{VARIABLE} is not UTF-8")).hint(HINT),
            };
        };
        let bytes = home::read_secret(path)?;
        let text = std::str::from_utf8(&bytes)
            .with_context(|| format!("expected a passphrase in UTF-8 in {}", path.display()))
            .hint(HINT)?;
        // An editor ends the line; that is not part of the passphrase.
        Ok(Some(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned())))
    }
}

fn prompt(question: &str) -> Result<Zeroizing<String>> {
    rpassword::prompt_password(question).map(Zeroizing::new).context("cannot ask for a passphrase").hint(HINT)
}
