//! `config show`: the configuration as it holds.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::{Exit, context::Context, output::Answer},
    config::Config,
};

#[derive(Serialize)]
#[serde(transparent)]
struct Shown(Config);

impl Answer for Shown {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let text = toml::to_string(&self.0).map_err(io::Error::other)?;
        to.write_all(text.as_bytes())
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    context.output().print(&Shown(context.config()?))?;
    Ok(Exit::Success)
}
