//! Files that are not a store, and disks that fail.

use std::{
    fs::{self, OpenOptions},
    io,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use redb::{StorageBackend, backends::FileBackend};

use super::*;
use crate::store::{log::LocalDisk, migrate::STEPS};

fn failure(path: &Path) -> StoreError {
    let before = fs::read(path).unwrap();
    let error = open(path, StoreOptions::default(), &Clock::manual(START)).expect_err("it must not open");
    assert_eq!(fs::read(path).unwrap(), before, "the file must be left as it is");
    error
}

#[tokio::test]
async fn a_file_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("letter.txt");
    for content in [b"Dear Ada".as_slice(), b"", &[0; 5000], b"redb"] {
        fs::write(&path, content).unwrap();
        assert!(matches!(failure(&path), StoreError::Foreign { .. }));
    }
    fs::remove_file(&path).unwrap();
    let database = redb::Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(redb::TableDefinition::<u64, u64>::new("theirs")).unwrap().insert(1, 1).unwrap();
    txn.commit().unwrap();
    database.close().unwrap();
    let error = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }));
    assert!(error.to_string().contains("is not a p2pdb store"));
}

#[tokio::test]
async fn a_store_in_use_of_another_network_or_with_too_small_a_limit_is_refused() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 1)).await.unwrap();
    let open = |network| Store::open(&fixture.path(), network, StoreOptions::default(), Clock::system());
    assert!(matches!(open(network()), Err(StoreError::InUse { .. })));
    fixture.store.close().await.unwrap();
    let other = Network { name: "other".to_owned(), ..network() };
    let Err(StoreError::OtherNetwork { expected, got, .. }) = open(other.clone()) else { panic!() };
    assert_eq!((expected, got), (other.id(), network().id()));
    let options = StoreOptions { max_disk: Some(1 << 20), ..StoreOptions::default() };
    let error = Store::open(&fixture.path(), network(), options, Clock::system()).unwrap_err();
    assert!(matches!(error, StoreError::LimitTooSmall { got: 1_048_576, .. }));
    assert_eq!(verified(&open(network()).unwrap()).await.entries, 1);
}

#[tokio::test]
async fn a_process_that_is_just_being_started_does_not_keep_a_closed_store_in_use() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.close().await.unwrap();
    let lock = log::lock(&fixture.path(), &LocalDisk).unwrap().expect("nobody has it");
    // Such a process has every open file.
    let _inherited = lock.0.try_clone().unwrap();
    assert!(matches!(failure(&fixture.path()), StoreError::InUse { .. }));
    drop(lock);
    let store = Store::open(&fixture.path(), network(), StoreOptions::default(), Clock::system()).unwrap();
    assert_eq!(verified(&store).await.entries, 0);
}

#[tokio::test]
async fn a_truncated_or_overwritten_store_is_reported_as_damaged() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 500)).await.unwrap();
    fixture.store.close().await.unwrap();
    let whole = fs::read(fixture.path()).unwrap();

    fs::write(fixture.path(), &whole[..whole.len() / 2]).unwrap();
    let error = failure(&fixture.path());
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("keep a copy"));

    let mut torn = whole.clone();
    torn[4096..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    fs::write(fixture.path(), torn).unwrap();
    let error = match open(&fixture.path(), StoreOptions::default(), &fixture.clock) {
        Err(error) => error,
        Ok(store) => store.verify(|_| {}).await.unwrap_err(),
    };
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");

    fs::write(fixture.path(), whole).unwrap();
    assert_eq!(
        verified(&open(&fixture.path(), StoreOptions::default(), &fixture.clock).unwrap()).await.entries,
        500
    );
}

#[tokio::test]
async fn being_killed_while_a_store_is_made_leaves_nothing_in_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    fs::write(directory.path().join("store.new"), b"half of it").unwrap();
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    store.commit(series(0, 1)).await.unwrap();
    drop(store);
    let names = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        ["store".into(), "store.log".into(), "store.new".into()].into(),
        "nothing is left over"
    );
    let missing = directory.path().join("no/such/directory");
    assert!(matches!(open(&missing, StoreOptions::default(), &Clock::system()), Err(StoreError::Io { .. })));
}

