//! The store in figures, by hand and in release:
//! `SCALE=1000000 cargo test --release --lib store::tests::scale -- --ignored --nocapture`.
//!
//! `SCALE` entries with a content of 1 KiB, to recipients of whom each has 100, in commits of 1,000; the time for making them
//! is left out. Then as many again, of which each takes the place of one that expires; durable commits of one entry each;
//! queries for what 4 readers got since some time; a copy as a kill leaves it, opened.

use std::time::Instant;

use super::{query::copy, *};

const BATCH: u64 = 1000;
const MADE: u64 = 10_000;

fn entries(first: u64, count: u64, all: u64, now: u64) -> Vec<Vec<NewEntry>> {
    let make = |seed: u64| {
        let draft =
            Draft { seed, length: 1088, created: now, expires: Some(now + all / BATCH), ..Draft::default() };
        let recipient = Sha256::digest((seed % (all / 100).max(1)).to_be_bytes()).into();
        NewEntry { entry: draft.to_all(vec![RecipientId::from_bytes(recipient)]), key: key(0) }
    };
    std::thread::scope(|scope| {
        let half = count / BATCH / 2 * BATCH;
        let part = |from: u64, to: u64| {
            let batches = (from..to).step_by(BATCH as usize);
            batches.map(|from| (from..from + BATCH).map(make).collect()).collect::<Vec<Vec<_>>>()
        };
        let first_half = scope.spawn(move || part(first, first + half));
        let mut all = Vec::new();
        let second = part(first + half, first + count);
        all.extend(first_half.join().unwrap());
        all.extend(second);
        all
    })
}

/// Processor time of the threads of the store so far, in seconds: writer, merger.
fn processor() -> [f64; 2] {
    let mut times = [0.0; 2];
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let fields: Vec<_> = stat.split_whitespace().collect();
        let thread = ["(store-writer)", "(store-merger)"].iter().position(|name| *name == fields[1]);
        if let Some(thread) = thread {
            times[thread] = (fields[13].parse::<f64>().unwrap() + fields[14].parse::<f64>().unwrap()) / 100.0;
        }
    }
    times
}

/// Bytes that this process has given to the kernel to be written, and its resident memory in MB.
fn process() -> (u64, u64) {
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    (field("/proc/self/io", "wchar:"), field("/proc/self/status", "VmRSS:") / 1024)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "measures"]
async fn in_figures() {
    let all: u64 = std::env::var("SCALE").map_or(20_000, |scale| scale.parse().unwrap());
    let directory =
        tempfile::tempdir_in(std::env::var_os("SCALE_DIRECTORY").unwrap_or("/tmp".into())).unwrap();
    let path = directory.path().join("store");
    let clock = Clock::manual(START);
    let options =
        StoreOptions { cache_bytes: 256 << 20, max_dropped: 100_000_000, ..StoreOptions::default() };
    let store = open(&path, options.clone(), &clock).unwrap();
    for phase in ["insert", "steady"] {
        let before = processor();
        let (mut took, mut slowest, mut bytes, written, mut peak) = (0.0, 0.0f64, 0, process().0, 0);
        let first = if phase == "insert" { 0 } else { all };
        for made in (0..all).step_by(MADE as usize) {
            let batches = entries(first + made, MADE.min(all - made), all, clock.now());
            bytes += batches.iter().flatten().map(|new| new.entry.encoded().len() as u64).sum::<u64>();
            let second = clock.now();
            for (index, batch) in batches.into_iter().enumerate() {
                clock.set(second + index as u64);
                let begun = Instant::now();
                store.commit(batch).await.unwrap();
                let elapsed = begun.elapsed().as_secs_f64();
                took += elapsed;
                slowest = slowest.max(elapsed);
            }
            clock.set(second + MADE / BATCH);
            peak = peak.max(process().1);
        }
        let begun = Instant::now();
        if phase == "steady" {
            println!("swept {:?}", store.sweep().await.unwrap());
        }
        store.merge().await.unwrap();
        took += begun.elapsed().as_secs_f64();
        let stats = store.stats().await.unwrap();
        let [writer, merger] = [0, 1].map(|thread| (processor()[thread] - before[thread]) * 1e6 / all as f64);
        println!("{phase}: processor time per entry: writer {writer:.1} us, merger {merger:.1} us");
        println!(
            "{phase}: {:.0} entries/s, slowest commit {:.0} ms, WA {:.2}, disk/entries {:.2} ({} of {} dropped), RSS {peak} MB",
            all as f64 / took,
            slowest * 1e3,
            (process().0 - written) as f64 / bytes as f64,
            stats.disk_bytes as f64 / stats.bytes as f64,
            stats.dropped,
            stats.entries,
        );
    }
    let singles = entries(2 * all, BATCH, all, clock.now()).remove(0);
    let mut times = Vec::new();
    for new in singles {
        let begun = Instant::now();
        store.commit(vec![new]).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    println!("one at a time: p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    let begun = Instant::now();
    let readers = (0..4u64).map(|reader| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut times = Vec::new();
            for query in 0..5_000u64 {
                let number = (query * 7919 + reader) % (all / 100).max(1);
                let recipients = vec![RecipientId::from_bytes(Sha256::digest(number.to_be_bytes()).into())];
                let seconds_since = Some(all / BATCH / 10);
                let filter =
                    Filter { recipients, seconds_since, cursor: None, limit: 10, ..Filter::ids(Vec::new()) };
                let begun = Instant::now();
                let page = store.get(filter, None, usize::MAX).await.unwrap();
                times.push((begun.elapsed(), page.entries.len()));
            }
            times
        })
    });
    let mut times: Vec<_> =
        futures::future::try_join_all(readers).await.unwrap().into_iter().flatten().collect();
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort();
    let found = times.iter().map(|(_, found)| found).sum::<usize>() as f64 / times.len() as f64;
    println!(
        "by recipient: {rate:.0} queries/s, {found:.1} entries each, p99 {:?}",
        times[times.len() * 99 / 100].0
    );

    for batch in entries(2 * all + BATCH, 20_000, all, clock.now()) {
        store.commit(batch).await.unwrap();
    }
    let killed = directory.path().join("killed");
    copy(&path, &killed);
    store.close().await.unwrap();
    let begun = Instant::now();
    let store = open(&killed, options, &clock).unwrap();
    let newest = store.stats().await.unwrap().newest_arrival;
    assert_eq!(newest, 2 * all + BATCH + 20_000);
    println!("opened after a kill in {:?}, RSS {} MB", begun.elapsed(), process().1);
}
