//! `gateway backup`: the user in one encrypted file.

use std::path::PathBuf;

use anyhow::Result;

use super::vault::Vault;
use crate::{
    cli::{Exit, context::Context, output::note, passphrase::PassphraseArgs},
    config::home::{self, Overwrite},
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to write, which must not exist
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let vault = Vault::of(&context.home()?)?;
    let passphrase = args.passphrase.fresh("the backup")?;
    home::write_secret(&args.file, &vault.seal(&passphrase)?, Overwrite::No)?;
    note(&format!("backed up {}; without the passphrase the file is worth nothing", vault.summary()));
    Ok(Exit::Success)
}
