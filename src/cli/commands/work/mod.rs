//! `work`: proof of work.

mod bench;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    /// Measure the hash rate of this machine and tell what an entry costs
    Bench(bench::Args),
}

pub(in crate::cli) fn run(command: Command, context: &Context) -> Result<Exit> {
    match command {
        Command::Bench(args) => bench::run(&args, context),
    }
}
