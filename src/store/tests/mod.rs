#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::disallowed_methods)]

mod ahead;
mod clean;
mod crash;
mod disk;
mod draft;
mod faults;
mod full;
mod index;
mod migrate;
mod model;
mod power;
mod query;
mod retention;
mod scale;
mod sketch;
mod tail;
mod verify;

use std::path::Path;

use p2pdb_protocol::{entry::Entry, id::RecipientId};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use self::draft::{DAY, Draft, START, key, network, recipient, table};
use super::*;

/// Drafts that differ in their seed only.
fn series(first: u64, count: u64) -> Vec<NewEntry> {
    (first..first + count).map(|seed| Draft { seed, ..Draft::default() }.new_entry()).collect()
}

struct Fixture {
    directory: TempDir,
    clock: Clock,
    options: StoreOptions,
    store: Store,
}

impl Fixture {
    fn new(options: StoreOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(START);
        let store =
            Store::open(&directory.path().join("store"), network(), options.clone(), clock.clone()).unwrap();
        Self { directory, clock, options, store }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("store")
    }

    async fn reopen(&mut self) {
        self.store.close().await.unwrap();
        self.store = open(&self.path(), self.options.clone(), &self.clock).unwrap();
    }
}

fn open(path: &Path, options: StoreOptions, clock: &Clock) -> Result<Store, StoreError> {
    Store::open(path, network(), options, clock.clone())
}

fn open_bounded(path: &Path, clock: &Clock, bounds: crate::store::query::Bounds) -> Store {
    let mut settings = Settings::new(network(), StoreOptions::default()).unwrap();
    settings.bounds = bounds;
    let opener = |path: &Path| redb::Builder::new().create(path);
    Store::open_with(path, settings, clock.clone(), Arc::new(opener), crate::store::migrate::STEPS).unwrap()
}

/// Where the record of an entry begins, once it is merged: the segment's file and the offset in it.
fn record(store: &Store, path: &Path, arrival: u64) -> (std::path::PathBuf, record::Location) {
    let location = store.core.file.read(|txn| {
        let row = txn.open_table(schema::LOCATIONS)?.get(arrival)?.expect("it is stored and merged");
        Ok(record::Location::from_row(row.value()))
    });
    let location = location.unwrap();
    (log::directory_of(path).join(format!("{:010}.seg", location.segment)), location)
}

/// Damages the record of an entry in the log.
fn spoil(store: &Store, path: &Path, arrival: u64, spoil: impl FnOnce(&mut [u8])) {
    use std::os::unix::fs::FileExt;
    let (segment, location) = record(store, path, arrival);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(segment).unwrap();
    let mut bytes = vec![0; location.record_length()];
    file.read_exact_at(&mut bytes, location.offset.into()).unwrap();
    spoil(&mut bytes);
    file.write_all_at(&bytes, location.offset.into()).unwrap();
}

async fn verified(store: &Store) -> Report {
    let report = store.verify(|_| {}).await.unwrap();
    assert!(report.is_clean() && report.sums_compared, "{report:?}");
    report
}

fn everything(store: &Store) -> Filter {
    Filter {
        ids: Vec::new(),
        tables: Vec::new(),
        recipients: Vec::new(),
        bucket: None,
        seconds_since: None,
        created_from: None,
        created_until: None,
        cursor: Some(p2pdb_protocol::filter::Cursor { store: store.id(), arrival: 0 }),
        limit: 1000,
    }
}

/// The arrival numbers of all entries of a store.
async fn arrivals(store: &Store) -> Vec<u64> {
    let page = store.get(everything(store), None, usize::MAX).await.unwrap();
    assert!(!page.more);
    page.entries.into_iter().map(|(arrival, _)| arrival).collect()
}

#[tokio::test]
async fn an_entry_is_stored_once_and_survives_reopening() {
    let mut fixture = Fixture::new(StoreOptions::default());
    let new = series(0, 3);
    let twice = [new.clone(), vec![new[1].clone()]].concat();
    let stored = |arrival| Committed::Stored { arrival };
    let outcomes = fixture.store.commit(twice).await.unwrap();
    assert_eq!(outcomes, [stored(1), stored(2), stored(3), Committed::Known]);
    let id = fixture.store.id();
    fixture.reopen().await;
    assert_eq!(fixture.store.id(), id);
    assert_eq!(fixture.store.commit(new.clone()).await.unwrap(), [Committed::Known; 3]);
    assert_eq!(fixture.store.commit(series(3, 1)).await.unwrap(), [stored(4)]);
    let page = fixture.store.get(everything(&fixture.store), None, usize::MAX).await.unwrap();
    let expected = new.iter().map(|new| new.entry.encoded().clone()).chain([page.entries[3].1.clone()]);
    assert!(page.entries.iter().map(|(_, encoded)| encoded.clone()).eq(expected));
    assert_eq!(page.keys, [Bytes::copy_from_slice(key(0).der())]);
    let report = verified(&fixture.store).await;
    assert_eq!((report.entries, report.dropped), (4, 0));
}

