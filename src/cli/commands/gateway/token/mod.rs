//! `gateway token`: what apps may do.

mod list;
mod new;
mod revoke;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{Exit, context::Context};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a token for an app; one that the app has already stops being valid
    New(new::Args),
    /// List the apps' tokens, without their secrets
    List,
    /// Make an app's token invalid
    Revoke(revoke::Args),
}

pub(super) fn run(command: &Command, context: &Context) -> Result<Exit> {
    match command {
        Command::New(args) => new::run(args, context),
        Command::List => list::run(context),
        Command::Revoke(args) => revoke::run(args, context),
    }
}
