//! What can be done to a store, and what must be true after it. The property test draws it at random, the fuzz target `store`
//! lets a fuzzer choose; so this file takes what it needs from its parent by name.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fs::{self, DirEntry},
    io,
    path::{Path, PathBuf},
};

use p2pdb_protocol::{entry::Entry, filter::Filter, id::EntryId};

use super::{Clock, Committed, Draft, NewEntry, Presence, START, Store, StoreOptions, key, network, table};

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Commit(Vec<Draft>),
    /// One of those committed before.
    CommitAgain(usize),
    Withdraw(usize),
    Sweep,
    Merge,
    Compact,
    Verify,
    Reopen,
    Kill,
    /// The clock is set, ahead or back, by so many seconds.
    Clock(i64),
}

/// A store that merges and begins segments all the time.
fn open(path: &Path, clock: &Clock) -> Store {
    let options = StoreOptions { delta_bytes: 60 << 10, segment_bytes: 90 << 10, ..StoreOptions::default() };
    Store::open(path, network(), options, clock.clone()).unwrap()
}

fn new_entry(draft: &Draft, entry: &Entry) -> NewEntry {
    NewEntry { entry: entry.clone(), key: key(draft.table) }
}

async fn verify(store: &Store) {
    let report = store.verify(|_| {}).await.unwrap();
    assert!(report.is_clean() && report.sums_compared, "{report:?}");
}

fn log_of(path: &Path) -> PathBuf {
    let mut directory = path.as_os_str().to_owned();
    directory.push(".log");
    directory.into()
}

/// What is on the disk.
#[derive(PartialEq)]
struct Files {
    index: Vec<u8>,
    log: BTreeMap<OsString, Vec<u8>>,
}

impl Files {
    fn read(path: &Path) -> io::Result<Self> {
        let file =
            |file: io::Result<DirEntry>| file.and_then(|file| Ok((file.file_name(), fs::read(file.path())?)));
        Ok(Self {
            index: fs::read(path)?,
            log: fs::read_dir(log_of(path))?.map(file).collect::<io::Result<_>>()?,
        })
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, &self.index)?;
        fs::create_dir(log_of(path))?;
        self.log.iter().try_for_each(|(name, bytes)| fs::write(log_of(path).join(name), bytes))
    }
}

/// Copies an open store: what a kill would leave. It is read until a merge in the background did not write meanwhile.
fn copy(from: &Path, to: &Path) {
    loop {
        match (Files::read(from), Files::read(from)) {
            (Ok(files), Ok(again)) if files == again => return files.write(to).unwrap(),
            _ => {}
        }
    }
}

/// What must be in the store.
#[derive(Default)]
struct Model {
    committed: Vec<(Draft, Entry)>,
    withdrawn: BTreeSet<EntryId>,
    /// The latest time that the clock has shown.
    latest: u64,
}

impl Model {
    async fn commit(&mut self, store: &Store, drafts: Vec<Draft>) {
        let first = self.committed.len();
        for (seed, draft) in (first as u64..).zip(drafts) {
            let draft = Draft { seed, ..draft };
            let entry = draft.entry();
            self.committed.push((draft, entry));
        }
        let new = self.committed[first..].iter().map(|(draft, entry)| new_entry(draft, entry));
        store.commit(new.collect()).await.unwrap();
    }

    /// Only what expired by some clock may; the memory of it may be gone, too, once that is a week ago.
    fn may_be_gone(&self, draft: &Draft) -> bool {
        draft.expires.is_some_and(|expires| expires <= self.latest)
    }

    async fn compare(&self, store: &Store, now: u64) {
        let mut counts = BTreeMap::from([(0, 0), (1, 0), (2, 0)]);
        for (draft, entry) in &self.committed {
            let known = store.known(table(draft.table), vec![entry.id()]).await.unwrap()[0];
            let is_withdrawn = self.withdrawn.contains(&entry.id());
            let expected = if is_withdrawn { Presence::Dropped } else { Presence::Stored };
            assert!(known == expected || self.may_be_gone(draft), "{known:?}: {draft:?}");
            assert!(!(is_withdrawn && known == Presence::Stored), "{draft:?}");
            if known == Presence::Stored {
                *counts.entry(draft.table).or_default() += 1;
                let alive = draft.expires.is_none_or(|expires| expires > now);
                let page = store.get(Filter::ids(vec![entry.id()]), None, usize::MAX).await.unwrap();
                let found = page.entries.first().map(|(_, encoded)| encoded);
                assert!(found == Some(entry.encoded()) || !alive, "{draft:?}");
            }
        }
        for (number, count) in counts {
            let index = store.index(table(number), 0).await.unwrap();
            let listed: u64 = index.buckets.iter().map(|bucket| bucket.count).sum();
            assert_eq!(listed, count, "table {number}");
        }
    }
}

/// Does all of it to a new store in this directory.
///
/// # Panics
/// If the store is not what it should be.
pub(super) async fn check(directory: &Path, operations: Vec<Operation>) {
    let clock = Clock::manual(START);
    let mut path = directory.join("store");
    let mut store = open(&path, &clock);
    let mut model = Model { latest: START, ..Model::default() };
    for (number, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Commit(drafts) => model.commit(&store, drafts).await,
            Operation::CommitAgain(_) | Operation::Withdraw(_) if model.committed.is_empty() => {}
            Operation::CommitAgain(index) => {
                let (draft, entry) = &model.committed[index % model.committed.len()];
                let outcome = store.commit(vec![new_entry(draft, entry)]).await.unwrap()[0];
                let is_withdrawn = model.withdrawn.contains(&entry.id());
                let expected = if is_withdrawn { Committed::Dropped } else { Committed::Known };
                assert!(outcome == expected || model.may_be_gone(draft), "{outcome:?}: {draft:?}");
                if let Committed::Stored { .. } = outcome {
                    model.withdrawn.remove(&entry.id());
                }
            }
            Operation::Withdraw(index) => {
                let (draft, entry) = &model.committed[index % model.committed.len()];
                store.withdraw(table(draft.table), vec![entry.id()]).await.unwrap();
                model.withdrawn.insert(entry.id());
            }
            Operation::Sweep => drop(store.sweep().await.unwrap()),
            Operation::Merge => store.merge().await.unwrap(),
            Operation::Compact => drop(store.compact().await.unwrap()),
            Operation::Verify => verify(&store).await,
            Operation::Reopen => {
                store.close().await.unwrap();
                store = open(&path, &clock);
            }
            Operation::Kill => {
                let killed = path.with_extension(number.to_string());
                copy(&path, &killed);
                store.close().await.unwrap();
                path = killed;
                store = open(&path, &clock);
            }
            Operation::Clock(seconds) => {
                clock.set(clock.now().saturating_add_signed(seconds));
                model.latest = model.latest.max(clock.now());
            }
        }
    }
    verify(&store).await;
    model.compare(&store, clock.now()).await;
    store.close().await.unwrap();
}
