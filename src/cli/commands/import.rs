//! `import`: takes entries from an export file, through the gate like any others.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use p2pdb_protocol::{
    export::{ExportError, Item, Reader},
    refusal::{Outcome, Refusal},
};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        format, node_config,
        output::{Answer, note, write_fields},
        progress,
    },
    clock::Clock,
    ingest::{Gate, Judgement, Way},
};

/// Entries that go to the gate together.
const BATCH: usize = 512;
/// Batches under way: while one is made durable others are verified, and the next is read.
const BATCHES: usize = 4;
/// Table keys that are remembered from the file; one with more repeats them.
const MAX_KEYS: usize = 1024;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The file, as `p2pdb export` writes it; `-` for stdin
    file: PathBuf,
}

#[derive(Default, Serialize)]
struct Imported {
    entries: u64,
    stored: u64,
    known: u64,
    /// Not wanted here: expired, too old, dropped earlier, or of a table that this node does not mirror.
    skipped: u64,
    refused: u64,
    /// How many by the name of the reason, of those skipped and refused.
    reasons: BTreeMap<&'static str, u64>,
    /// Whether the file was read to its end.
    complete: bool,
}

impl Imported {
    fn count(&mut self, outcome: Outcome) {
        self.entries += 1;
        match outcome {
            Outcome::Stored => self.stored += 1,
            Outcome::Known => self.known += 1,
            Outcome::Refused(refusal) => {
                let is_unwanted = matches!(
                    refusal,
                    Refusal::Dropped | Refusal::Expired | Refusal::BeyondHorizon | Refusal::TableNotMirrored
                );
                *(if is_unwanted { &mut self.skipped } else { &mut self.refused }) += 1;
                *self.reasons.entry(refusal.name()).or_default() += 1;
            }
        }
    }
}

impl Answer for Imported {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let counts = [
            ("entries", self.entries),
            ("stored", self.stored),
            ("known before", self.known),
            ("not wanted", self.skipped),
            ("refused", self.refused),
        ];
        write_fields(to, &counts.map(|(name, count)| (name, format::count(count))))?;
        self.reasons.iter().try_for_each(|(name, count)| writeln!(to, "  {name}: {}", format::count(*count)))
    }
}

pub(in crate::cli) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let config = context.config()?;
    let shown = args.file.display();
    let (input, length): (Box<dyn Read>, u64) = if args.file == Path::new("-") {
        (Box::new(io::stdin()), 0)
    } else {
        let opened = File::open(&args.file).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (length, file) = opened.with_context(|| format!("cannot read {shown}")).hint("check the path")?;
        (Box::new(file), length)
    };
    let bar = progress::bytes(context, "import", length);
    let reader = Reader::new(BufReader::new(bar.wrap_read(input)))
        .with_context(|| format!("cannot import {shown}"))
        .hint("name a file that `p2pdb export` wrote")?;
    let (imported, failure) = context.block_on(async {
        let store = context.new_store()?;
        let network = context.network()?.network;
        let (mirror, max_tables) = (node_config::mirror(&config), node_config::max_tables(&config));
        let gate = Gate::new(store.clone(), network, mirror, max_tables, Clock::system());
        let mut admitting = Admitting { gate, batches: JoinSet::new(), imported: Imported::default() };
        let mut failure = None;
        let (mut keys, mut batch) = (Vec::new(), Vec::with_capacity(BATCH));
        for item in reader {
            match item {
                Ok(Item::TableKey(key)) => {
                    if keys.len() == MAX_KEYS {
                        admitting.push(&mut batch, &keys).await?;
                        keys.clear();
                    }
                    keys.push(Bytes::from(key));
                }
                Ok(Item::Entry(entry)) => batch.push(entry),
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            if batch.len() == BATCH {
                admitting.push(&mut batch, &keys).await?;
                bar.set_message(format::count(admitting.imported.entries));
            }
        }
        admitting.push(&mut batch, &keys).await?;
        let mut imported = admitting.finish().await?;
        imported.complete = failure.is_none();
        store.close().await?;
        Ok((imported, failure))
    })?;
    bar.finish_and_clear();
    context.output().print(&imported)?;
    conclude(&imported, failure)
}

/// What is on its way through the gate, and what was judged.
struct Admitting {
    gate: Gate,
    batches: JoinSet<Vec<Judgement>>,
    imported: Imported,
}

impl Admitting {
    /// Sends a batch through the gate, when there are fewer than [`BATCHES`] under way.
    async fn push(&mut self, batch: &mut Vec<Bytes>, keys: &[Bytes]) -> Result<()> {
        if self.batches.len() >= BATCHES {
            self.count_next().await?;
        }
        let (gate, keys) = (self.gate.clone(), keys.to_vec());
        let entries = std::mem::replace(batch, Vec::with_capacity(BATCH));
        self.batches.spawn(async move { gate.admit_patiently(Way::Import, entries, keys).await });
        Ok(())
    }

    /// Waits for what is under way.
    async fn finish(mut self) -> Result<Imported> {
        while !self.batches.is_empty() {
            self.count_next().await?;
        }
        Ok(self.imported)
    }

    async fn count_next(&mut self) -> Result<()> {
        let Some(judgements) = self.batches.join_next().await else { return Ok(()) };
        judgements?.iter().for_each(|judgement| self.imported.count(judgement.outcome));
        Ok(())
    }
}

/// What was read of a damaged file is good, and stays; that it is damaged is an error all the same.
fn conclude(imported: &Imported, failure: Option<ExportError>) -> Result<Exit> {
    match failure {
        Some(error) => Err(error).hint("what was read before is imported; get the file anew for the rest"),
        None if imported.reasons.contains_key(Refusal::StoreFailed.name()) => {
            note(
                "hint: mend what the store failed for, then import the file again: what is stored by then stays",
            );
            Ok(Exit::Failure)
        }
        None if imported.refused > 0 => {
            note(
                "hint: refused entries are damaged or of another network; the reasons are those of SPEC 6.2",
            );
            Ok(Exit::Failure)
        }
        None => Ok(Exit::Success),
    }
}
