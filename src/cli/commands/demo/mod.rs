//! `demo`: everything at work on this machine. Each node is a process of its own, and each outcome is checked.

mod forge;
mod process;
mod story;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Exit, context::Context, format, output::Answer},
    clock::monotonic,
};

/// What came of one step.
#[derive(Serialize)]
struct Step {
    step: &'static str,
    seconds: f64,
    #[serde(flatten)]
    facts: Map<String, Value>,
    #[serde(skip)]
    number: usize,
    #[serde(skip)]
    text: String,
}

impl Answer for Step {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        writeln!(to, "{:>2} {:<10} {}", self.number, self.step, self.text)
    }
}

/// The whole demo, as `--json` prints it.
#[derive(Serialize)]
struct Demo {
    seconds: f64,
    steps: Vec<Step>,
}

impl Answer for Demo {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let time = format::duration(Duration::from_secs_f64(self.seconds));
        writeln!(to, "All {} steps went as they should, in {time}.", self.steps.len())
    }
}

/// Tells each step when it is done.
struct Teller<'a> {
    context: &'a Context,
    steps: Vec<Step>,
    began: Instant,
    last: Instant,
}

impl<'a> Teller<'a> {
    fn new(context: &'a Context) -> Self {
        let began = monotonic();
        Self { context, steps: Vec::new(), began, last: began }
    }

    /// Tells that a step is done: in words for people, and as facts, which must be an object, for programs.
    fn done(&mut self, step: &'static str, text: String, facts: Value) -> Result<()> {
        let Value::Object(facts) = facts else {
            return Err(anyhow!("the facts of {step} are not an object"));
        };
        let now = monotonic();
        let seconds = (now - self.last).as_secs_f64();
        self.last = now;
        let step = Step { step, seconds, facts, number: self.steps.len() + 1, text };
        if !self.context.output().is_json() {
            self.context.output().print_line(&step)?;
        }
        self.steps.push(step);
        Ok(())
    }
}

/// Shows it all.
pub(in crate::cli) fn run(context: &Context) -> Result<Exit> {
    let mut teller = Teller::new(context);
    context.block_on(async {
        let scratch = process::scratch()?;
        // Interrupted or failed, the processes and the directory go all the same: they go when they are dropped.
        tokio::select! {
            biased;
            interrupted = interrupted() => interrupted?,
            told = story::tell(context, scratch.path(), &mut teller) => told.map_err(|error| {
                // In words alone: whoever runs the demo can do nothing about nodes that cannot be reached.
                anyhow!("the demo failed after {}: {error:#}", teller.steps.last().map_or("nothing", |step| step.step))
            })?,
        }
        let path = scratch.path().to_owned();
        scratch.close().with_context(|| format!("cannot remove {}", path.display()))?;
        ensure!(!path.exists(), "{} is still there", path.display());
        let text = "all processes have ended, and their directory is removed".to_owned();
        teller.done("clean", text, serde_json::json!({ "removed": path }))
    })?;
    let seconds = (monotonic() - teller.began).as_secs_f64();
    context.output().print(&Demo { seconds, steps: teller.steps })?;
    Ok(Exit::Success)
}

/// Ends, with an error, when somebody wants the demo to end.
async fn interrupted() -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Err(anyhow!("interrupted"))
}
