//! The arguments that all commands share.

use std::path::PathBuf;

use clap::{Args, Parser};

use crate::cli::commands::Command;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 failure, 2 usage, 3 no node reachable, 4 unhealthy.
Begin with `p2pdb init`, or see it all at work on this machine with `p2pdb demo`.";

/// An encrypted peer-to-peer database: entries that only their recipients can read, on nodes anyone can run.
#[derive(Debug, Parser)]
#[command(name = "p2pdb", version, after_help = AFTER_HELP, max_term_width = 110)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) globals: Globals,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct Globals {
    /// Directory of configuration, keys, tables and data [default: ~/.local/share/p2pdb]
    #[arg(long, global = true, env = "P2PDB_HOME", value_name = "DIR")]
    pub(super) home: Option<PathBuf>,
    /// Configuration file [default: config.toml in the home]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON on stdout, and nothing else
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Log more to stderr; up to three times
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
    /// Log errors only, and show no progress
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(super) quiet: bool,
}
