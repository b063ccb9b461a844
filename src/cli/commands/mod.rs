//! The commands: nouns have a module with one file per verb.

mod compact;
mod completions;
mod config;
mod demo;
mod export;
mod follow;
mod gateway;
mod get;
mod hello;
mod import;
mod index;
mod init;
mod key;
mod man;
mod peers;
mod put;
mod put_records;
mod run;
mod status;
mod table;
mod verify;
mod work;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show it all at work: three nodes on this machine, one entry, nothing left behind
    Demo,
    /// Make the home: configuration, network file and node key
    Init(init::Args),
    /// Run a node
    Run(run::Args),
    /// Ask the node that runs on this home how it is
    Status,
    /// Whom the node that runs on this home is connected with
    #[command(subcommand)]
    Peers(peers::Command),
    /// Keys that read entries and sign as author
    #[command(subcommand)]
    Key(key::Command),
    /// Tables that entries are posted to, and the cards that share them
    #[command(subcommand)]
    Table(table::Command),
    /// Post an entry: seal it, do its proof of work, and put it to several nodes
    Put(put::Args),
    /// Read entries from several nodes
    Get(get::Args),
    /// Print entries as they come in, until interrupted
    Follow(follow::Args),
    /// Run the local daemon for apps, an HTTP API on loopback; let apps in; back up and restore the user
    Gateway(gateway::Args),
    /// Show what a node holds of a table, bucket by bucket
    Index(index::Args),
    /// Show what a node says of itself, and which nodes it knows
    Hello(hello::Args),
    /// Proof of work
    #[command(subcommand)]
    Work(work::Command),
    /// Prove that the store's indexes are its data
    Verify,
    /// Drop what is due, and give back the disk space that the store does not need any more
    Compact,
    /// Write the store's entries to a file
    Export(export::Args),
    /// Take entries from a file, with the checks that entries from strangers get
    Import(import::Args),
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
    // A node and a daemon log what the configuration says.
    if !matches!(command, Command::Run(_) | Command::Gateway(_)) {
        context.start_logging("warn")?;
    }
    match command {
        Command::Demo => demo::run(context),
        Command::Init(args) => init::run(&args, context),
        Command::Run(args) => run::run(&args, context),
        Command::Status => status::run(context),
        Command::Peers(command) => peers::run(command, context),
        Command::Key(command) => key::run(command, context),
        Command::Table(command) => table::run(command, context),
        Command::Put(args) => put::run(&args, context),
        Command::Get(args) => get::run(&args, context),
        Command::Follow(args) => follow::run(&args, context),
        Command::Gateway(args) => gateway::run(&args, context),
        Command::Index(args) => index::run(&args, context),
        Command::Hello(args) => hello::run(&args, context),
        Command::Work(command) => work::run(command, context),
        Command::Verify => verify::run(context),
        Command::Compact => compact::run(context),
        Command::Export(args) => export::run(&args, context),
        Command::Import(args) => import::run(&args, context),
        Command::Config(command) => config::run(command, context),
        Command::Completions(args) => completions::run(&args, context),
        Command::Man(args) => man::run(&args, context),
    }
}
