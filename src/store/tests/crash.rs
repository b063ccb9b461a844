//! A process that is killed while it writes loses nothing that it acknowledged.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
};

use super::*;

pub(super) const PATH: &str = "P2PDB_TEST_STORE";
pub(super) const FIRST: &str = "P2PDB_TEST_FIRST";
const DIE: &str = "P2PDB_TEST_DIE";

/// Starts one of the processes below, which may be told where to die.
fn start(name: &str, path: &Path, first: u64, die: Option<String>) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", &format!("store::tests::crash::{name}"), "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(die) = die {
        command.env(DIE, die);
    }
    command.spawn().unwrap()
}

/// It died where it was told to: a panic, say, is a status and no signal.
fn assert_aborted(status: ExitStatus, die: &str) {
    const ABORT: i32 = 6;
    assert_eq!(status.signal(), Some(ABORT), "it was to die at {die}: {status}");
}

pub(super) fn acknowledged(child: &mut Child) -> impl Iterator<Item = u64> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.filter_map(|line| line.unwrap().strip_prefix("acknowledged ")?.parse::<u64>().ok())
}

pub(super) fn acknowledge(request: u64) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {request}").unwrap();
    out.flush().unwrap();
}

pub(super) fn variable(name: &str) -> String {
    std::env::var(name).expect("only the tests below run this")
}

/// The process that is killed: puts for ever and prints the number of each acknowledged request.
#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn child() {
    let store = little_at_once(Path::new(&variable(PATH)));
    for request in 0.. {
        store.commit(series(request * 20, 20)).await.unwrap();
        acknowledge(request);
    }
}

/// Bytes of the log at which they are merged.
const DELTA: u64 = 100 << 10;

fn little_at_once(path: &Path) -> Store {
    let mut settings = Settings::new(network(), StoreOptions::default()).unwrap();
    settings.delta_bytes = DELTA;
    let opener = |path: &Path| {
        let mut builder = redb::Builder::new();
        builder.set_repair_callback(|_| panic!("the whole index is read"));
        builder.create(path)
    };
    Store::open_with(path, settings, Clock::manual(START), Arc::new(opener), crate::store::migrate::STEPS)
        .unwrap()
}

#[tokio::test]
async fn a_killed_writer_reopens_with_everything_it_acknowledged_and_reads_little() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    for round in 1..=3u64 {
        let mut child = start("child", &path, 0, None);
        let acknowledged = acknowledged(&mut child)
            .find(|request| *request >= 40 * round)
            .expect("the child writes until it is killed");
        // It is in the middle of a later request now.
        child.kill().unwrap();
        child.wait().unwrap();

        // So that what was read shows.
        crate::store::fault::arm(&path, "merge");
        let store = little_at_once(&path);
        let replayed = store.core.delta.bytes();
        let log: u64 = store.core.log.size().unwrap().0;
        // Two generations, each with one request more than it takes.
        assert!(replayed < 3 * DELTA && log > 5 * DELTA, "{replayed} bytes of {log} were read");
        crate::store::fault::disarm(&path);
        let ids = series(0, (acknowledged + 1) * 20).iter().map(|new| new.entry.id()).collect();
        let known = store.known(table(0), ids).await.unwrap();
        assert!(known.iter().all(|presence| *presence == Presence::Stored));
        verified(&store).await;
        store.close().await.unwrap();
    }
}

/// A store with these merges, drops, evicts and rewrites segments all the time.
pub(super) fn small_settings() -> Settings {
    let mut settings = Settings::new(network(), StoreOptions::default()).unwrap();
    settings.budget = Some(1 << 20);
    (settings.delta_bytes, settings.segment_bytes) = (100 << 10, 150 << 10);
    settings
}

pub(super) fn small(path: &Path, clock: &Clock) -> Result<Store, StoreError> {
    let opener = |path: &Path| redb::Builder::new().create(path);
    Store::open_with(path, small_settings(), clock.clone(), Arc::new(opener), crate::store::migrate::STEPS)
}

/// The entries of a request; some expire soon.
pub(super) fn request(number: u64) -> Vec<Draft> {
    let draft = |index: u64| Draft {
        seed: number * 8 + index,
        length: 500 + (number * 977 + index * 4231) as usize % 12_000,
        expires: index.is_multiple_of(3).then_some(START + number + 20),
        table: (index % 2) as usize,
        created: START - index * DAY,
        recipients: vec![(number % 7) as u8, (index % 4) as u8 + 10],
    };
    (0..8).map(draft).collect()
}

#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn busy_child() {
    let first: u64 = variable(FIRST).parse().unwrap();
    let clock = Clock::manual(START + first);
    let store = small(Path::new(&variable(PATH)), &clock).unwrap();
    let new = |number| request(number).iter().map(Draft::new_entry).collect();
    for number in (first..).step_by(2) {
        // At once, so that they share a frame.
        let (one, other) = (new(number), new(number + 1));
        let (one, other) = tokio::join!(store.commit(one), store.commit(other));
        one.unwrap();
        other.unwrap();
        acknowledge(number + 1);
        clock.set(START + number + 1);
        match number % 16 {
            2 => drop(store.sweep().await.unwrap()),
            10 => store.merge().await.unwrap(),
            12 => drop(store.compact().await.unwrap()),
            _ => {}
        }
    }
}

