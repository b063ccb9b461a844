//! Segments: the files of the log.
//!
//! ```text
//! 0   "p2pdblog"
//! 8   version u32, 1
//! 12  number of the segment u32
//! 16  name of the store, 8 bytes
//! 24  kind u32: 1 frames as they were committed, 2 records that were moved here
//! 28  of kind 1: number of the segment before u32 (0: there was none)
//! 32  and where its last frame ended u64
//! 40  0, 8 bytes
//! 48  the first 16 bytes of SHA-256 of all that
//! 64  frames
//! ```

use std::{
    io,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use redb::Error;
use sha2::{Digest as _, Sha256};

use super::{
    disk::DiskFile,
    frame::{FRAME_HEADER, Frame, sum},
};
use crate::store::schema::{Position, damaged};

/// Bytes before the first frame.
pub(in crate::store) const SEGMENT_HEADER: u64 = 64;

const MAGIC: &[u8; 8] = b"p2pdblog";
const VERSION: u32 = 1;

/// What a segment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::store) enum Kind {
    /// Frames in the order in which they were committed; those behind the mark are replayed at opening.
    Commits = 1,
    /// Records that were moved here so that their segment could be deleted.
    Moved = 2,
}

/// An open segment.
#[derive(Debug)]
pub(in crate::store) struct Segment {
    pub(in crate::store) number: u32,
    pub(in crate::store) kind: Kind,
    /// Where the segment before ended.
    pub(super) previous: Position,
    pub(super) file: Box<dyn DiskFile>,
    /// Where the last whole frame ends.
    end: AtomicU64,
}

impl Segment {
    /// A new segment in an empty file; its header is durable.
    pub(in crate::store) fn create(
        file: Box<dyn DiskFile>,
        store: [u8; 8],
        number: u32,
        kind: Kind,
        previous: Position,
    ) -> io::Result<Self> {
        let mut header = Vec::with_capacity(SEGMENT_HEADER as usize);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_be_bytes());
        header.extend_from_slice(&number.to_be_bytes());
        header.extend_from_slice(&store);
        header.extend_from_slice(&(kind as u32).to_be_bytes());
        header.extend_from_slice(&previous.segment.to_be_bytes());
        header.extend_from_slice(&previous.offset.to_be_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend(Sha256::digest(&header).iter().take(16));
        file.write_all_at(&header, 0)?;
        file.sync()?;
        Ok(Self { number, kind, previous, file, end: AtomicU64::new(SEGMENT_HEADER) })
    }

    /// Takes up a file; nothing if it was killed before its header was written.
    pub(super) fn open(
        file: Box<dyn DiskFile>,
        store: [u8; 8],
        number: u32,
        path: &Path,
    ) -> Result<Option<Self>, Error> {
        let length = file.metadata()?.len();
        let wrong = |what: &str| damaged(format!("{} {what}", path.display()));
        let mut header = [0; SEGMENT_HEADER as usize];
        if length < SEGMENT_HEADER {
            return Ok(None);
        }
        file.read_exact_at(&mut header, 0)?;
        let (said, sum) = header.split_at(48);
        if Sha256::digest(said).iter().take(16).ne(sum) {
            // The header is durable before the first frame is written.
            return if length == SEGMENT_HEADER { Ok(None) } else { Err(wrong("has no header")) };
        }
        let (fields, _) = said.as_chunks::<4>();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        let number_at = |index| u32::from_be_bytes(field(index));
        let kind = match number_at(6) {
            1 => Kind::Commits,
            2 => Kind::Moved,
            kind => return Err(wrong(&format!("is of the unknown kind {kind}"))),
        };
        if number_at(2) != VERSION {
            return Err(wrong(&format!("has version {}, expected {VERSION}", number_at(2))));
        }
        if number_at(3) != number || [field(4), field(5)].concat() != store {
            return Err(wrong("is a segment of another store or place"));
        }
        let offset = u64::from(number_at(8)) << 32 | u64::from(number_at(9));
        let previous = Position { segment: number_at(7), offset };
        Ok(Some(Self { number, kind, previous, file, end: AtomicU64::new(length) }))
    }

    pub(in crate::store) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Bytes of its file: as much as [`Self::end`], with what a torn or failed write left behind it.
    pub(in crate::store) fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    pub(in crate::store) fn set_end(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    /// Some bytes, which must lie before the end.
    pub(in crate::store) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.end()) {
            return Err(damaged(format!(
                "segment {} ends at {}, expected {length} bytes at {offset}",
                self.number,
                self.end()
            )));
        }
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The frame at `offset` if it is whole and ends at `limit` at most.
    pub(in crate::store) fn frame(
        &self,
        store: [u8; 8],
        offset: u64,
        limit: u64,
    ) -> Result<Option<Frame>, Error> {
        let Some(length) = self.length_at(offset, limit)? else { return Ok(None) };
        let header = self.read(offset, FRAME_HEADER)?;
        let payload = self.read(offset + FRAME_HEADER as u64, length)?;
        let is_whole = header.get(4..) == Some(&sum(store, self.number, offset, &payload)[..]);
        Ok(is_whole.then_some(Frame { offset, payload }))
    }

    /// The length that the frame at `offset` says its payload has, if that is possible.
    fn length_at(&self, offset: u64, limit: u64) -> Result<Option<usize>, Error> {
        let room = limit.min(self.end()).saturating_sub(offset);
        if room < FRAME_HEADER as u64 {
            return Ok(None);
        }
        let length = self.read(offset, 4)?.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
        // Each has a time, so that zeros are none.
        Ok((length >= 8 && u64::from(length) <= room - FRAME_HEADER as u64).then_some(length as usize))
    }
}
