//! `put --records`: an entry of each record of a text, with everything at work at once: records are read while others are
//! sealed and worked for on all cores, and batches are under way to the nodes meanwhile.

mod delivery;
mod input;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, Write},
    num::NonZeroUsize,
    path::Path,
    pin::Pin,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures::{Stream, StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use libp2p::PeerId;
use p2pdb_protocol::{
    entry::Entry,
    id::TableId,
    keys::{PrivateKey, PublicKey},
    limits::MAX_PUT_ENTRIES,
    network::Network,
    pow::Solver,
    refusal::{Outcome, Refusal},
    seal::{Content, Draft, SealError},
};
use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use self::{
    delivery::{Delivered, Delivery},
    input::Records,
};
use crate::{
    cli::{
        Exit,
        context::{Context, rng},
        failure::Advise as _,
        format,
        output::{Answer, note, write_fields},
        progress,
    },
    client::Client,
    clock::{Clock, monotonic},
};

/// Records that are read ahead of the work.
const READ_AHEAD: usize = 64;
/// Bytes of entries in one request, with room for what is around them (SPEC 8.1).
const BATCH_BYTES: usize = 900 << 10;
/// A batch does not wait longer for further entries: work may take a minute for each.
const BATCH_WAIT: Duration = Duration::from_secs(2);
/// Batches that are under way at the same time.
const BATCHES: usize = 3;

/// What all entries have in common.
pub(super) struct Maker {
    pub(super) network: Network,
    pub(super) table: PrivateKey,
    pub(super) recipients: Vec<PublicKey>,
    pub(super) author: Option<PrivateKey>,
    pub(super) media_type: String,
    /// After how many seconds nodes may drop them.
    pub(super) expires_after: Option<u64>,
}

impl Maker {
    /// The entry of one record, sealed and worked for on one core; the refusal if no node would take it.
    fn make(&self, data: Vec<u8>) -> Result<Result<Entry, Refusal>> {
        let created = Clock::system().now();
        let draft = Draft {
            table: &self.table,
            recipients: &self.recipients,
            created,
            expires: self.expires_after.map(|seconds| created.saturating_add(seconds)),
            content: &Content { media_type: self.media_type.clone(), data },
            author: self.author.as_ref(),
        };
        let sealed = match draft.seal(&mut rng(), &self.network) {
            Err(SealError::TooLarge { .. }) => return Ok(Err(Refusal::TooLarge)),
            sealed => sealed?,
        };
        let solver = Solver::new(sealed.puzzle(&self.network));
        let work = solver.solve(NonZeroUsize::MIN, &AtomicBool::new(false), &|_| {})?;
        Ok(Ok(sealed.finish(&work, &self.network)?))
    }
}

/// The entry of one record, or why there is none.
struct Made {
    entry: Result<Entry, Refusal>,
    record_bytes: u64,
}

/// What became of all records.
#[derive(Default, Serialize)]
struct Summary {
    table: Option<TableId>,
    nodes: Vec<String>,
    records: u64,
    stored: u64,
    known: u64,
    refused: BTreeMap<&'static str, u64>,
    record_bytes: u64,
    entry_bytes: u64,
    requests: u64,
    retries: u64,
    seconds: f64,
    entries_per_second: f64,
}

impl Summary {
    fn count(&mut self, outcome: Outcome) {
        self.records += 1;
        match outcome {
            Outcome::Stored => self.stored += 1,
            Outcome::Known => self.known += 1,
            Outcome::Refused(refusal) => *self.refused.entry(refusal.name()).or_default() += 1,
        }
    }
}

impl Answer for Summary {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let reasons =
            self.refused.iter().map(|(reason, count)| format!("{} {reason}", format::count(*count)));
        let refused = reasons.collect::<Vec<_>>().join(", ");
        let time = format::duration(Duration::from_secs_f64(self.seconds));
        let (requests, retries) = (format::count(self.requests), format::count(self.retries));
        write_fields(
            to,
            &[
                ("records", format!("{}, {}", format::count(self.records), format::bytes(self.record_bytes))),
                ("stored", format::count(self.stored)),
                ("known already", format::count(self.known)),
                ("refused", if refused.is_empty() { "none".to_owned() } else { refused }),
                (
                    "entries",
                    format!("{}, in {requests} requests, {retries} again", format::bytes(self.entry_bytes)),
                ),
                ("rate", format!("{:.0} entries/s, {time}", self.entries_per_second)),
            ],
        )
    }
}

/// Where the outcomes are noted.
struct Ledger<'a> {
    summary: Summary,
    acknowledged: Option<(&'a Path, File)>,
    bar: ProgressBar,
}

impl Ledger<'_> {
    /// Notes what became of a batch: ids of what is held are written before the next batch is noted.
    fn note(&mut self, batch: &Batch, delivered: &Delivered) -> Result<()> {
        let mut ids = String::new();
        for (entry, outcome) in batch.entries.iter().zip(&delivered.outcomes) {
            self.summary.count(*outcome);
            self.summary.entry_bytes += entry.encoded().len() as u64;
            if outcome.is_held() {
                ids.push_str(&format!("{}\n", entry.id()));
            }
        }
        for refusal in &batch.refused {
            self.summary.count(Outcome::Refused(*refusal));
        }
        if let Some((path, file)) = &mut self.acknowledged {
            file.write_all(ids.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
        }
        self.summary.record_bytes += batch.record_bytes;
        self.summary.requests += u64::from(!batch.entries.is_empty());
        self.summary.retries += delivered.retries;
        self.bar.inc(batch.record_bytes);
        self.bar.set_message(format::count(self.summary.stored + self.summary.known));
        Ok(())
    }
}

