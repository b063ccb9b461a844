//! Reading records one after the other.
//!
//! What arrived together lies together, and is mostly asked for together: who reads a record and knows which ones come next gets
//! those that lie right behind it in the same call of the kernel.

use redb::Error;

use super::{Segments, segment_of};
use crate::store::record::Location;

/// Two records with no more than so many bytes between them follow each other: the begin of a frame, and a table's key in it.
const GAP: u64 = 1024;
/// Bytes that are read at a time, unless a single record has more.
const MOST: usize = 64 << 10;

/// What was read last.
#[derive(Debug, Default)]
pub(in crate::store) struct Ahead {
    segment: u32,
    offset: u64,
    bytes: Vec<u8>,
}

impl Ahead {
    /// A record: as many bytes as it has. If it has to be read, then so are those that come `next`, as far as they follow it.
    pub(in crate::store) fn record(
        &mut self,
        segments: &Segments,
        location: &Location,
        next: impl Iterator<Item = Location>,
    ) -> Result<&[u8], Error> {
        let (offset, length) = (u64::from(location.offset), location.record_length());
        if self.segment != location.segment || !self.holds(offset, length) {
            let segment = segment_of(segments, location.segment)?;
            let run = run(location, next);
            self.bytes = match segment.read(offset, run) {
                // What lies further on must not keep this one from being read.
                Err(_) if run > length => segment.read(offset, length)?,
                read => read?,
            };
            (self.segment, self.offset) = (location.segment, offset);
        }
        let start = (offset - self.offset) as usize;
        Ok(self.bytes.get(start..start + length).unwrap_or_default())
    }

    fn holds(&self, offset: u64, length: usize) -> bool {
        offset >= self.offset && offset + length as u64 <= self.offset + self.bytes.len() as u64
    }
}

/// Bytes from the begin of a record to the end of the last one that follows.
fn run(first: &Location, next: impl Iterator<Item = Location>) -> usize {
    let start = u64::from(first.offset);
    let mut end = start + first.record_length() as u64;
    for location in next {
        let offset = u64::from(location.offset);
        let longer = offset + location.record_length() as u64;
        let follows = location.segment == first.segment && (end..=end + GAP).contains(&offset);
        if !follows || longer - start > MOST as u64 {
            break;
        }
        end = longer;
    }
    (end - start) as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{
        fs::{File, Metadata},
        io,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;
    use crate::store::{
        log::{Kind, SEGMENT_HEADER, Segment, disk::DiskFile},
        schema::Position,
    };

    /// A file that counts how often it is read.
    #[derive(Debug)]
    struct Counted(File, Arc<AtomicUsize>);

    impl DiskFile for Counted {
        fn metadata(&self) -> io::Result<Metadata> {
            DiskFile::metadata(&self.0)
        }
        fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
            self.1.fetch_add(1, Ordering::Relaxed);
            DiskFile::read_exact_at(&self.0, bytes, offset)
        }
        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            DiskFile::write_all_at(&self.0, bytes, offset)
        }
        fn set_len(&self, length: u64) -> io::Result<()> {
            DiskFile::set_len(&self.0, length)
        }
        fn sync(&self) -> io::Result<()> {
            Ok(())
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

    fn segments(reads: &Arc<AtomicUsize>) -> (Segments, Vec<u8>) {
        let file = Counted(tempfile::tempfile().unwrap(), Arc::clone(reads));
        let bytes: Vec<u8> = (0..RECORDS * APART).map(|at| (at / 7) as u8).collect();
        file.write_all_at(&bytes, SEGMENT_HEADER).unwrap();
        let segment = Segment::create(Box::new(file), [0; 8], 1, Kind::Commits, Position::default()).unwrap();
        segment.set_end(SEGMENT_HEADER + bytes.len() as u64);
        (Arc::new([(1, Arc::new(segment))].into()), bytes)
    }

    #[test]
    fn records_that_follow_each_other_are_read_together_and_others_alone() {
        let reads = Arc::new(AtomicUsize::new(0));
        let (segments, bytes) = segments(&reads);
        let reads_for = |records: &[u32]| {
            let before = reads.load(Ordering::Relaxed);
            let mut ahead = Ahead::default();
            for (index, record) in records.iter().enumerate() {
                let start = (record * APART) as usize;
                let next = records.iter().skip(index + 1).copied().map(location);
                let read = ahead.record(&segments, &location(*record), next).unwrap();
                assert_eq!(read, &bytes[start..start + 1000], "{record}");
                assert!(ahead.bytes.len() <= MOST);
            }
            reads.load(Ordering::Relaxed) - before
        };
        let all: Vec<u32> = (0..RECORDS).collect();
        assert_eq!(reads_for(&all), (RECORDS * APART).div_ceil(MOST as u32) as usize);
        assert_eq!(reads_for(&[0, 1, 2, 7, 8, 9, 10]), 2);
        let reversed: Vec<u32> = all.iter().copied().rev().collect();
        assert_eq!(reads_for(&reversed), RECORDS as usize);
        assert_eq!(reads_for(&[5; 9]), 1);
        // One that is said to follow, and does not exist.
        let mut ahead = Ahead::default();
        let beyond = location(RECORDS);
        assert!(ahead.record(&segments, &location(RECORDS - 1), std::iter::once(beyond)).is_ok());
        assert!(ahead.record(&segments, &beyond, std::iter::empty()).is_err());
    }
}
