//! `gateway token new`: lets an app in.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::super::ask::ask;
use crate::{
    cli::{
        Exit,
        context::Context,
        output::{Answer, note},
    },
    config::home::{self, Overwrite},
};

#[derive(Debug, clap::Args)]
pub(in super::super) struct Args {
    /// What the app is called
    name: String,
    /// A space that it is for; may be repeated
    #[arg(long = "space", value_name = "NAME")]
    spaces: Vec<String>,
    /// What it may do there; may be repeated
    #[arg(long, value_enum, value_name = "WHAT", required = true)]
    may: Vec<May>,
    /// The origin whose login challenges may be answered, as in http://localhost:5000; needed for login
    #[arg(long, value_name = "ORIGIN", required_if_eq("may", "login"))]
    origin: Option<String>,
    /// Write the token to this file, which only you can read, instead of stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

/// What a token permits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
enum May {
    /// Read entries, indexes and changes
    Get,
    /// Post entries, and look after their jobs
    Put,
    /// Sign entries as their author
    Sign,
    /// Answer the login challenges of its origin
    Login,
}

#[derive(Serialize, Deserialize)]
struct Made {
    name: String,
    token: String,
}

impl Answer for Made {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{}", self.token)
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let Args { name, spaces, may, origin, to } = args;
    let body = json!({"name": name, "spaces": spaces, "may": may, "origin": origin});
    let made: Made = ask(&context.home()?, "POST", "/v1/tokens", Some(&body))?
        .context("the daemon's answer has no token")?;
    match to {
        Some(file) => {
            home::write_secret(file, format!("{}\n", made.token).as_bytes(), Overwrite::Yes)?;
            note(&format!("the token of {name} is in {}", file.display()));
        }
        None => {
            context.output().print(&made)?;
            note(&format!("this is the token of {name}; it is not shown again"));
        }
    }
    Ok(Exit::Success)
}
