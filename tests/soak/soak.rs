//! The soak: two nodes with many entries, from the import to the compaction. See `run` beside this file.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use libp2p::PeerId;
use p2pdb::{
    client::Client,
    clock::{Clock, monotonic},
    node::store_file,
    protocol::{
        entry::Entry,
        filter::Filter,
        id::EntryId,
        limits::MAX_GET_IDS,
        message::get::{Get, GetResponse},
    },
    store::{Store, StoreOptions},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    bench::{Bench, Row},
    data::{Dataset, Spec, index_of},
    machine,
    node::{Node, check_index, connect},
    proxy::Proxy,
    random::Random,
    samples::{Samples, cpu_per_thousand, per_second},
};

/// Length of a content, in bytes: small, so that many fit on a disk.
const CONTENT_BYTES: usize = 256;
const READERS: usize = 16;
/// How many entries one node lacks in a warm sync.
const LACKING: [usize; 7] = [0, 0, 1, 3, 10, 30, 100];
/// What is kept at the end: about half of the eight weeks that the entries are of.
const HORIZON_WEEKS: u64 = 4;

/// Runs it; the status is that of the whole.
pub(crate) fn run(bench: &Bench) -> ExitCode {
    let mut soak = match Soak::new(bench) {
        Ok(soak) => soak,
        Err(error) => {
            eprintln!("soak failed: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let told = bench.runtime().and_then(|runtime| runtime.block_on(soak.tell()));
    let settings = format!(
        "{} entries with contents of {CONTENT_BYTES} bytes, RSA-2048, {READERS} readers, one table; seed {}",
        soak.data.spec.entries, soak.seed
    );
    bench.show_table(&settings, &soak.rows);
    println!();
    bench.show_json(&settings, &soak.rows);
    let failed = usize::from(told.is_err());
    if let Err(error) = told {
        println!("\nFAIL {error:#}");
    }
    println!("\n{} passed, {failed} failed", soak.passed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Soak<'a> {
    bench: &'a Bench,
    data: Dataset,
    /// Of both homes.
    _directory: TempDir,
    /// What both nodes hold.
    ids: Vec<EntryId>,
    entry_bytes: u64,
    a: Node,
    b: Node,
    seed: u64,
    random: Random,
    rows: Vec<Row>,
    passed: usize,
}

/// One line of the result; what a step has not is left out.
#[derive(Default)]
struct Step {
    entries: usize,
    time: Duration,
    cpu: Option<Duration>,
    /// Of each repetition.
    each: Option<Samples>,
    bytes: Option<u64>,
    memory: Option<f64>,
    disk_ratio: Option<f64>,
}

impl<'a> Soak<'a> {
    fn new(bench: &'a Bench) -> Result<Self> {
        let entries = bench.count(10_000, 500);
        let data = Dataset::new(Spec {
            entries,
            bits: 2048,
            content_bytes: CONTENT_BYTES,
            readers: bench.pick(READERS, 2),
        })?;
        let directory = bench.scratch()?;
        let a = Node::new(directory.path(), "a", &data.network)?;
        let b = Node::new(directory.path(), "b", &data.network)?;
        let (ids, entry_bytes) = data.ids()?;
        let seed = bench.seed();
        let random = Random::new(seed);
        Ok(Self {
            bench,
            data,
            _directory: directory,
            ids,
            entry_bytes,
            a,
            b,
            seed,
            random,
            rows: Vec::new(),
            passed: 0,
        })
    }

    async fn tell(&mut self) -> Result<()> {
        self.import()?;
        self.cold_sync().await?;
        self.warm_syncs().await?;
        self.queries().await?;
        self.expire().await?;
        self.kill().await?;
        self.verify().await
    }

    fn step(&mut self, name: &str, step: Step) {
        let Step { entries, time, cpu, each, bytes, memory, disk_ratio } = step;
        let milliseconds =
            |percent| each.as_ref().map(|each: &Samples| each.percentile(percent).as_secs_f64() * 1e3);
        self.bench.note(&format!("{name}: {entries} entries in {time:.1?}"));
        self.rows.push(
            Row::new()
                .text("step", name)
                .count("entries", entries as u64)
                .number("seconds", time.as_secs_f64())
                .number("entries_per_s", per_second(entries, time))
                .maybe("cpu_s_per_1000", cpu.map(|cpu| cpu_per_thousand(entries, cpu)))
                .maybe("p50_ms", milliseconds(50))
                .maybe("p99_ms", milliseconds(99))
                .maybe("bytes", bytes.map(|bytes| bytes as f64))
                .maybe("memory_mib", memory)
                .maybe("disk_ratio", disk_ratio),
        );
    }

    fn check(&mut self, holds: bool, what: &str) -> Result<()> {
        ensure!(holds, "{what}");
        self.passed += 1;
        println!("ok   {what}");
        Ok(())
    }

    /// Proves that both nodes hold just what they should.
    async fn check_both(&mut self, when: &str) -> Result<()> {
        let expected = index_of(self.ids.iter().copied(), &self.data.network.network);
        for node in [&self.a, &self.b] {
            check_index(&self.data.network, node, self.data.table_id(), &expected)
                .await
                .context(when.to_owned())?;
        }
        self.check(
            true,
            &format!("{when}, the indexes of both nodes are those of {} entries", self.ids.len()),
        )
    }

    fn import(&mut self) -> Result<()> {
        let began = monotonic();
        let cpu = self.a.import(&self.data.file, self.data.spec.entries)?;
        let time = began.elapsed();
        let disk_ratio = Some(machine::disk_of(&self.a.home.join("store"))? as f64 / self.entry_bytes as f64);
        self.check(true, "every entry of the file is stored")?;
        let entries = self.data.spec.entries;
        self.step("import into A", Step { entries, time, cpu: Some(cpu), disk_ratio, ..Step::default() });
        Ok(())
    }

    async fn cold_sync(&mut self) -> Result<()> {
        self.a.start(&[]).await?;
        let proxy = Proxy::before(self.a.address()?).await?;
        let (before, began) = (self.a.cpu()?, monotonic());
        self.b.start(std::slice::from_ref(&proxy.address)).await?;
        let entries = self.ids.len();
        self.b
            .wait_for_entries(entries, Duration::from_secs(120) + Duration::from_millis(entries as u64))
            .await?;
        let time = began.elapsed();
        let cpu = Some(self.a.cpu()? - before + self.b.cpu()?);
        let memory = machine::memory_of(self.b.pid()?);
        let bytes = Some(proxy.bytes());
        self.step("cold sync of B", Step { entries, time, cpu, bytes, memory, ..Step::default() });
        self.check_both("after the cold sync").await
    }

    /// One node is away while the other gets entries, and comes back; they take turns.
    async fn warm_syncs(&mut self) -> Result<()> {
        let (mut idle, mut lacking) = (Step::default(), Step::default());
        let (mut idle_bytes, mut lacking_bytes) = (Vec::new(), 0);
        let (mut idle_times, mut lacking_times) = (Samples::default(), Samples::default());
        for round in 0..self.bench.rounds() {
            let count = LACKING.get(self.random.below(LACKING.len())).copied().unwrap_or_default();
            let now = Clock::system().now();
            let fresh = self.fresh(count, now, None)?;
            let (up, down) =
                if round % 2 == 0 { (&mut self.a, &mut self.b) } else { (&mut self.b, &mut self.a) };
            down.stop()?;
            put(&self.data, up, &fresh).await?;
            let proxy = Proxy::before(up.address()?).await?;
            let began = monotonic();
            down.start(std::slice::from_ref(&proxy.address)).await?;
            self.ids.extend(fresh.iter().map(Entry::id));
            down.wait_for_entries(self.ids.len(), Duration::from_secs(60)).await?;
            down.wait_for_sync().await?;
            let time = began.elapsed();
            self.passed += 1;
            let bytes = proxy.bytes();
            if count == 0 {
                idle.time += time;
                idle_times.push(time);
                idle_bytes.push(bytes);
            } else {
                lacking.entries += count;
                lacking.time += time;
                lacking_times.push(time);
                let entries: u64 = fresh.iter().map(|entry| entry.encoded().len() as u64).sum();
                lacking_bytes += bytes.saturating_sub(entries);
            }
        }
        idle_bytes.sort_unstable();
        idle.bytes = idle_bytes.get(idle_bytes.len() / 2).copied();
        idle.each = Some(idle_times);
        lacking.bytes = Some(lacking_bytes / lacking_times.len().max(1) as u64);
        lacking.each = Some(lacking_times);
        self.step("warm syncs, nothing lacking (with the restart)", idle);
        self.step("warm syncs (with the restart; bytes without entries, each)", lacking);
        self.check_both("after the warm syncs").await
    }

    /// Entries that were not there before.
    fn fresh(&mut self, count: usize, created: u64, expires: Option<u64>) -> Result<Vec<Entry>> {
        let random = &mut self.random;
        let data = &self.data;
        let mut seal = || {
            let reader = data.readers.get(random.below(data.readers.len())).context("no readers")?;
            data.seal_until(reader, created, expires)
        };
        (0..count).map(|_| seal()).collect()
    }

    async fn queries(&mut self) -> Result<()> {
        let (client, peer) = connect(&self.data.network, self.a.address()?).await?;
        let mut times = Samples::default();
        let queries = self.bench.pick(2_000, 20);
        for _ in 0..queries {
            let id = self.ids.get(self.random.below(self.ids.len())).copied().context("no entries")?;
            let began = monotonic();
            let found = get(&client, peer, Filter::ids(vec![id])).await?;
            times.push(began.elapsed());
            let entry =
                found.entries.into_iter().next().context("an entry is not found by its id")?.1.into_inner();
            ensure!(
                Entry::from_trusted(entry, &self.data.network.network)?.id() == id,
                "another entry is found"
            );
        }
        let time = times.iter().sum();
        let step = Step { entries: queries, time, each: Some(times), ..Step::default() };
        self.step("get by id, one after the other", step);
        self.check(true, "every entry that is asked for by its id is found")?;

        let mut times = Samples::default();
        let mut values = 0;
        for reader in self.data.readers.clone() {
            let recipient = reader.recipient_id();
            let began = monotonic();
            let found = get(&client, peer, Filter { limit: 100, ..Filter::recipient(recipient) }).await?;
            times.push(began.elapsed());
            for (_, entry) in found.entries {
                let entry = Entry::from_trusted(entry.into_inner(), &self.data.network.network)?;
                let is_his = entry.header().recipients.iter().any(|key| key.recipient == recipient);
                ensure!(is_his, "an entry of somebody else is found");
                values += 1;
            }
        }
        client.stop().await;
        let time = times.iter().sum();
        let step = Step { entries: values, time, each: Some(times), ..Step::default() };
        self.step("get of 100 by recipient", step);
        self.check(values >= self.data.spec.entries.min(100), "what recipients ask for is theirs")
    }

    /// What expires goes, and what is beyond a new horizon goes in whole epochs.
    async fn expire(&mut self) -> Result<()> {
        let network = self.data.network.network.clone();
        let expiring = self.data.spec.entries.clamp(10, 10_000) / 10;
        let expires = Clock::system().now() + 5;
        let fresh = self.fresh(expiring, expires - 10, Some(expires))?;
        put(&self.data, &self.a, &fresh).await?;
        self.a.stop()?;
        self.b.stop()?;
        while Clock::system().now() < expires {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let now = Clock::system().now();
        let horizon = network.epoch(now - HORIZON_WEEKS * 604_800) * network.epoch_seconds;
        let mut kept = 0;
        self.data.read(|entry| kept += usize::from(entry.header().created >= horizon))?;
        // All of those are new.
        kept += self.ids.len() - self.data.spec.entries;
        let before = self.ids.len() + expiring;
        let began = monotonic();
        self.a.start_with(&["--set".to_owned(), format!("limits.horizon={HORIZON_WEEKS} weeks")]).await?;
        self.a.wait_for_entries_at_most(kept, Duration::from_secs(600)).await?;
        let time = began.elapsed();
        let left = self.a.entries().await?;
        let step = Step { entries: before - kept, time, cpu: Some(self.a.cpu()?), ..Step::default() };
        self.step("expiry at A, of weeks and one by one", step);
        self.check(
            left == kept as u64,
            &format!("{kept} of {before} entries are left at A, not more and not less"),
        )?;
        self.b.start(&[]).await?;
        self.b.wait_for_entries_at_most(self.ids.len(), Duration::from_secs(60)).await?;
        let left = self.b.entries().await?;
        self.check(left == self.ids.len() as u64, "at B only what expired is gone")
    }

    /// B is killed while it takes entries: what it acknowledged is there when it is back.
    async fn kill(&mut self) -> Result<()> {
        let count = self.data.spec.entries.clamp(100, 5_000);
        let fresh = self.fresh(count, Clock::system().now(), None)?;
        let acknowledged: Arc<Mutex<Vec<EntryId>>> = Arc::default();
        let (client, peer) = connect(&self.data.network, self.b.address()?).await?;
        let putting = {
            let (client, key, noted) =
                (client.clone(), self.data.table.public_key().clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for chunk in fresh.chunks(8) {
                    // It fails when the node is killed.
                    let Ok(outcomes) = client.put_to(peer, chunk, &key).await else { return };
                    let held = chunk.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_held());
                    noted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .extend(held.map(|(entry, _)| entry.id()));
                }
            })
        };
        let noted = || acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
        while noted() < count / 3 {
            ensure!(!putting.is_finished(), "only {} entries were acknowledged", noted());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        self.b.kill()?;
        putting.await?;
        client.stop().await;
        let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
        let began = monotonic();
        self.b.start(&[]).await?;
        let (client, peer) = connect(&self.data.network, self.b.address()?).await?;
        let last = acknowledged.last().copied().context("nothing was acknowledged")?;
        let first = get(&client, peer, Filter::ids(vec![last])).await?;
        let time = began.elapsed();
        let memory = machine::memory_of(self.b.pid()?);
        ensure!(!first.entries.is_empty(), "the last acknowledged entry is lost");
        self.step("B answers again after kill -9", Step { time, memory, ..Step::default() });
        let mut found = 0;
        for ids in acknowledged.chunks(MAX_GET_IDS.min(500)) {
            found +=
                get(&client, peer, Filter { limit: 1000, ..Filter::ids(ids.to_vec()) }).await?.entries.len();
        }
        client.stop().await;
        let count = acknowledged.len();
        self.check(
            found == count,
            &format!("{found} of {count} acknowledged entries are there after kill -9"),
        )
    }

    async fn verify(&mut self) -> Result<()> {
        self.a.stop()?;
        self.b.stop()?;
        for name in ["A", "B"] {
            let node = if name == "A" { &self.a } else { &self.b };
            let began = monotonic();
            let report = node.command(&["verify"])?;
            let time = began.elapsed();
            let entries = report.get("entries").and_then(Value::as_u64).unwrap_or_default();
            self.step(
                &format!("verify {name}"),
                Step { entries: usize::try_from(entries)?, time, ..Step::default() },
            );
            let clean = report.get("clean") == Some(&Value::Bool(true));
            self.check(clean, &format!("the store of {name} is clean: {report}"))?;
        }
        let path = store_file(&self.a.home.join("store"));
        let store =
            Store::open(&path, self.data.network.network.clone(), StoreOptions::default(), Clock::system())?;
        let began = monotonic();
        store.compact().await?;
        let time = began.elapsed();
        let stats = store.stats().await?;
        store.close().await?;
        let entries = usize::try_from(stats.entries)?;
        let disk_ratio = Some(machine::disk_of(&self.a.home.join("store"))? as f64 / stats.bytes as f64);
        self.step("compact A", Step { entries, time, disk_ratio, ..Step::default() });
        self.check(entries > 0, "the store of A is there after it was compacted")
    }
}

async fn get(client: &Client, peer: PeerId, filter: Filter) -> Result<GetResponse> {
    Ok(client.swarm().request::<Get>(peer, filter.to_request()?).await?)
}

/// Puts entries, all of which have to be held afterwards.
async fn put(data: &Dataset, node: &Node, entries: &[Entry]) -> Result<()> {
    let (client, peer) = connect(&data.network, node.address()?).await?;
    for chunk in entries.chunks(64) {
        let outcomes = client.put_to(peer, chunk, data.table.public_key()).await?;
        ensure!(outcomes.iter().all(|outcome| outcome.is_held()), "a put was answered {outcomes:?}");
    }
    client.stop().await;
    Ok(())
}
