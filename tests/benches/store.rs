//! The store against plain variants, on the same entries in the same run: each in a process of its own, which is killed
//! when the last commit is acknowledged; then another process opens what is left.
//!
//! The entries are made up as they are needed: the store does not verify signatures. The processor time for making them
//! is taken off.

mod plain;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use p2pdb::{
    clock::{Clock, monotonic},
    node::store_file,
    protocol::{
        entry::{self, Entry, Header, WrappedKey},
        id::{EntryId, RecipientId, TableId},
        keys::PublicKey,
        network::Network,
    },
    store::{Committed, NewEntry, Presence, Store, StoreOptions},
};
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::plain::{Append, Naive};
use crate::support::{
    bench::{Bench, Row},
    child,
    data::{network, table_key},
    machine,
    random::Random,
};

/// Entries of a commit.
const BATCH: usize = 1_000;
/// Epochs that the entries are spread over, and that a store with a horizon keeps.
const EPOCHS: u64 = 10;
/// The time at which the first entry arrives, in unix seconds: the begin of an epoch.
const START: u64 = 2_800 * 604_800;
/// Random bytes that the bodies are cut from.
const POOL: usize = 1 << 20;
/// Length of a body: a content of 1 KiB, padded (SPEC 4.5).
const BODY: usize = 1_088;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let count = bench.count(200_000, 2_000);
    let mut rows = Vec::new();
    let mut plain_rate = None;
    for variant in ["append", "naive", "store", "steady"] {
        bench.note(variant);
        let directory = bench.scratch()?;
        let (filled, opened) = in_processes(variant, directory.path(), count)?;
        let rate = filled.entries as f64 / filled.seconds;
        if variant == "naive" {
            plain_rate = Some(rate);
        }
        rows.push(
            Row::new()
                .text("variant", variant)
                .count("entries", filled.entries)
                .number("entries_per_s", rate)
                .maybe("ratio_to_naive", plain_rate.map(|plain| rate / plain))
                .number("cpu_us_per_entry", filled.cpu_seconds * 1e6 / filled.entries as f64)
                .number("write_amplification", filled.written as f64 / filled.bytes as f64)
                .maybe(
                    "disk_amplification",
                    filled.disk_written.map(|written| written as f64 / filled.bytes as f64),
                )
                .number("disk_ratio", machine::disk_of(directory.path())? as f64 / filled.kept_bytes as f64)
                .maybe("memory_mib", filled.memory)
                .number("reopen_ms", opened.milliseconds)
                .maybe("reopened_memory_mib", opened.memory),
        );
    }
    let settings = format!(
        "commits of {BATCH} entries of 1 KiB; append: a file and fdatasync; naive: redb, entries by id and four indexes; \
         steady: the store while {EPOCHS} epochs are kept, the oldest dropped as the next is inserted"
    );
    bench.show(&settings, &rows);
    Ok(())
}

/// What a child says when everything is durable.
#[derive(Debug, Serialize, Deserialize)]
struct Filled {
    entries: u64,
    /// Length of the encoded entries inserted, and of those still kept.
    bytes: u64,
    kept_bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
    /// What the process gave the kernel to be written, and what the disk was given meanwhile, by this process or others.
    written: u64,
    disk_written: Option<u64>,
    memory: Option<f64>,
    /// Ids of the last ones, in hexadecimal.
    last: String,
    kept: u64,
}

/// What a child says that opened what was left.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    /// From the call to open until the last entry is found.
    milliseconds: f64,
    entries: u64,
    memory: Option<f64>,
}

fn in_processes(variant: &str, directory: &Path, count: usize) -> Result<(Filled, Opened)> {
    let path = directory.to_string_lossy();
    let mut filling = child::spawn(&["fill", variant, &path, &count.to_string()])?;
    let filled: Filled = child::answer(&mut filling)?;
    // SIGKILL: nothing is flushed or closed.
    filling.kill()?;
    filling.wait()?;
    let mut opening = child::spawn(&["open", variant, &path, &filled.last])?;
    let opened: Opened = child::answer(&mut opening)?;
    opening.kill()?;
    opening.wait()?;
    ensure!(
        opened.entries == filled.kept,
        "{variant}: {} of {} entries after the kill",
        opened.entries,
        filled.kept
    );
    Ok((filled, opened))
}

