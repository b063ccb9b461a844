//! The record of a stored entry in the log, and where it is.

use p2pdb_protocol::{bucket::bucket_of, entry::Entry, id::EntryId, network::Network};
use redb::Error;

use super::{
    charge,
    schema::{LocationRow, Place, damaged},
};

/// Where the record of a stored entry is, and what can be said of it without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) table_no: u32,
    pub(super) segment: u32,
    /// Of the record in its segment.
    pub(super) offset: u32,
    /// Of the encoded entry, in bytes.
    pub(super) length: u32,
    /// Rows by recipient.
    pub(super) recipients: u8,
}

impl Location {
    pub(super) const fn to_row(self) -> LocationRow {
        (self.table_no, self.segment, self.offset, self.length, self.recipients)
    }

    pub(super) const fn from_row((table_no, segment, offset, length, recipients): LocationRow) -> Self {
        Self { table_no, segment, offset, length, recipients }
    }

    /// Bytes of the record.
    pub(super) const fn record_length(&self) -> usize {
        Facts::FIXED + 8 * self.recipients as usize + self.length as usize
    }

    /// What the entry is charged for its space on the disk, in bytes.
    pub(super) const fn charge(&self) -> u64 {
        charge::of_entry(self.length as usize, self.recipients as usize)
    }
}

/// Everything that an entry's rows are made of; it stands before the entry in its record in the log.
///
/// A record is: arrival number u64 || arrival time u64 || effort u64 || `created` u64 || `expires` u64, 0 being never ||
/// table number u32 || `EntryId` || length of the encoded entry u32 || number n of recipients u8 || n times the first 8
/// bytes of a `RecipientId`, strictly ascending || encoded entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) arrival: u64,
    pub(super) received: u64,
    pub(super) effort: u64,
    pub(super) created: u64,
    pub(super) expires: Option<u64>,
    pub(super) table_no: u32,
    pub(super) id: EntryId,
    pub(super) length: u32,
    pub(super) recipients: Vec<u64>,
}

impl Facts {
    /// Length of a record without recipients and entry.
    pub(super) const FIXED: usize = 81;

    /// The facts of an entry that arrives.
    pub(super) fn of(entry: &Entry, table_no: u32, arrival: u64, received: u64) -> Result<Self, Error> {
        let (header, length) = (entry.header(), entry.encoded().len());
        let mut recipients: Vec<_> =
            header.recipients.iter().map(|key| recipient_prefix(key.recipient.as_bytes())).collect();
        // Two are equal if their ids begin alike.
        recipients.sort_unstable();
        recipients.dedup();
        Ok(Self {
            arrival,
            received,
            effort: entry.effort(),
            created: header.created,
            expires: header.expires,
            table_no,
            id: entry.id(),
            length: u32::try_from(length).map_err(|_| damaged(format!("an entry has {length} bytes")))?,
            recipients,
        })
    }

    /// Appends everything of a record but its entry.
    pub(super) fn write(&self, record: &mut Vec<u8>) {
        record.extend_from_slice(&self.arrival.to_be_bytes());
        record.extend_from_slice(&self.received.to_be_bytes());
        record.extend_from_slice(&self.effort.to_be_bytes());
        record.extend_from_slice(&self.created.to_be_bytes());
        record.extend_from_slice(&self.expires.unwrap_or(0).to_be_bytes());
        record.extend_from_slice(&self.table_no.to_be_bytes());
        record.extend_from_slice(self.id.as_bytes());
        record.extend_from_slice(&self.length.to_be_bytes());
        record.push(self.recipient_count());
        for prefix in &self.recipients {
            record.extend_from_slice(&prefix.to_be_bytes());
        }
    }

    /// Splits the start of a record into its facts and what follows them.
    pub(super) fn parse(record: &[u8]) -> Result<(Self, &[u8]), Error> {
        fn split(record: &[u8]) -> Option<(Facts, &[u8])> {
            let (arrival, record) = record.split_first_chunk()?;
            let (received, record) = record.split_first_chunk()?;
            let (effort, record) = record.split_first_chunk()?;
            let (created, record) = record.split_first_chunk()?;
            let (expires, record) = record.split_first_chunk()?;
            let (table_no, record) = record.split_first_chunk()?;
            let (id, record) = record.split_first_chunk()?;
            let (length, record) = record.split_first_chunk()?;
            let (count, record) = record.split_first()?;
            let (prefixes, rest) = record.split_at_checked(8 * usize::from(*count))?;
            let facts = Facts {
                arrival: u64::from_be_bytes(*arrival),
                received: u64::from_be_bytes(*received),
                effort: u64::from_be_bytes(*effort),
                created: u64::from_be_bytes(*created),
                expires: Some(u64::from_be_bytes(*expires)).filter(|expires| *expires > 0),
                table_no: u32::from_be_bytes(*table_no),
                id: EntryId::from_bytes(*id),
                length: u32::from_be_bytes(*length),
                recipients: prefixes.as_chunks().0.iter().map(|prefix| u64::from_be_bytes(*prefix)).collect(),
            };
            Some((facts, rest))
        }
        split(record).ok_or_else(|| damaged(format!("a record has only {} bytes", record.len())))
    }

    fn recipient_count(&self) -> u8 {
        u8::try_from(self.recipients.len()).unwrap_or(u8::MAX)
    }

    /// Where the entry is, if its record lies there.
    pub(super) fn at(&self, segment: u32, offset: u32) -> Location {
        let (table_no, length, recipients) = (self.table_no, self.length, self.recipient_count());
        Location { table_no, segment, offset, length, recipients }
    }

    pub(super) fn bucket(&self, network: &Network) -> (u32, u16) {
        (self.table_no, bucket_of(&self.id, network.bucket_bits))
    }

    pub(super) const fn table_key(&self) -> (u32, u64) {
        (self.table_no, self.arrival)
    }

    pub(super) fn recipient_keys(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.recipients.iter().map(|prefix| (*prefix, self.arrival))
    }

    pub(super) const fn class_key(&self) -> (u32, u16, u64) {
        (self.table_no, class(self.effort, self.length), self.arrival)
    }

    pub(super) fn epoch_key(&self, network: &Network) -> (u32, u64, u64) {
        (self.table_no, network.epoch(self.created), self.arrival)
    }

    /// Table number and epoch.
    pub(super) fn cell(&self, network: &Network) -> (u32, u64) {
        (self.table_no, network.epoch(self.created))
    }

    pub(super) fn expiry_key(&self) -> Option<(u64, u64)> {
        self.expires.map(|expires| (expires, self.arrival))
    }

    /// Where the id is.
    pub(super) const fn place(&self) -> Place {
        Place::Stored { arrival: self.arrival, created: self.created }
    }
}

/// The first 8 bytes of a recipient's id, as they stand in [`BY_RECIPIENT`].
pub(super) fn recipient_prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |prefix| u64::from_be_bytes(*prefix))
}

/// The class of an entry: the exponent of its effort per byte to base 2, and the first three bits of its fraction, 512
/// being one hash per byte. Who is in the lowest is evicted first, and in a class the oldest: entries that cost about
/// the same lie side by side, so that they go together.
pub(super) const fn class(effort: u64, length: u32) -> u16 {
    let length = if length == 0 { 1 } else { length as u128 };
    // Effort per byte with 64 fractional bits.
    let score = ((effort as u128) << 64) / length;
    let Some(log) = score.checked_ilog2() else { return 0 };
    let fraction = if log >= 3 { score >> (log - 3) } else { score << (3 - log) } & 7;
    (log as u16) << 3 | fraction as u16
}
