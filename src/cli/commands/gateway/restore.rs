//! `gateway restore`: the user of a backup, on this machine.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::vault::{MAX_BYTES, Vault};
use crate::{
    cli::{Exit, context::Context, failure::Advise as _, output::note, passphrase::PassphraseArgs},
    config::Home,
};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file that `p2pdb gateway backup` wrote
    file: PathBuf,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let shown = args.file.display();
    let bytes =
        read(&args.file).with_context(|| format!("cannot read the backup {shown}")).hint("check the path")?;
    let passphrase = args.passphrase.existing("the backup")?;
    let vault = Vault::open(&bytes, &passphrase)?;
    let home = Home::create(&context.home_path()?)?;
    vault.restore(&home)?;
    note(&format!("restored {} to {}", vault.summary(), home.root().display()));
    Ok(Exit::Success)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}
