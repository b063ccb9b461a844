//! `gateway token list`: the apps that were let in.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::super::ask::ask;
use crate::cli::{
    Exit,
    context::Context,
    format,
    output::{Answer, write_table},
};

#[derive(Serialize, Deserialize)]
struct List {
    tokens: Vec<Token>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    name: String,
    spaces: Vec<String>,
    may: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<String>,
    created: u64,
}

impl Answer for List {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |token: &Token| {
            let (spaces, may) = (token.spaces.join(","), token.may.join(","));
            [
                token.name.clone(),
                spaces,
                may,
                token.origin.clone().unwrap_or_default(),
                format::time(token.created),
            ]
        };
        let rows: Vec<_> = self.tokens.iter().map(row).collect();
        let none = "no app has a token; make one with `p2pdb gateway token new APP --space NAME --may get`";
        write_table(to, ["APP", "SPACES", "MAY", "ORIGIN", "MADE"], &rows, none)
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let list: List =
        ask(&context.home()?, "GET", "/v1/tokens", None)?.context("the daemon's answer has no tokens")?;
    context.output().print(&list)?;
    Ok(Exit::Success)
}
