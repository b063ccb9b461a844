//! Records that lie side by side are read together, and who has to wait for the disk does so elsewhere.

use std::{
    fs::{File, Metadata},
    io,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    clock::monotonic,
    store::{
        log::{Ahead, Disk, DiskFile, Kind, LocalDisk, SEGMENT_HEADER, Segment, Segments},
        record::Location,
        schema::Position,
    },
};

/// A disk that counts how often it is read, and takes its time.
#[derive(Debug, Clone, Default)]
struct Watched(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    reads: AtomicUsize,
    milliseconds: AtomicU64,
}

#[derive(Debug)]
struct WatchedFile(Box<dyn DiskFile>, Arc<Counts>);

impl Watched {
    fn reads(&self) -> usize {
        self.0.reads.load(Ordering::Relaxed)
    }
}

impl Disk for Watched {
    fn open(&self, path: &Path, is_new: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(WatchedFile(LocalDisk.open(path, is_new)?, Arc::clone(&self.0))))
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        LocalDisk.sync_directory(directory)
    }
}

impl DiskFile for WatchedFile {
    fn metadata(&self) -> io::Result<Metadata> {
        self.0.metadata()
    }

    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.1.reads.fetch_add(1, Ordering::Relaxed);
        let milliseconds = self.1.milliseconds.load(Ordering::Relaxed);
        if milliseconds > 0 {
            std::thread::sleep(Duration::from_millis(milliseconds));
        }
        self.0.read_exact_at(bytes, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}

/// Records of 1,000 bytes with 40 between them.
const RECORDS: u32 = 200;
const APART: u32 = 1040;

fn location(record: u32) -> Location {
    let (segment, offset) = (1, SEGMENT_HEADER as u32 + record * APART);
    let short = Location { table_no: 1, segment, offset, length: 0, recipients: 1 };
    Location { length: 1000 - short.record_length() as u32, ..short }
}

#[test]
fn records_that_follow_each_other_are_read_together_and_others_alone() {
    let disk = Watched::default();
    let file: File = tempfile::tempfile().unwrap();
    let file = WatchedFile(Box::new(file), Arc::clone(&disk.0));
    let bytes: Vec<u8> = (0..RECORDS * APART).map(|at| (at / 7) as u8).collect();
    file.write_all_at(&bytes, SEGMENT_HEADER).unwrap();
    let segment = Segment::create(Box::new(file), [0; 8], 1, Kind::Commits, Position::default()).unwrap();
    segment.set_end(SEGMENT_HEADER + bytes.len() as u64);
    let segments: Segments = Arc::new([(1, Arc::new(segment))].into());
    let reads_for = |records: &[u32]| {
        let before = disk.reads();
        let mut ahead = Ahead::default();
        for (index, record) in records.iter().enumerate() {
            let start = (record * APART) as usize;
            let next = records.iter().skip(index + 1).copied().map(location);
            let read = ahead.record(&segments, &location(*record), next).unwrap();
            assert_eq!(read, &bytes[start..start + 1000], "{record}");
        }
        disk.reads() - before
    };
    let all: Vec<u32> = (0..RECORDS).collect();
    assert_eq!(reads_for(&all), (RECORDS * APART).div_ceil(64 << 10) as usize);
    assert_eq!(reads_for(&[0, 1, 2, 7, 8, 9, 10]), 2);
    let reversed: Vec<u32> = all.iter().copied().rev().collect();
    assert_eq!(reads_for(&reversed), RECORDS as usize);
    assert_eq!(reads_for(&[5; 9]), 1);
    // Some that are said to follow, and do not exist: each is tried once, and none keeps those before from being read.
    let (mut ahead, beyond) =
        (Ahead::default(), [RECORDS - 2, RECORDS - 1, RECORDS, RECORDS + 1].map(location));
    for (index, location) in beyond.iter().enumerate() {
        let read = ahead.record(&segments, location, beyond.iter().skip(index + 1).copied());
        assert_eq!(read.is_ok(), index < 2, "{index}");
    }
}

#[tokio::test]
async fn a_query_reads_neighbours_together_and_one_that_waits_sends_those_after_it_elsewhere() {
    let (directory, disk) = (tempfile::tempdir().unwrap(), Watched::default());
    let mut settings = Settings::new(network(), StoreOptions::default()).unwrap();
    settings.disk = Arc::new(disk.clone());
    let opener = |path: &Path| redb::Builder::new().create(path);
    let path = directory.path().join("store");
    let steps = crate::store::migrate::STEPS;
    let store = Store::open_with(&path, settings, Clock::manual(START), Arc::new(opener), steps).unwrap();
    store.commit(series(0, 100)).await.unwrap();
    store.merge().await.unwrap();
    let filter = Filter { limit: 100, ..Filter::recipient(recipient(1)) };
    let reads_of_a_query = async || {
        let before = disk.reads();
        let page = store.get(filter.clone(), None, usize::MAX).await.unwrap();
        assert_eq!(page.entries.len(), 100);
        disk.reads() - before
    };
    let together = reads_of_a_query().await;
    assert!(together <= 4, "{together} reads");
    assert!(store.core.pace.try_read(monotonic()));
    disk.0.milliseconds.store(5, Ordering::Relaxed);
    let twice = reads_of_a_query().await;
    assert!(twice > together, "{twice} reads: given up, and made again by a reader");
    assert!(!store.core.pace.try_read(monotonic()), "the next one does not try");
}