/// The part of a child: `fill VARIANT DIRECTORY COUNT` or `open VARIANT DIRECTORY ID`.
pub(crate) fn run_child(task: &[&str]) -> Result<()> {
    match *task {
        ["fill", variant, directory, count] => {
            let (mut target, count) = (Target::new(variant, Path::new(directory))?, count.parse()?);
            let filled = fill(&mut target, Path::new(directory), count)?;
            child::tell(&filled)
        }
        ["open", variant, directory, last] => {
            let mut id = [0; 32];
            for (byte, digits) in id.iter_mut().zip(last.as_bytes().chunks(2)) {
                *byte = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
            }
            let began = monotonic();
            let target = Target::new(variant, Path::new(directory))?;
            let found = target.contains(EntryId::from_bytes(id))?;
            let milliseconds = began.elapsed().as_secs_f64() * 1e3;
            ensure!(found, "the last acknowledged entry is missing");
            child::tell(&Opened { milliseconds, entries: target.entries()?, memory: own_memory() })
        }
        _ => bail!("no such task: {task:?}"),
    }
}

fn own_memory() -> Option<f64> {
    machine::memory_of(std::process::id())
}

fn fill(target: &mut Target, directory: &Path, count: usize) -> Result<Filled> {
    let mut source = Source::new()?;
    let steady = matches!(target, Target::Store { steady: true, .. });
    if steady {
        // Full, with one epoch more than is kept: the next entry makes the first one go. Not measured.
        let epochs = EPOCHS as usize;
        for _ in 0..(count * (epochs + 1) / epochs).div_ceil(BATCH) {
            target.commit(source.batch(count)?)?;
        }
    }
    let (cpu, made, written) = (machine::own_cpu(), source.cpu, machine::written_by(std::process::id())?);
    let disk_written = machine::written_to_disk_of(directory);
    let (bytes, before) = (source.bytes, source.made);
    let began = monotonic();
    // Half of it anew shows the steady state as well.
    let measured = if steady { count / 2 } else { count };
    for _ in 0..measured.div_ceil(BATCH) {
        target.commit(source.batch(count)?)?;
    }
    target.finish()?;
    let seconds = began.elapsed().as_secs_f64()
        - if target.is_plain() { (source.cpu - made).as_secs_f64() } else { 0.0 };
    let cpu = (machine::own_cpu() - cpu).saturating_sub(source.cpu - made);
    let bytes = source.bytes - bytes;
    let entries = (source.made - before) as u64;
    let kept = target.entries()?;
    Ok(Filled {
        entries,
        bytes,
        kept_bytes: bytes / entries * kept,
        seconds,
        cpu_seconds: cpu.as_secs_f64(),
        written: machine::written_by(std::process::id())? - written,
        disk_written: disk_written
            .zip(machine::written_to_disk_of(directory))
            .map(|(before, now)| now - before),
        memory: own_memory(),
        last: source.last.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
        kept,
    })
}

/// Makes entries up.
struct Source {
    network: Network,
    table: PublicKey,
    random: Random,
    pool: Vec<u8>,
    made: usize,
    bytes: u64,
    last: EntryId,
    /// What making them took.
    cpu: Duration,
}

impl Source {
    fn new() -> Result<Self> {
        let table = table_key(2048)?.public_key().clone();
        let mut random = Random::new(1);
        let mut pool = vec![0; POOL];
        random.fill_bytes(&mut pool);
        let last = EntryId::from_bytes([0; 32]);
        Ok(Self {
            network: network().network,
            table,
            random,
            pool,
            made: 0,
            bytes: 0,
            last,
            cpu: Duration::ZERO,
        })
    }

    /// The next entries, of which `per_epochs` fill all epochs that are kept.
    fn batch(&mut self, per_epochs: usize) -> Result<Vec<NewEntry>> {
        let before = machine::thread_cpu();
        let batch = (0..BATCH).map(|_| self.entry(per_epochs)).collect::<Result<_>>()?;
        self.cpu += machine::thread_cpu() - before;
        Ok(batch)
    }

