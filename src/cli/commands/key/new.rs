//! `key new`: makes a key.

use anyhow::Result;
use p2pdb_protocol::{keys::PrivateKey, limits::DEFAULT_RSA_BITS};

use super::Description;
use crate::{
    cli::{
        Exit,
        context::{Context, rng},
        keyring::Keyring,
        passphrase::PassphraseArgs,
    },
    config::Name,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// What to call it
    name: Name,
    /// Length of the modulus
    #[arg(long, default_value_t = DEFAULT_RSA_BITS, value_parser = super::bits)]
    bits: usize,
    /// Encrypt it with a passphrase
    #[arg(long)]
    encrypt: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let keyring = Keyring::new(context.home()?);
    keyring.check_free(&args.name)?;
    // Asked for before the seconds that the key takes.
    let encrypt =
        args.encrypt.then(|| args.passphrase.fresh(&format!("the key {}", args.name))).transpose()?;
    let key = PrivateKey::generate(&mut rng(), args.bits)?;
    let key =
        keyring.add_private(&args.name, &key, encrypt.as_ref().map(|passphrase| passphrase.as_str()))?;
    context.output().print(&Description::from(&key))?;
    Ok(Exit::Success)
}