/// A disk that takes no block it has not taken before while it is full, as file systems do.
#[derive(Debug, Default)]
struct Space {
    full: AtomicBool,
    blocks: Mutex<BTreeSet<u64>>,
    /// How many times it syncs before it fails to once, counted down.
    syncs: AtomicI64,
    read_only: AtomicBool,
}

impl Space {
    fn can_be_written(&self) -> io::Result<()> {
        if self.read_only.load(Ordering::SeqCst) {
            Err(io::ErrorKind::ReadOnlyFilesystem.into())
        } else {
            Ok(())
        }
    }
}

#[derive(Debug)]
struct Disk {
    file: FileBackend,
    space: Arc<Space>,
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.space.syncs.fetch_sub(1, Ordering::SeqCst) == 1 {
            return Err(io::Error::other("it could not be synced"));
        }
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.space.can_be_written()?;
        let mut taken = self.space.blocks.lock().unwrap();
        let mut touched = offset / 4096..(offset + data.len() as u64).div_ceil(4096);
        if self.space.full.load(Ordering::SeqCst) && touched.any(|block| !taken.contains(&block)) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        taken.extend(offset / 4096..(offset + data.len() as u64).div_ceil(4096));
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

/// A store whose indexes are on such a disk.
fn open_on(space: &Arc<Space>, path: &Path, clock: &Clock) -> Store {
    let space = Arc::clone(space);
    let opener = move |path: &Path| {
        space.can_be_written()?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let disk = Disk { file: FileBackend::new(file)?, space: Arc::clone(&space) };
        redb::Builder::new().create_with_backend(disk)
    };
    let settings = Settings::new(network(), StoreOptions::default()).unwrap();
    Store::open_with(path, settings, clock.clone(), Arc::new(opener), STEPS).unwrap()
}

#[tokio::test]
async fn a_merge_that_fails_and_takes_effect_all_the_same_is_not_made_twice() {
    let directory = tempfile::tempdir().unwrap();
    let (space, clock) = (Arc::new(Space::default()), Clock::manual(START));
    let store = open_on(&space, &directory.path().join("store"), &clock);
    let (mut failed, mut took_effect) = (0, 0);
    for round in 0..12 {
        // One goes with this merge, and one that is merged went before.
        let expiring = |seed, expires| Draft { seed, expires: Some(expires), ..Draft::default() }.new_entry();
        let now = clock.now();
        let mut new = vec![expiring(1000 + round, now + 5), expiring(2000 + round, now + 15)];
        new.extend(series(10 * round, 10));
        store.commit(new).await.unwrap();
        clock.set(now + 10);
        let position = |store: &Store| {
            let read = |txn: &redb::ReadTransaction| schema::State::read(&txn.open_table(schema::STATE)?);
            store.core.file.read(read).unwrap().position
        };
        let before = position(&store);
        space.syncs.store(i64::try_from(round / 2).unwrap() + 1, Ordering::SeqCst);
        if store.merge().await.is_err() {
            failed += 1;
            took_effect += u64::from(position(&store) > before);
        }
        space.syncs.store(0, Ordering::SeqCst);
        // In one round more comes in before the next merge, in the other not.
        let more = series(5000 + round, round % 2);
        store.commit(more).await.unwrap();
        store.merge().await.unwrap();
        verified(&store).await;
    }
    assert!(failed > took_effect && took_effect > 0, "{took_effect} of {failed} took effect");
    assert_eq!(store.stats().await.unwrap().entries, 120 + 6 + 1);
}

#[tokio::test]
async fn what_cannot_be_merged_is_bounded_however_often_somebody_asks() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options = StoreOptions { delta_bytes: 50 << 10, ..StoreOptions::default() };
    let store = open(&path, options, &Clock::manual(START)).unwrap();
    crate::store::fault::arm(&path, "merge");
    let mut stored = 0;
    let refused = loop {
        assert!(stored < 1000, "it takes more and more");
        // Whoever asks for this ends the generation that grows.
        assert!(store.merge().await.is_err() || stored == 0);
        match store.commit(series(stored, 10)).await {
            Ok(_) => stored += 10,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, StoreError::DiskFull { .. }), "{refused}");
    assert!(stored > 60, "two generations of 50 KiB have room for more than {stored}");
    assert_eq!(arrivals(&store).await.len() as u64, stored);
    crate::store::fault::disarm(&path);
    store.commit(series(stored, 10)).await.unwrap();
    assert_eq!(verified(&store).await.entries, stored + 10);
}