/// Everything by a cursor, every entry by its recipient, and what is known of every id say the same; so many requests may have
/// been durable and not acknowledged.
pub(super) async fn is_consistent(store: &Store, requests: std::ops::RangeInclusive<u64>, more: usize) {
    let mut found = BTreeMap::new();
    let mut filter = everything(store);
    loop {
        let page = store.get(filter.clone(), None, usize::MAX).await.unwrap();
        found.extend(page.entries);
        filter.cursor = Some(page.next);
        if !page.more {
            break;
        }
    }
    let mut by_encoding: BTreeMap<_, _> =
        found.iter().map(|(arrival, encoded)| (encoded.clone(), *arrival)).collect();
    assert_eq!(by_encoding.len(), found.len(), "nothing is there twice");
    for number in requests {
        for draft in request(number) {
            let entry = draft.entry();
            let known = store.known(table(draft.table), vec![entry.id()]).await.unwrap();
            let arrival = by_encoding.remove(entry.encoded());
            assert_eq!(arrival.is_some(), known == [Presence::Stored], "{draft:?}: {known:?}");
            assert!(known != [Presence::Unknown], "request {number} was acknowledged: {draft:?}");
            let recipients = vec![recipient(draft.recipients[0])];
            let filter = Filter { recipients, cursor: None, ..Filter::ids(vec![entry.id()]) };
            let page = store.get(filter.with_table(table(draft.table)), None, usize::MAX).await.unwrap();
            assert_eq!(page.entries.first().map(|(arrival, _)| *arrival), arrival);
        }
    }
    assert!(by_encoding.len() <= 8 * more, "{by_encoding:?}");
}

/// Frames that several requests share.
fn shared_frames(store: &Store) -> usize {
    let mut shared = 0;
    for segment in store.core.log.segments().values().filter(|segment| segment.kind == log::Kind::Commits) {
        let count = |frame: log::Frame| {
            let entries = frame.items().filter(|item| matches!(item, Ok(log::Item::Entry { .. })));
            shared += usize::from(entries.count() > 8);
            Ok(())
        };
        // One that was torn ends them.
        let _ = store.core.log.frames(segment, segment.end(), count);
    }
    shared
}

#[tokio::test]
async fn a_store_killed_at_any_point_has_everything_it_acknowledged() {
    let seed: u64 = std::env::var("P2PDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("P2PDB_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let (mut first, mut shared) = (0, 0);
    let named =
        ["append", "sync", "segment", "merge", "merged", "evict", "move", "moved", "compact", "compacted"];
    for round in 0..33u64 {
        // Each kind of point, early and later; and somewhere among all of them.
        let times = Sha256::digest([seed.to_be_bytes(), round.to_be_bytes()].concat())[0];
        let die = match named.get(round as usize % 11) {
            // Those are passed once in 16 requests.
            Some(name) if name.starts_with("compact") => format!("{name} {}", times % 2),
            Some(name) => format!("{name} {}", times % 4),
            None => format!("any {times}"),
        };
        let mut child = start("busy_child", &path, first, Some(die.clone()));
        let last = acknowledged(&mut child).last();
        assert_aborted(child.wait().unwrap(), &die);
        let next = last.map_or(first, |last| last + 1);

        // Before anything is merged, which drops what is due meanwhile; then after that.
        crate::store::fault::arm(&path, "merge");
        let store = small(&path, &Clock::manual(START + next)).unwrap();
        if next > 0 {
            is_consistent(&store, 0..=next - 1, 2).await;
        }
        shared += shared_frames(&store);
        crate::store::fault::disarm(&path);
        if next > 0 {
            let report = verified(&store).await;
            assert!(report.entries > 0, "{die}: {report:?}");
            is_consistent(&store, 0..=next - 1, 2).await;
        }
        store.close().await.unwrap();
        // The one that was not acknowledged may be there; it is put again.
        first = next;
    }
    assert!(first > 50 && shared > 0, "only {first} requests, {shared} frames of several");
    let store = small(&path, &Clock::manual(START + first)).unwrap();
    assert!(store.stats().await.unwrap().dropped > 0);
    let files = std::fs::read_dir(log::directory_of(&path)).unwrap().count();
    assert!(files < 30, "{files} files: segments are not given back");
}

#[tokio::test]
#[ignore = "run by the test below in a process of its own"]
async fn migrating_child() {
    drop(open(Path::new(&variable(PATH)), StoreOptions::default(), &Clock::manual(START)).unwrap());
}

#[tokio::test]
async fn a_migration_killed_at_any_point_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    for times in 0.. {
        let path = directory.path().join(times.to_string());
        std::fs::write(&path, include_bytes!("v1.redb")).unwrap();
        let mut rounds = 0;
        // Killed at the same point again and again, it gets further each time, unless that is the first one.
        while rounds < 3 {
            let die = format!("any {times}");
            let status = start("migrating_child", &path, 0, Some(die.clone())).wait().unwrap();
            if status.success() {
                break;
            }
            assert_aborted(status, &die);
            rounds += 1;
        }
        let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
        let report = verified(&store).await;
        assert_eq!((report.entries, report.dropped), (11, 1), "killed {rounds} times at point {times}");
        if rounds == 0 {
            assert!(times > 12, "only {times} points");
            return;
        }
    }
}
