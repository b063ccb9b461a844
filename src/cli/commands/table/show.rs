//! `table show`: one table.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use super::Description;
use crate::cli::{Exit, context::Context, output::Answer, tables};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Name or id of the table
    table: String,
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
    let table = tables::find(&context.home()?, &args.table)?;
    context.output().print(&Shown {
        description: Description::new(&table.name, &table.card),
        public_key: table.card.table_public.to_pem()?,
    })?;
    Ok(Exit::Success)
}