#[tokio::test]
async fn a_dropped_id_stays_known_and_its_entry_is_not_taken_again() {
    let mut fixture = Fixture::new(StoreOptions::default());
    let new = series(0, 2);
    let ids: Vec<_> = new.iter().map(|new| new.entry.id()).collect();
    fixture.store.commit(new.clone()).await.unwrap();
    fixture.store.withdraw(table(0), ids[..1].to_vec()).await.unwrap();
    fixture.reopen().await;
    let asked = vec![ids[0], ids[1], EntryId::from_bytes([4; 32])];
    let known = fixture.store.known(table(0), asked).await.unwrap();
    assert_eq!(known, [Presence::Dropped, Presence::Stored, Presence::Unknown]);
    assert_eq!(fixture.store.known(table(1), ids[..1].to_vec()).await.unwrap(), [Presence::Unknown]);
    assert_eq!(fixture.store.commit(new).await.unwrap(), [Committed::Dropped, Committed::Known]);
    assert_eq!(arrivals(&fixture.store).await, [2]);
    assert_eq!(verified(&fixture.store).await.dropped, 1);
}

#[tokio::test]
async fn tables_and_stats_count_what_is_stored() {
    let fixture = Fixture::new(StoreOptions::default());
    let drafts =
        [0, 0, 1].iter().zip(0..).map(|(table, seed)| Draft { table: *table, seed, ..Draft::default() });
    let new: Vec<_> = drafts.map(|draft| draft.new_entry()).collect();
    fixture.store.commit(new.clone()).await.unwrap();
    fixture.store.withdraw(table(0), vec![new[1].entry.id()]).await.unwrap();
    let bytes = |index: usize| new[index].entry.encoded().len() as u64;
    let summary = |number, newest_arrival, bytes| TableSummary {
        table: table(number),
        entries: 1,
        bytes,
        newest_arrival,
    };
    assert_eq!(fixture.store.tables().await.unwrap(), [summary(0, 2, bytes(0)), summary(1, 3, bytes(2))]);
    let stats = fixture.store.stats().await.unwrap();
    assert_eq!((stats.entries, stats.tables, stats.dropped, stats.newest_arrival), (2, 2, 1, 3));
    assert_eq!(stats.bytes, bytes(0) + bytes(2));
    assert!(stats.disk_bytes > stats.bytes && stats.file_bytes >= stats.bytes);
    assert_eq!(fixture.store.table_key(table(1)).await.unwrap().unwrap(), key(1).der());
    assert_eq!(fixture.store.table_key(table(2)).await.unwrap(), None);
}

#[tokio::test]
async fn requests_that_wait_share_a_transaction_and_get_their_own_answers() {
    let fixture = Fixture::new(StoreOptions::default());
    let commits = (0..40).map(|part| fixture.store.commit(series(part * 5, 5 + part % 2)));
    let answers = futures::future::try_join_all(commits).await.unwrap();
    for (part, outcomes) in answers.iter().enumerate() {
        // Every second request ends with the first entry of the next one.
        assert_eq!(outcomes.len(), 5 + part % 2);
    }
    let stored = answers.iter().flatten().filter(|outcome| matches!(outcome, Committed::Stored { .. }));
    assert_eq!(stored.count(), 201);
    assert_eq!(arrivals(&fixture.store).await, (1..=201).collect::<Vec<_>>());
    verified(&fixture.store).await;
}

#[tokio::test]
async fn a_closed_store_says_so_and_a_compacted_one_has_everything() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 300)).await.unwrap();
    fixture.store.merge().await.unwrap();
    let before = fixture.store.stats().await.unwrap().file_bytes;
    assert!(fixture.store.compact().await.unwrap());
    // A copy of the open file is what a kill would leave.
    let copy = fixture.directory.path().join("copy");
    std::fs::copy(fixture.path(), &copy).unwrap();
    let repaired = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let told = Arc::clone(&repaired);
    let mut builder = redb::Builder::new();
    builder.set_repair_callback(move |_| told.store(true, std::sync::atomic::Ordering::SeqCst));
    drop(builder.open(&copy).unwrap());
    assert!(!repaired.load(std::sync::atomic::Ordering::SeqCst), "a kill after compacting costs a repair");
    assert!(fixture.store.stats().await.unwrap().file_bytes < before);
    assert_eq!(verified(&fixture.store).await.entries, 300);
    fixture.store.close().await.unwrap();
    fixture.store.close().await.unwrap();
    assert!(matches!(fixture.store.commit(series(0, 1)).await, Err(StoreError::Closed)));
    assert!(matches!(fixture.store.stats().await, Err(StoreError::Closed)));
}
