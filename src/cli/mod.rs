//! The command line: one file per command below `commands`.
//!
//! Data goes to stdout, everything else to stderr. With `--json` stdout holds JSON and nothing else. The exit codes are
//! those of [`Exit`]; after an error a `hint:` line says what to do about it. No secret is ever taken from an argument.

mod args;
mod commands;
mod context;
mod entries;
mod failure;
mod filter;
mod format;
mod keyring;
mod node_config;
mod output;
mod passphrase;
mod posting;
mod progress;
mod reach;
mod tables;

use std::process::ExitCode;

use clap::Parser as _;

pub use self::failure::Exit;
use self::{args::Cli, context::Context};

/// The description of the whole command line, for completions, manual pages and other programs.
#[must_use]
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Runs the command that the arguments of this process name.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { globals, command } = Cli::parse();
    let context = Context::new(globals);
    match commands::run(command, &context) {
        Ok(exit) => exit,
        Err(error) => failure::report(&error),
    }
    .into()
}
