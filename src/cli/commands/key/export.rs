//! `key export`: a key as PEM, for other programs and people.

use std::io::{self, Write};

use anyhow::Result;
use p2pdb_protocol::id::RecipientId;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::cli::{
    Exit,
    context::{Context, rng},
    keyring::Keyring,
    output::{Answer, note},
    passphrase::PassphraseArgs,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name or id of the key
    key: String,
    /// Write the private half
    #[arg(long)]
    private: bool,
    /// Encrypt the private half with a passphrase, which is also that of the key if it has one
    #[arg(long, requires = "private")]
    encrypt: bool,
    #[command(flatten)]
    passphrase: PassphraseArgs,
}

#[derive(Serialize)]
struct Exported<'a> {
    id: RecipientId,
    pem: &'a str,
}

impl Answer for Exported<'_> {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(self.pem.as_bytes())
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let keyring = Keyring::new(context.home()?);
    let key = keyring.find(&args.key)?;
    let pem = if args.private {
        let private = keyring.unlock(&key, &args.passphrase)?;
        if args.encrypt {
            let passphrase = args.passphrase.fresh("the exported key")?;
            private.to_encrypted_pem(&mut rng(), &passphrase)?
        } else {
            note("warning: who has this file can read everything that was ever sealed to this key.");
            private.to_pem()?
        }
    } else {
        Zeroizing::new(key.public.to_pem()?)
    };
    context.output().print(&Exported { id: key.public.recipient_id(), pem: &pem })?;
    Ok(Exit::Success)
}