/// What is to be put, and where.
pub(super) struct Job<'a> {
    pub(super) context: &'a Context,
    pub(super) client: &'a Client,
    pub(super) nodes: &'a [PeerId],
    pub(super) maker: Maker,
    /// The file of records; `-` is standard input.
    pub(super) records: &'a Path,
    /// Where ids are appended once a node has stored the entry durably.
    pub(super) acknowledged: Option<&'a Path>,
    /// Most entries that the nodes take at a time.
    pub(super) most: usize,
}

/// Puts all records, and prints what became of them.
pub(super) async fn put(job: Job<'_>) -> Result<Exit> {
    let Job { context, client, nodes, maker, records, acknowledged, most } = job;
    let (input, length) = open(records)?;
    let acknowledged = match acknowledged {
        Some(path) => Some((path, append(path)?)),
        None => None,
    };
    let table = maker.table.public_key().clone();
    let bar = progress::bytes(context, "put", length.unwrap_or_default());
    let mut ledger = Ledger {
        summary: Summary {
            table: Some(table.table_id()),
            nodes: nodes.iter().map(ToString::to_string).collect(),
            ..Summary::default()
        },
        acknowledged,
        bar: bar.clone(),
    };
    let began = monotonic();
    let delivery = Delivery { client, nodes, table: &table };
    let growing = length.is_none().then_some(bar);
    let result = batches(make_all(input, Arc::new(maker), growing), most.clamp(1, MAX_PUT_ENTRIES))
        .map_ok(|batch| async {
            let delivered = if batch.entries.is_empty() {
                Delivered { outcomes: Vec::new(), retries: 0 }
            } else {
                delivery.deliver(&batch.entries).await?
            };
            Ok((batch, delivered))
        })
        .try_buffer_unordered(BATCHES)
        .try_for_each(|(batch, delivered)| std::future::ready(ledger.note(&batch, &delivered)))
        .await;
    ledger.bar.finish_and_clear();
    let mut summary = ledger.summary;
    summary.seconds = began.elapsed().as_secs_f64();
    summary.entries_per_second = (summary.stored + summary.known) as f64 / summary.seconds;
    if result.is_err() {
        note(&format!(
            "put {} of the records before it failed",
            format::count(summary.stored + summary.known)
        ));
    }
    result?;
    context.output().print(&summary)?;
    Ok(if summary.refused.is_empty() { Exit::Success } else { Exit::Failure })
}

/// The records, and how many bytes they are if that is known.
fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::BufReader::new(io::stdin())), None));
    }
    let failed = || format!("cannot read the records in {}", path.display());
    let file = File::open(path).with_context(failed).hint("check the path and its permissions")?;
    let metadata = file.metadata().with_context(failed)?;
    let length = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(io::BufReader::new(file)), length))
}

fn append(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))
        .hint("name a file that you may write to")
}

/// Makes the entries of all records on all cores, in no particular order.
fn make_all(
    input: Box<dyn BufRead + Send>,
    maker: Arc<Maker>,
    growing: Option<ProgressBar>,
) -> impl Stream<Item = Result<Made>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    // Reading may wait for a person.
    tokio::task::spawn_blocking(move || {
        for record in Records::new(input) {
            if let (Some(bar), Ok(record)) = (&growing, &record) {
                bar.inc_length(record.len() as u64);
            }
            if sender.blocking_send(record).is_err() {
                // Nobody wants more.
                return;
            }
        }
    });
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)))
        .map(move |record| {
            let maker = Arc::clone(&maker);
            async move {
                let record = record.context("cannot read the records")?;
                let record_bytes = record.len() as u64;
                let entry = tokio::task::spawn_blocking(move || maker.make(record)).await??;
                Ok(Made { entry, record_bytes })
            }
        })
        .buffer_unordered(cores)
}

/// Entries that go into one request, and what was refused beforehand.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    refused: Vec<Refusal>,
    bytes: usize,
    record_bytes: u64,
}

impl Batch {
    fn add(&mut self, made: Made) {
        self.record_bytes += made.record_bytes;
        match made.entry {
            Ok(entry) => {
                self.bytes += entry.encoded().len();
                self.entries.push(entry);
            }
            Err(refusal) => self.refused.push(refusal),
        }
    }

    fn has_room(&self, made: &Made, most: usize) -> bool {
        let bytes = made.entry.as_ref().map_or(0, |entry| entry.encoded().len());
        self.entries.len() < most && self.bytes + bytes <= BATCH_BYTES
    }
}

/// Gathers entries to batches of at most `most`.
fn batches(made: impl Stream<Item = Result<Made>>, most: usize) -> impl Stream<Item = Result<Batch>> {
    let state = Gathering { made: Box::pin(made), carried: None };
    stream::try_unfold(state, move |mut state| async move {
        let batch = state.next(most).await?;
        Ok(batch.map(|batch| (batch, state)))
    })
}

struct Gathering<S> {
    made: Pin<Box<S>>,
    /// What did not fit into the last batch.
    carried: Option<Made>,
}

impl<S: Stream<Item = Result<Made>>> Gathering<S> {
    async fn next(&mut self, most: usize) -> Result<Option<Batch>> {
        let first = match self.carried.take() {
            Some(first) => Some(first),
            None => self.made.try_next().await?,
        };
        let Some(first) = first else { return Ok(None) };
        let mut batch = Batch::default();
        batch.add(first);
        let deadline = Instant::now() + BATCH_WAIT;
        while let Ok(next) = tokio::time::timeout_at(deadline, self.made.try_next()).await {
            let Some(next) = next? else { break };
            if !batch.has_room(&next, most) {
                self.carried = Some(next);
                break;
            }
            batch.add(next);
        }
        Ok(Some(batch))
    }
}
