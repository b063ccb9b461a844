//! `gateway login`: answers the login challenge of an app that runs somewhere else.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::ask::ask;
use crate::cli::{Exit, context::Context, output::Answer};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Name or id of the own key to log in with
    key: String,
    /// The challenge, as the app shows it
    challenge: String,
    /// Where you see the app, as in https://forum.example: a challenge that was made for somewhere else is not answered
    #[arg(long, value_name = "ORIGIN")]
    origin: String,
}

#[derive(Serialize, Deserialize)]
struct Login {
    key: String,
    answer: String,
}

impl Answer for Login {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{}", self.answer)
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let Args { key, challenge, origin } = args;
    let body = json!({"key": key, "challenge": challenge, "origin": origin});
    let login: Login =
        ask(&context.home()?, "POST", "/v1/login", Some(&body))?.context("the daemon's answer is empty")?;
    context.output().print(&login)?;
    Ok(Exit::Success)
}
