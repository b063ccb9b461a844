//! The arguments of a run, and how its results are shown.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};
use tempfile::TempDir;

use super::{data::target_directory, machine};

/// Measures what p2pdb does; see tests/benches/README.md.
#[derive(Debug, clap::Parser)]
#[command(name = "tests/benches/run")]
pub(crate) struct Arguments {
    /// Which benchmark; all of them without
    pub(crate) name: Option<String>,
    /// How large: entries, or ids on each side
    #[arg(long, value_name = "N")]
    entries: Option<usize>,
    /// Length of the table's key, where entries are verified [default: the benchmark's own]
    #[arg(long, value_name = "BITS")]
    bits: Option<usize>,
    /// Warm syncs of the soak
    #[arg(long, value_name = "N", default_value_t = 100)]
    rounds: usize,
    /// Seed of the choices of the soak
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Connections of the load
    #[arg(long, value_name = "N", default_value_t = 100)]
    connections: usize,
    /// How long the load lasts
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// Print one JSON object per row instead of tables
    #[arg(long)]
    json: bool,
    /// Run everything once, tiny: what happens without --bench
    #[arg(long)]
    test: bool,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
    /// A part that a benchmark runs in a process of its own
    #[arg(long, hide = true, value_name = "TASK", num_args = 1..)]
    pub(crate) child: Option<Vec<String>>,
}

impl Arguments {
    /// Whether this only shows that the benchmarks work.
    pub(crate) const fn is_test(&self) -> bool {
        self.test || !self.bench
    }
}

/// One run of one benchmark.
#[derive(Debug)]
pub(crate) struct Bench {
    name: &'static str,
    entries: Option<usize>,
    bits: Option<usize>,
    rounds: usize,
    seed: u64,
    connections: usize,
    seconds: u64,
    json: bool,
    test: bool,
}

impl Bench {
    pub(crate) fn new(name: &'static str, arguments: &Arguments) -> Self {
        let Arguments { entries, bits, rounds, seed, connections, seconds, json, .. } = *arguments;
        Self { name, entries, bits, rounds, seed, connections, seconds, json, test: arguments.is_test() }
    }

    /// How often something is repeated that takes seconds.
    pub(crate) fn rounds(&self) -> usize {
        self.pick(self.rounds, 2)
    }

    /// Where random choices begin.
    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// Connections of the load.
    pub(crate) const fn connections(&self) -> usize {
        self.connections
    }

    /// How long the load lasts, in seconds.
    pub(crate) const fn seconds(&self) -> u64 {
        self.seconds
    }

    /// How many to take: what was asked for, else `default`; few in a test.
    pub(crate) fn count(&self, default: usize, test: usize) -> usize {
        if self.test { test } else { self.entries.unwrap_or(default) }
    }

    /// The one where something is measured, the other in a test.
    pub(crate) fn pick<T>(&self, measured: T, test: T) -> T {
        if self.test { test } else { measured }
    }

    /// The lengths of key to measure with, in bits.
    pub(crate) fn bits(&self, default: &[usize]) -> Vec<usize> {
        match self.bits {
            Some(bits) => vec![bits],
            None if self.test => default.iter().take(1).copied().collect(),
            None => default.to_vec(),
        }
    }

    /// A directory of this run's own on a real disk, which goes when it is dropped.
    pub(crate) fn scratch(&self) -> Result<TempDir> {
        // Short: the path of a node's socket has at most 107 bytes.
        let parent = target_directory().join("tmp");
        fs::create_dir_all(&parent)?;
        tempfile::Builder::new()
            .prefix("bench")
            .tempdir_in(&parent)
            .with_context(|| parent.display().to_string())
    }

    /// The runtime of the clients: as many threads as there are cores.
    pub(crate) fn runtime(&self) -> Result<tokio::runtime::Runtime> {
        Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
    }

    /// Tells what goes on, not where the results go.
    pub(crate) fn note(&self, what: &str) {
        eprintln!("{}: {what}", self.name);
    }

    /// Shows a table of results, with the settings that they depend on.
    pub(crate) fn show(&self, settings: &str, rows: &[Row]) {
        if self.json { self.show_json(settings, rows) } else { self.show_table(settings, rows) }
    }

    pub(crate) fn show_json(&self, settings: &str, rows: &[Row]) {
        let machine = machine::describe();
        for row in rows {
            let mut object = Map::new();
            object.insert("bench".to_owned(), self.name.into());
            object.insert("settings".to_owned(), settings.into());
            object.insert("machine".to_owned(), machine.as_str().into());
            object.extend(row.cells.iter().map(|(name, cell)| ((*name).to_owned(), cell.value())));
            println!("{}", Value::Object(object));
        }
    }

    pub(crate) fn show_table(&self, settings: &str, rows: &[Row]) {
        println!("\n**{}**: {settings}. {}.\n", self.name, machine::describe());
        let Some(first) = rows.first() else { return };
        let line = |cells: Vec<String>| println!("| {} |", cells.join(" | "));
        line(first.cells.iter().map(|(name, _)| name.replace('_', " ")).collect());
        println!("|{}", "---|".repeat(first.cells.len()));
        rows.iter().for_each(|row| line(row.cells.iter().map(|(_, cell)| cell.text()).collect()));
    }
}

/// One line of results: names as in JSON, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Row {
    cells: Vec<(&'static str, Cell)>,
}

#[derive(Debug)]
enum Cell {
    Text(String),
    Count(u64),
    Number(f64),
    None,
}

impl Row {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn text(mut self, name: &'static str, text: impl Into<String>) -> Self {
        self.cells.push((name, Cell::Text(text.into())));
        self
    }

    pub(crate) fn count(mut self, name: &'static str, count: u64) -> Self {
        self.cells.push((name, Cell::Count(count)));
        self
    }

    pub(crate) fn number(mut self, name: &'static str, number: f64) -> Self {
        self.cells.push((name, if number.is_finite() { Cell::Number(number) } else { Cell::None }));
        self
    }

    /// A number that there may not be.
    pub(crate) fn maybe(self, name: &'static str, number: Option<f64>) -> Self {
        self.number(name, number.unwrap_or(f64::NAN))
    }

    pub(crate) fn milliseconds(self, name: &'static str, time: Duration) -> Self {
        self.number(name, time.as_secs_f64() * 1e3)
    }
}

impl Cell {
    fn value(&self) -> Value {
        match self {
            Cell::Text(text) => text.as_str().into(),
            Cell::Count(count) => (*count).into(),
            Cell::Number(number) => self.text().parse().unwrap_or(*number).into(),
            Cell::None => Value::Null,
        }
    }

    /// Three or four digits that mean something.
    fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Count(count) => count.to_string(),
            Cell::Number(number) if number.abs() >= 100.0 => format!("{number:.0}"),
            Cell::Number(number) if number.abs() >= 10.0 => format!("{number:.1}"),
            Cell::Number(number) if number.abs() >= 1.0 => format!("{number:.2}"),
            Cell::Number(number) => format!("{number:.4}"),
            Cell::None => "-".to_owned(),
        }
    }
}
