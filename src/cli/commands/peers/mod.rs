//! `peers`: whom the node that runs on this home is connected with.

mod add;
mod ban;
mod list;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// List the connected peers
    List,
    /// Connect to a node
    Add(add::Args),
    /// Close the connections with a peer and keep it away
    Ban(ban::Args),
}

pub(in crate::cli) fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::List => list::run(context),
        Command::Add(args) => add::run(&args, context),
        Command::Ban(args) => ban::run(&args, context),
    }
}
