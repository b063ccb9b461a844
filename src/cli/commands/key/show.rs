//! `key show`: one key.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::Description;
use crate::cli::{Exit, context::Context, keyring::Keyring, output::Answer};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name or id of the key
    key: String,
}

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    description: Description,
    public_key: String,
}

impl Answer for Shown {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        self.description.write_text(to)?;
        write!(to, "{}", self.public_key)
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let key = Keyring::new(context.home()?).find(&args.key)?;
    context.output().print(&Shown { description: (&key).into(), public_key: key.public.to_pem()? })?;
    Ok(Exit::Success)
}
