//! Load: many connections to one node, each with several requests at once. See `run` beside this file.

use std::{
    fs,
    process::ExitCode,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libp2p::PeerId;
use p2pdb::{
    client::Client,
    clock::monotonic,
    protocol::{
        codec::bounded::{Blob, List},
        entry::Entry,
        filter::Filter,
        id::EntryId,
        message::{
            Status,
            get::Get,
            put::{Put, PutRequest},
        },
        refusal::{Outcome, Refusal},
    },
    swarm::RequestError,
};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of},
    machine,
    node::{Node, check_index, connect},
    samples::Samples,
};

/// Puts and gets, as many of each, that a connection has under way at once: all together more than the node lets wait, so that
/// it has to refuse some.
const PIPELINE: usize = 4;
/// Of so many connections one follows.
const FOLLOWER: usize = 10;
/// Entries to put. When all are stored they are put again, which is as much work but for the RSA.
const ENTRIES: usize = 6_000;
/// Pause after an answer "busy": a client that asks again at once measures how fast it is refused.
const PAUSE: Duration = Duration::from_millis(20);
/// What the node's memory may grow by after the first third, in MiB, and its descriptors.
const MAX_GROWTH_MIB: f64 = 48.0;
const MAX_DESCRIPTORS: usize = 8;
/// How much longer than in the first half the slowest answers may take in the second, and how long before that counts.
const MAX_SLOWER: u32 = 3;
const NOTICEABLE: Duration = Duration::from_millis(500);