#[tokio::test]
async fn a_full_disk_fails_the_put_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let space = Arc::new(Space::default());
    let store = open_on(&space, &path, &Clock::manual(START));
    store.commit(series(0, 10)).await.unwrap();
    for (attempt, point) in ["append", "sync", "segment"].into_iter().enumerate() {
        space.full.store(true, Ordering::SeqCst);
        crate::store::fault::arm(directory.path(), point);
        let attempts = if point == "segment" { 1 } else { 2 };
        for _ in 0..attempts {
            let full = store.commit(series(1000, 500)).await;
            if point == "segment" && full.is_ok() {
                // The segment that is there has room for it.
                break;
            }
            let error = full.unwrap_err();
            assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
            assert!(error.to_string().contains("free some"));
            assert_eq!(arrivals(&store).await.len(), 10 + attempt, "still readable");
        }
        crate::store::fault::disarm(directory.path());
        space.full.store(false, Ordering::SeqCst);
        store.commit(series(100 + attempt as u64, 1)).await.unwrap();
    }
    let stored = arrivals(&store).await.len() as u64;
    // The indexes cannot be written: what is in the log is there, and can be asked for.
    space.full.store(true, Ordering::SeqCst);
    let error = store.merge().await.unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error}");
    store.commit(series(2000, 100)).await.unwrap();
    assert_eq!(arrivals(&store).await.len() as u64, stored + 100);
    space.full.store(false, Ordering::SeqCst);
    assert_eq!(verified(&store).await.entries, stored + 100);
}

#[tokio::test]
async fn what_is_on_a_disk_that_turned_read_only_is_read_on() {
    let directory = tempfile::tempdir().unwrap();
    let space = Arc::new(Space::default());
    let store = open_on(&space, &directory.path().join("store"), &Clock::manual(START));
    store.commit(series(0, 500)).await.unwrap();
    store.merge().await.unwrap();
    for round in 1..=3 {
        let stored = 500 + 10 * round;
        space.read_only.store(true, Ordering::SeqCst);
        store.commit(series(stored - 10, 10)).await.unwrap();
        for _ in 0..2 {
            let error = store.merge().await.unwrap_err();
            assert!(matches!(error, StoreError::Io { .. }), "{error}");
            assert!(error.to_string().contains("not read-only"), "{error}");
            assert_eq!(arrivals(&store).await, (1..=stored).collect::<Vec<_>>());
            let ids = series(0, stored).iter().map(|new| new.entry.id()).collect();
            let known = store.known(table(0), ids).await.unwrap();
            assert!(known.iter().all(|presence| *presence == Presence::Stored));
        }
        assert!(matches!(store.compact().await, Err(StoreError::Io { .. })));
        space.read_only.store(false, Ordering::SeqCst);
        // Without being opened anew.
        store.merge().await.unwrap();
        assert_eq!(verified(&store).await.entries, stored);
    }
    space.read_only.store(true, Ordering::SeqCst);
    store.commit(series(1000, 10)).await.unwrap();
    assert!(store.merge().await.is_err());
    store.close().await.unwrap();
    space.read_only.store(false, Ordering::SeqCst);
    assert_eq!(
        verified(&open_on(&space, &directory.path().join("store"), &Clock::manual(START))).await.entries,
        540
    );
}
