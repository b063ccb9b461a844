//! `man`: the manual pages.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::cli::{Exit, command, context::Context, failure::Advise as _, output::note};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Write the pages of all commands into this directory, instead of the first one to stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let Some(directory) = &args.out else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).render(&mut page)?;
        context.output().write(&page)?;
        return Ok(Exit::Success);
    };
    let write = || {
        fs::create_dir_all(directory)?;
        clap_mangen::generate_to(command(), directory)
    };
    write()
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
        .hint("choose a directory that you may write to")?;
    note(&format!("wrote the pages to {}; read one with `man -l {0}/p2pdb.1`", directory.display()));
    Ok(Exit::Success)
}