/// Runs it; the status is that of the whole.
pub(crate) fn run(bench: &Bench) -> ExitCode {
    let told = bench.runtime().and_then(|runtime| runtime.block_on(Load::new(bench)?.tell()));
    match told {
        Ok(passed) => {
            println!("\n{passed} passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("\nFAIL {error:#}\n\n0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

/// What all connections share.
#[derive(Default)]
struct Shared {
    entries: Vec<Entry>,
    key: Vec<u8>,
    next: AtomicUsize,
    /// Entries that the node has acknowledged, by their place.
    stored: Mutex<Vec<usize>>,
    stop: AtomicBool,
    busy: AtomicU64,
    refused: AtomicU64,
    followed: AtomicU64,
    puts: Mutex<Samples>,
    gets: Mutex<Samples>,
}

struct Load<'a> {
    bench: &'a Bench,
    data: Dataset,
    _directory: TempDir,
    node: Node,
    shared: Arc<Shared>,
}

/// The node at one time.
struct Look {
    memory: f64,
    descriptors: usize,
    puts: Samples,
    gets: Samples,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Load<'a> {
    fn new(bench: &'a Bench) -> Result<Self> {
        let data = Dataset::new(Spec::of(ENTRIES, 2048))?;
        let directory = bench.scratch()?;
        let node = Node::new(directory.path(), "node", &data.network)?;
        let (entries, key) = (data.entries()?, data.table.public_key().der().to_vec());
        let shared = Arc::new(Shared { entries, key, ..Shared::default() });
        Ok(Self { bench, data, _directory: directory, node, shared })
    }

    async fn tell(mut self) -> Result<usize> {
        let connections = self.bench.connections();
        let limits = [
            ("max_connections", connections + 64),
            ("max_incoming", connections + 32),
            ("max_pending_incoming", connections.max(64)),
        ];
        let limits =
            limits.iter().flat_map(|(key, limit)| ["--set".to_owned(), format!("limits.{key}={limit}")]);
        self.node.start_with(&limits.collect::<Vec<_>>()).await?;
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(connect(&self.data.network, self.node.address()?).await?);
        }
        let mut running = JoinSet::new();
        for (number, (client, peer)) in clients.iter().enumerate() {
            let (client, peer, shared) = (client.clone(), *peer, Arc::clone(&self.shared));
            if number % FOLLOWER == 0 {
                running.spawn(follow(client, self.data.table_id(), shared));
                continue;
            }
            for _ in 0..PIPELINE {
                running.spawn(put(client.clone(), peer, Arc::clone(&shared)));
                running.spawn(get(client.clone(), peer, Arc::clone(&shared)));
            }
        }
        let looks = self.look(self.bench.seconds()).await?;
        self.shared.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = running.join_next().await {
            ended?.context("a client")?;
        }
        for (client, _) in &clients {
            client.stop().await;
        }
        self.judge(connections, looks).await
    }

    /// Looks at the node twelve times.
    async fn look(&mut self, seconds: u64) -> Result<Vec<Look>> {
        let mut looks = Vec::new();
        for _ in 0..12 {
            tokio::time::sleep(Duration::from_millis(seconds * 1000 / 12)).await;
            let pid = self.node.pid()?;
            self.node.status().await.context("a node under load does not answer its operator")?;
            looks.push(Look {
                memory: machine::memory_of(pid).context("no memory")?,
                descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
                puts: std::mem::take(&mut lock(&self.shared.puts)),
                gets: std::mem::take(&mut lock(&self.shared.gets)),
            });
        }
        Ok(looks)
    }

    async fn judge(&mut self, connections: usize, looks: Vec<Look>) -> Result<usize> {
        let shared = Arc::clone(&self.shared);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let third = looks.len() / 3;
        let greatest = |looks: &[Look]| looks.iter().map(|look| look.memory).fold(0.0, f64::max);
        let (warm, rest) = looks.split_at(third);
        let (before, after) = (greatest(warm), greatest(rest));
        let descriptors =
            |looks: &[Look]| looks.iter().map(|look| look.descriptors).max().unwrap_or_default();
        let (open_before, open_after) = (descriptors(warm), descriptors(rest));
        let mut rows = Vec::new();
        let mut halves = Vec::new();
        let middle = looks.len() / 2;
        let (mut puts, mut gets) =
            ([Samples::default(), Samples::default()], [Samples::default(), Samples::default()]);
        for (number, look) in looks.into_iter().enumerate() {
            let half = usize::from(number >= middle);
            puts.get_mut(half).into_iter().for_each(|samples| samples.extend(look.puts.iter().copied()));
            gets.get_mut(half).into_iter().for_each(|samples| samples.extend(look.gets.iter().copied()));
        }
        for (name, [first, second]) in [("put", puts), ("get", gets)] {
            for (half, samples) in [("first", &first), ("second", &second)] {
                rows.push(
                    Row::new()
                        .text("operation", name)
                        .text("half", half)
                        .count("answers", samples.len() as u64)
                        .milliseconds("p50_ms", samples.percentile(50))
                        .milliseconds("p99_ms", samples.percentile(99))
                        .number("memory_mib", if half == "first" { before } else { after })
                        .count("descriptors", if half == "first" { open_before } else { open_after } as u64)
                        .count("busy", count(&shared.busy)),
                );
            }
            ensure!(first.len() > 0 && second.len() > 0, "no answers to {name}");
            halves.push((name, first.percentile(99), second.percentile(99)));
        }
        let stored = lock(&shared.stored).clone();
        let settings = format!(
            "{connections} connections with {PIPELINE} puts and gets each for {} s; {} entries stored, {} handed to followers",
            self.bench.seconds(),
            stored.len(),
            count(&shared.followed)
        );
        self.bench.show_table(&settings, &rows);
        println!();
        self.bench.show_json(&settings, &rows);
        for (name, first, second) in &halves {
            ensure!(
                *second < (*first * MAX_SLOWER).max(NOTICEABLE),
                "p99 of {name}: {first:?}, later {second:?}"
            );
        }
        ensure!(after < before + MAX_GROWTH_MIB, "{after:.0} MiB, after a third of the time {before:.0}");
        ensure!(
            open_after <= open_before + MAX_DESCRIPTORS,
            "{open_after} descriptors, before {open_before}"
        );
        ensure!(
            count(&shared.refused) == 0,
            "{} requests were refused but not as busy",
            count(&shared.refused)
        );
        ensure!(count(&shared.busy) > 0, "the node was never busy: this is no load");
        ensure!(count(&shared.followed) > 0, "followers were told nothing");
        let ids: Vec<EntryId> =
            stored.iter().filter_map(|place| Some(shared.entries.get(*place)?.id())).collect();
        let expected = index_of(ids.into_iter(), &self.data.network.network);
        check_index(&self.data.network, &self.node, self.data.table_id(), &expected).await?;
        self.node.stop()?;
        let verified = self.node.command(&["verify"])?;
        ensure!(verified.get("clean") == Some(&true.into()), "{verified}");
        // Both percentiles, memory, descriptors, refusals, followers, what is stored, and its proof.
        Ok(8)
    }
}

fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Puts one entry after the other.
async fn put(client: Client, peer: PeerId, shared: Arc<Shared>) -> Result<()> {
    while !shared.stop.load(Ordering::Relaxed) {
        let place = shared.next.fetch_add(1, Ordering::Relaxed) % shared.entries.len();
        let entry = shared.entries.get(place).context("no entries")?;
        let request = PutRequest {
            entries: List::try_from(vec![Blob::try_from(entry.encoded().clone())?])?,
            keys: List::try_from(vec![Blob::try_from(shared.key.clone())?])?,
        };
        loop {
            let began = monotonic();
            let answer = client.swarm().request::<Put>(peer, request.clone()).await;
            let outcome =
                answer.map(|answer| answer.outcomes.iter().next().map(|code| Outcome::from_code(*code)));
            match outcome {
                Ok(Some(Outcome::Refused(Refusal::Busy))) => add_one(&shared.busy),
                Ok(Some(outcome)) => {
                    lock(&shared.puts).push(began.elapsed());
                    match outcome {
                        Outcome::Stored => lock(&shared.stored).push(place),
                        Outcome::Known => {}
                        _ => add_one(&shared.refused),
                    }
                    break;
                }
                other => shared.is_busy(other.err())?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Gets what was stored, one entry after the other.
async fn get(client: Client, peer: PeerId, shared: Arc<Shared>) -> Result<()> {
    let mut turn = 0_usize;
    while !shared.stop.load(Ordering::Relaxed) {
        turn += 7;
        let stored = {
            let stored = lock(&shared.stored);
            stored.get(turn % stored.len().max(1)).copied()
        };
        let Some(entry) = stored.and_then(|place| shared.entries.get(place)) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let request = Filter::ids(vec![entry.id()]).to_request()?;
        let began = monotonic();
        match client.swarm().request::<Get>(peer, request).await {
            Ok(answer) => {
                lock(&shared.gets).push(began.elapsed());
                let found = answer.entries.iter().next().context("a stored entry is not found")?;
                ensure!(found.1[..] == entry.encoded()[..], "another entry is found");
            }
            Err(error) => {
                shared.is_busy(Some(error))?;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    Ok(())
}

async fn follow(client: Client, table: p2pdb::protocol::id::TableId, shared: Arc<Shared>) -> Result<()> {
    let mut news = client.follow(Filter::table(table))?;
    while !shared.stop.load(Ordering::Relaxed) {
        if let Ok(Some(_)) = tokio::time::timeout(Duration::from_millis(200), news.next()).await {
            add_one(&shared.followed);
        }
    }
    Ok(())
}

impl Shared {
    /// Counts an answer "busy"; everything else is an error.
    fn is_busy(&self, error: Option<RequestError>) -> Result<()> {
        match error {
            Some(RequestError::Refused { status: Status::Busy, .. }) => {
                add_one(&self.busy);
                Ok(())
            }
            Some(error) => Err(error).context("a request failed"),
            None => anyhow::bail!("an answer without an outcome"),
        }
    }
}
