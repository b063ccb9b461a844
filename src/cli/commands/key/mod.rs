//! `key`: the RSA keys of a home.

mod export;
mod import;
mod list;
mod new;
mod show;

use std::io::{self, Write};

use anyhow::Result;
use clap::Subcommand;
use p2pdb_protocol::{id::RecipientId, limits::RSA_BITS};
use serde::Serialize;

use crate::cli::{
    Exit,
    context::Context,
    keyring::{Key, PrivateHalf},
    output::{Answer, write_fields},
};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Make a key
    New(new::Args),
    /// List the keys of this home
    List,
    /// Show a key, with its public half as PEM
    Show(show::Args),
    /// Write the public half of a key to stdout as PEM, or the private one if asked to
    Export(export::Args),
    /// Keep a key from a PEM file: an own private key, or the public key of somebody else
    Import(import::Args),
}

pub(in crate::cli) fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::New(args) => new::run(&args, context),
        Command::List => list::run(context),
        Command::Show(args) => show::run(&args, context),
        Command::Export(args) => export::run(&args, context),
        Command::Import(args) => import::run(&args, context),
    }
}

/// A length of RSA keys that the protocol permits.
pub(in crate::cli) fn bits(text: &str) -> Result<usize, String> {
    let bits = text.parse().ok().filter(|bits: &usize| RSA_BITS.contains(bits) && bits.is_multiple_of(8));
    bits.ok_or_else(|| format!("expected {} to {} bits, a multiple of 8", RSA_BITS.start(), RSA_BITS.end()))
}

/// What is told of a key.
#[derive(Serialize)]
struct Description {
    name: String,
    id: RecipientId,
    bits: usize,
    private: PrivateHalf,
}

impl From<&Key> for Description {
    fn from(key: &Key) -> Self {
        let Key { name, public, private } = key;
        Self { name: name.to_string(), id: public.recipient_id(), bits: public.bits(), private: *private }
    }
}

impl Answer for Description {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(
            to,
            &[
                ("name", self.name.clone()),
                ("id", self.id.to_string()),
                ("key", format!("RSA {} bits, {}", self.bits, self.private.describe())),
            ],
        )
    }
}
