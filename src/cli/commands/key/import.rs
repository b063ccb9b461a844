//! `key import`: keeps a key from a PEM file.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use p2pdb_protocol::keys::PublicKey;
use zeroize::Zeroizing;

use super::Description;
use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        keyring::{Keyring, is_encrypted, is_public, read_private},
        passphrase::PassphraseArgs,
    },
    config::Name,
};

/// Largest PEM file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 64 << 10;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What to call it
    name: Name,
    /// PEM file: PUBLIC KEY, PRIVATE KEY or ENCRYPTED PRIVATE KEY; `-` for stdin
    file: PathBuf,
    /// Encrypt it with a passphrase; a key that comes encrypted keeps its passphrase
    #[arg(long)]
    encrypt: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let keyring = Keyring::new(context.home()?);
    let shown = args.file.display();
    let pem = read(&args.file)
        .with_context(|| format!("cannot read the PEM file {shown}"))
        .hint("check the path and its permissions")?;
    let key = if is_public(&pem) {
        let public = PublicKey::from_pem(&pem).with_context(|| format!("cannot use {shown}"))?;
        keyring.add_public(&args.name, &public)?
    } else if is_encrypted(&pem) {
        let of = format!("the key in {shown}");
        let passphrase = args.passphrase.existing(&of)?;
        let private = p2pdb_protocol::keys::PrivateKey::from_pem(&pem, Some(&passphrase))
            .with_context(|| format!("cannot use {of}"))?;
        keyring.add_private(&args.name, &private, Some(&passphrase))?
    } else {
        let private = read_private(&pem, &format!("the key in {shown}"), &args.passphrase)?;
        let passphrase = args.encrypt.then(|| args.passphrase.fresh("the imported key")).transpose()?;
        keyring.add_private(
            &args.name,
            &private,
            passphrase.as_ref().map(|passphrase| passphrase.as_str()),
        )?
    };
    context.output().print(&Description::from(&key))?;
    Ok(Exit::Success)
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // With room for all of it from the start, no copy is left behind by a growing buffer.
    let mut text = Zeroizing::new(String::with_capacity(MAX_PEM_BYTES as usize));
    if path == Path::new("-") {
        io::stdin().lock().take(MAX_PEM_BYTES).read_to_string(&mut text)?;
    } else {
        File::open(path)?.take(MAX_PEM_BYTES).read_to_string(&mut text)?;
    }
    Ok(text)
}
