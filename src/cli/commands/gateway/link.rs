//! `gateway link`: a link to the daemon's page.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::ask;
use crate::cli::{Exit, context::Context, output::Answer};

#[derive(Serialize, Deserialize)]
struct Link {
    url: String,
}

impl Answer for Link {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{}", self.url)
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let link: Link = ask(&context.home()?, "POST", "/v1/page", Some(&json!({})))?
        .context("the daemon's answer has no link")?;
    context.output().print(&link)?;
    Ok(Exit::Success)
}
