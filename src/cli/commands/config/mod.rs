//! `config`: what the configuration comes to.

mod check;
mod show;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Print the configuration as it holds: flags, variables and file over the defaults
    Show,
    /// Check the configuration, the network file and the bootstrap lists
    Check,
}

pub(in crate::cli) fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Show => show::run(context),
        Command::Check => check::run(context),
    }
}
