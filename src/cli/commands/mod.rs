//! The commands: nouns have a module with one file per verb.

mod completions;
mod config;
mod init;
mod key;
mod man;
mod table;
mod work;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make the home: configuration, network file and node key
    Init(init::Args),
    /// Keys that read entries and sign as author
    #[command(subcommand)]
    Key(key::Command),
    /// Tables that entries are posted to, and the cards that share them
    #[command(subcommand)]
    Table(table::Command),
    /// Proof of work
    #[command(subcommand)]
    Work(work::Command),
    /// The configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Write completions for a shell to stdout
    Completions(completions::Args),
    /// Write manual pages
    Man(man::Args),
}

/// Runs a command.
pub(super) fn run(command: Command, context: &Context) -> Result<Exit> {
    context.start_logging("warn")?;
    match command {
        Command::Init(args) => init::run(&args, context),
        Command::Key(command) => key::run(command, context),
        Command::Table(command) => table::run(command, context),
        Command::Work(command) => work::run(command, context),
        Command::Config(command) => config::run(command, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Man(args) => man::run(&args, context),
    }
}
