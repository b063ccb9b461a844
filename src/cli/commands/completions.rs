//! `completions`: what a shell needs to complete commands and flags.

use anyhow::Result;
use clap_complete::Shell;

use crate::cli::{Exit, command, context::Context};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The shell
    shell: Shell,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "p2pdb", &mut script);
    context.output().write(&script)?;
    Ok(Exit::Success)
}
