//! The benchmarks: `tests/benches/run NAME [--entries N] [--json]`. What each measures, and the results, stand in
//! `README.md` beside this file.
//!
//! Without `--bench`, as `cargo test --bench benches` starts it, each runs once with next to nothing to do: that shows that
//! it still works, and measures nothing.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program of a benchmark talks to who runs it"
)]

mod codec;
mod crypto;
mod gateway;
mod get;
mod import;
mod live;
#[path = "../load/load.rs"]
mod load;
mod put;
mod reconcile;
#[path = "../soak/soak.rs"]
mod soak;
mod solver;
mod store;
mod support;
mod sync;
mod warm;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::support::bench::{Arguments, Bench};

/// One benchmark.
type Run = fn(&Bench) -> Result<()>;

const ALL: [(&str, Run); 12] = [
    ("reconcile", reconcile::run),
    ("put", put::run),
    ("get", get::run),
    ("live", live::run),
    ("sync", sync::run),
    ("warm", warm::run),
    ("import", import::run),
    ("store", store::run),
    ("crypto", crypto::run),
    ("codec", codec::run),
    ("solver", solver::run),
    ("gateway", gateway::run),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(task) = &arguments.child {
        let task: Vec<&str> = task.iter().map(String::as_str).collect();
        let done = if let ["serve", bytes] = *task { get::run_child(bytes) } else { store::run_child(&task) };
        return finish(&done.context("in a child process"));
    }
    // Only when it is asked for.
    if arguments.name.as_deref() == Some("soak") {
        return soak::run(&Bench::new("soak", &arguments));
    }
    if arguments.name.as_deref() == Some("load") {
        return load::run(&Bench::new("load", &arguments));
    }
    let chosen: Vec<_> = ALL
        .into_iter()
        .filter(|(name, _)| arguments.name.as_deref().is_none_or(|chosen| chosen == *name))
        .collect();
    if chosen.is_empty() {
        let names = ALL.map(|(name, _)| name).join(", ");
        eprintln!("no benchmark of this name; there are: {names}");
        return ExitCode::from(2);
    }
    let mut failed = 0;
    for (name, run) in &chosen {
        let bench = Bench::new(name, &arguments);
        if let Err(error) = run(&bench) {
            eprintln!("{name} failed: {error:#}");
            failed += 1;
        }
    }
    if arguments.is_test() {
        println!("\n{} passed, {failed} failed", chosen.len() - failed);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn finish(result: &Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
