//! Frames: what is written to the log at once, and is there as a whole or not at all.
//!
//! ```text
//! 0   length of the payload, u32
//! 4   sum, 16 bytes: the first of SHA-256(name of the store || segment u32 || offset of the frame u64 || length || payload)
//! 20  payload: arrival time u64, then items
//!       1 || table number u32 || TableId || length of the SPKI u32 || SPKI
//!       2 || table number u32 || EntryId || reason u8
//!       3 || record
//! ```
//!
//! The sum says that a frame was written to the end, and that it was written here: what lay in the blocks of the disk
//! before, or is a frame only within somebody's entry, is none.

use p2pdb_protocol::id::{EntryId, TableId};
use redb::Error;
use sha2::{Digest as _, Sha256};

use crate::store::{
    record::Facts,
    schema::{DropReason, damaged},
};

/// Bytes before the payload.
pub(in crate::store) const FRAME_HEADER: usize = 20;
/// Bytes before the first item of a payload.
const PAYLOAD_HEADER: usize = 8;

const TABLE: u8 = 1;
const DROP: u8 = 2;
const ENTRY: u8 = 3;

/// A frame that is being made.
pub(in crate::store) struct FrameWriter(Vec<u8>);

impl FrameWriter {
    /// A frame of what arrived at this time.
    pub(in crate::store) fn new(received: u64) -> Self {
        let mut bytes = vec![0; FRAME_HEADER];
        bytes.extend_from_slice(&received.to_be_bytes());
        Self(bytes)
    }

    /// Bytes so far.
    pub(in crate::store) const fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::store) fn table(&mut self, number: u32, table: &TableId, spki: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(spki.len()).map_err(|_| damaged("a table's key is too long"))?;
        self.0.push(TABLE);
        self.0.extend_from_slice(&number.to_be_bytes());
        self.0.extend_from_slice(table.as_bytes());
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(spki);
        Ok(())
    }

    pub(in crate::store) fn dropped(&mut self, table_no: u32, id: &EntryId, reason: DropReason) {
        self.0.push(DROP);
        self.0.extend_from_slice(&table_no.to_be_bytes());
        self.0.extend_from_slice(id.as_bytes());
        self.0.push(reason as u8);
    }

    /// Adds an entry; gives the place of its record, counted from the begin of the frame.
    pub(in crate::store) fn entry(&mut self, facts: &Facts, encoded: &[u8]) -> usize {
        self.0.push(ENTRY);
        let record = self.0.len();
        facts.write(&mut self.0);
        self.0.extend_from_slice(encoded);
        record
    }

    /// Adds a record that is moved, likewise.
    pub(in crate::store) fn record(&mut self, record: &[u8]) -> usize {
        self.0.push(ENTRY);
        self.0.extend_from_slice(record);
        self.0.len() - record.len()
    }

    /// The finished frame, for this place.
    pub(super) fn seal(mut self, store: [u8; 8], segment: u32, offset: u64) -> Result<Vec<u8>, Error> {
        let length = self.0.len() - FRAME_HEADER;
        let length = u32::try_from(length).map_err(|_| damaged(format!("a frame has {length} bytes")))?;
        let payload = self.0.get(FRAME_HEADER..).unwrap_or_default();
        let sum = sum(store, segment, offset, payload);
        if let Some(header) = self.0.get_mut(..FRAME_HEADER) {
            let (to_length, to_sum) = header.split_at_mut(4);
            to_length.copy_from_slice(&length.to_be_bytes());
            to_sum.copy_from_slice(&sum);
        }
        Ok(self.0)
    }
}

/// The sum of a frame.
pub(super) fn sum(store: [u8; 8], segment: u32, offset: u64, payload: &[u8]) -> [u8; 16] {
    let hash = Sha256::new()
        .chain_update(store)
        .chain_update(segment.to_be_bytes())
        .chain_update(offset.to_be_bytes())
        .chain_update((payload.len() as u64).to_be_bytes())
        .chain_update(payload)
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

/// A whole frame.
pub(in crate::store) struct Frame {
    /// Of the frame in its segment.
    pub(in crate::store) offset: u64,
    pub(super) payload: Vec<u8>,
}

/// What a frame holds.
pub(in crate::store) enum Item<'a> {
    Table {
        number: u32,
        table: TableId,
        spki: &'a [u8],
    },
    Dropped {
        table_no: u32,
        id: EntryId,
        reason: DropReason,
    },
    /// With the place of the record in the segment, and the record.
    Entry {
        facts: Facts,
        offset: u64,
        record: &'a [u8],
    },
}

impl Frame {
    /// Where the next frame begins.
    pub(in crate::store) const fn end(&self) -> u64 {
        self.offset + FRAME_HEADER as u64 + self.payload.len() as u64
    }

    pub(in crate::store) fn received(&self) -> u64 {
        self.payload.first_chunk().map_or(0, |received| u64::from_be_bytes(*received))
    }

    /// What it holds, in order.
    pub(in crate::store) fn items(&self) -> impl Iterator<Item = Result<Item<'_>, Error>> {
        let mut rest = self.payload.get(PAYLOAD_HEADER..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (tag, items) = rest.split_first()?;
            let item = self.item(*tag, items);
            rest = item.as_ref().map_or(&[], |(_, rest)| rest);
            Some(item.map(|(item, _)| item))
        })
    }

    fn item<'a>(&'a self, tag: u8, bytes: &'a [u8]) -> Result<(Item<'a>, &'a [u8]), Error> {
        let cut_off = || damaged("an item of a frame is cut off");
        let number =
            |bytes: &'a [u8]| bytes.split_first_chunk().map(|(no, rest)| (u32::from_be_bytes(*no), rest));
        match tag {
            TABLE => {
                let (number, rest) = number(bytes).ok_or_else(cut_off)?;
                let (table, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
                let (length, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
                let (spki, rest) =
                    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(cut_off)?;
                Ok((Item::Table { number, table: TableId::from_bytes(*table), spki }, rest))
            }
            DROP => {
                let (table_no, rest) = number(bytes).ok_or_else(cut_off)?;
                let (id, rest) = rest.split_first_chunk().ok_or_else(cut_off)?;
                let (reason, rest) = rest.split_first().ok_or_else(cut_off)?;
                let reason = DropReason::from_tag(*reason)?;
                Ok((Item::Dropped { table_no, id: EntryId::from_bytes(*id), reason }, rest))
            }
            ENTRY => {
                let (facts, rest) = Facts::parse(bytes)?;
                let (_, rest) = rest.split_at_checked(facts.length as usize).ok_or_else(cut_off)?;
                let (record, _) = bytes.split_at_checked(bytes.len() - rest.len()).ok_or_else(cut_off)?;
                let offset = self.end() - bytes.len() as u64;
                Ok((Item::Entry { facts, offset, record }, rest))
            }
            _ => Err(damaged(format!("a frame has an item of the unknown kind {tag}"))),
        }
    }
}
