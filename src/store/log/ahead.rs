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
    /// Up to here the records of the segment are read alone: together they cannot be read.
    alone: u64,
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
            if self.segment != location.segment {
                *self = Self { segment: location.segment, ..Self::default() };
            }
            let run = if offset < self.alone { length } else { run(location, next) };
            self.bytes.clear();
            self.offset = offset;
            self.bytes = match segment.read(offset, run) {
                // What lies further on must not keep this one from being read.
                Err(_) if run > length => {
                    self.alone = offset + run as u64;
                    segment.read(offset, length)?
                }
                read => read?,
            };
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