    fn entry(&mut self, per_epochs: usize) -> Result<NewEntry> {
        let start = self.random.below(POOL - BODY);
        let mut body = self.pool.get(start..start + BODY).context("out of the pool")?.to_vec();
        body.splice(..8, (self.made as u64).to_be_bytes());
        let seconds = EPOCHS * self.network.epoch_seconds;
        let header = Header {
            table: self.table.table_id(),
            created: START + self.made as u64 * seconds / per_epochs as u64,
            expires: None,
            recipients: vec![WrappedKey {
                recipient: RecipientId::from_bytes(self.random.bytes()),
                wrapped: self.random.bytes::<256>().to_vec(),
            }],
            body_hash: Sha256::digest(&body).into(),
            body_length: body.len() as u64,
        };
        let encoded: Bytes = entry::encode(&header.encode(), &body, &self.random.bytes::<256>(), &[0; 8]);
        self.made += 1;
        self.bytes += encoded.len() as u64;
        let entry = Entry::from_trusted(encoded, &self.network)?;
        self.last = entry.id();
        Ok(NewEntry { entry, key: self.table.clone() })
    }
}

/// What is written to.
enum Target {
    Append(Append),
    Naive(Naive),
    Store {
        runtime: tokio::runtime::Runtime,
        store: Store,
        table: TableId,
        clock: Clock,
        /// Whether old epochs are dropped.
        steady: bool,
        /// The commit that is under way, so that the writer always has work.
        committing: Option<tokio::task::JoinHandle<Result<(), anyhow::Error>>>,
    },
}

impl Target {
    fn new(variant: &str, directory: &Path) -> Result<Self> {
        let file = directory.join("plain");
        Ok(match variant {
            "append" => Self::Append(Append::open(&file)?),
            "naive" => Self::Naive(Naive::open(&file)?),
            "store" | "steady" => {
                let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
                let network = network().network;
                let steady = variant == "steady";
                let horizon = steady.then_some(EPOCHS * network.epoch_seconds);
                // It stands still where all epochs of the first filling are within the horizon.
                let clock = Clock::manual(START + EPOCHS * network.epoch_seconds);
                let options = StoreOptions { horizon, ..StoreOptions::default() };
                let _within = runtime.enter();
                let store = Store::open(&store_file(directory), network, options, clock.clone())?;
                let table = table_key(2048)?.public_key().table_id();
                drop(_within);
                Self::Store { runtime, store, table, clock, steady, committing: None }
            }
            _ => bail!("no such variant: {variant}"),
        })
    }

    const fn is_plain(&self) -> bool {
        !matches!(self, Self::Store { .. })
    }

    fn commit(&mut self, batch: Vec<NewEntry>) -> Result<()> {
        match self {
            Self::Append(append) => append.commit(&batch),
            Self::Naive(naive) => naive.commit(&batch),
            Self::Store { runtime, store, clock, steady, committing, .. } => {
                let created = batch.last().map_or(0, |new| new.entry.header().created);
                // An epoch begins: the first one kept goes.
                let sweep = *steady && created >= clock.now() + network().network.epoch_seconds;
                if let Some(committing) = committing.take() {
                    runtime.block_on(committing)??;
                }
                if sweep {
                    clock.set(created);
                    runtime.block_on(store.sweep())?;
                }
                let store = store.clone();
                *committing = Some(runtime.spawn(async move {
                    let committed = store.commit(batch).await?;
                    let all = committed.iter().all(|committed| matches!(committed, Committed::Stored { .. }));
                    ensure!(all, "an entry was not stored");
                    Ok(())
                }));
                Ok(())
            }
        }
    }

    /// Everything is durable.
    fn finish(&mut self) -> Result<()> {
        if let Self::Store { runtime, committing, .. } = self
            && let Some(committing) = committing.take()
        {
            runtime.block_on(committing)??;
        }
        Ok(())
    }

    fn contains(&self, id: EntryId) -> Result<bool> {
        match self {
            Self::Append(append) => Ok(append.contains(id)),
            Self::Naive(naive) => naive.contains(id),
            Self::Store { runtime, store, table, .. } => {
                Ok(runtime.block_on(store.known(*table, vec![id]))? == [Presence::Stored])
            }
        }
    }

    fn entries(&self) -> Result<u64> {
        match self {
            Self::Append(append) => Ok(append.entries()),
            Self::Naive(naive) => naive.entries(),
            Self::Store { runtime, store, .. } => Ok(runtime.block_on(store.stats())?.entries),
        }
    }
}
