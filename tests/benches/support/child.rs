//! Parts of a benchmark that are processes of their own: this program, with a task.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Starts a process with a task.
pub(crate) fn spawn(task: &[&str]) -> Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    // It waits for its stdin to end, should this process be gone before it can kill it.
    Ok(command.arg("--child").args(task).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?)
}

/// What a child says.
pub(crate) fn answer<T: for<'de> Deserialize<'de>>(child: &mut Child) -> Result<T> {
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("a child without stdout")?).read_line(&mut line)?;
    serde_json::from_str(&line).context("a child process failed")
}

/// The child's side: says the result and waits to be killed, with everything still open.
pub(crate) fn tell(result: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(result)?);
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}
