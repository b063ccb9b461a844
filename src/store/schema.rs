//! The tables of the file and the layout of their rows.
//!
//! redb stores integers little-endian and compares them as numbers, tuples and arrays of fixed width as the
//! concatenation of their elements; where this module lays out bytes itself, integers are big-endian. Every
//! change here needs a new [`SCHEMA_VERSION`] and a step in [`super::migrate`].

use std::fmt;

use p2pdb_protocol::{
    bucket::bucket_of,
    codec::strict::Reader,
    entry::Header,
    id::{EntryId, TableId},
    network::Network,
};
use redb::{Error, ReadableTable, TableDefinition};

use super::charge;

/// The version of this layout.
pub(super) const SCHEMA_VERSION: u32 = 1;

/// Key: name # Value: bytes.
///
/// `schema`: [`SCHEMA_VERSION`], u32 (4 bytes). `network`: the `NetworkId` (32 bytes). `store`: the random name
/// of this store in cursors (8 bytes).
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Key: nothing # Value: [`State`], 6 u64.
pub(super) const STATE: TableDefinition<(), StateRow> = TableDefinition::new("state");

/// The fields of [`State`] in their order.
pub(super) type StateRow = [u64; 6];

/// Key: table number # Value: `TableId` (32 bytes) || SPKI DER of the table's key.
pub(super) const TABLES: TableDefinition<u32, &[u8]> = TableDefinition::new("tables");

/// Key: `TableId` # Value: table number, counted from 1 and never given twice.
///
/// A table of which no id is known any longer has no rows here, in [`TABLES`] and in [`TABLE_TOTALS`].
pub(super) const TABLE_NUMBERS: TableDefinition<&[u8; 32], u32> = TableDefinition::new("table_numbers");

/// Key: table number # Value: [`TableTotals`], 4 u64.
pub(super) const TABLE_TOTALS: TableDefinition<u32, [u64; 4]> = TableDefinition::new("table_totals");

/// Key: arrival number, counted from 1 # Value: [`EntryRow`].
pub(super) const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");

/// Key: (table number, `EntryId`) # Value: [`Place`] as (tag u8, u64, u64).
///
/// An id begins with its bucket, so that this is also every bucket's ascending list of ids.
pub(super) const BY_ID: TableDefinition<(u32, &[u8; 32]), (u8, u64, u64)> = TableDefinition::new("by_id");

/// Key: (table number, arrival number) # Value: nothing.
pub(super) const BY_TABLE: TableDefinition<(u32, u64), ()> = TableDefinition::new("by_table");

/// Key: (first 8 bytes of the `RecipientId` as u64, arrival number) # Value: nothing.
///
/// Recipients are not interned: 8 bytes cost hardly more than a number would and need no bookkeeping of which
/// are still in use. Ids that share them only cost a look at the entry, which decides.
pub(super) const BY_RECIPIENT: TableDefinition<(u64, u64), ()> = TableDefinition::new("by_recipient");

/// Key: (table number, score, arrival number) # Value: what the entry is charged, in bytes.
///
/// See [`score`] and [`super::charge`].
pub(super) const BY_SCORE: TableDefinition<(u32, u64, u64), u64> = TableDefinition::new("by_score");

/// Key: (table number, epoch of `created`, arrival number) # Value: nothing.
pub(super) const BY_EPOCH: TableDefinition<(u32, u64, u64), ()> = TableDefinition::new("by_epoch");

/// Key: (`expires`, arrival number) # Value: nothing. Only entries that expire.
pub(super) const BY_EXPIRY: TableDefinition<(u64, u64), ()> = TableDefinition::new("by_expiry");

/// Key: (table number, bucket) # Value: [`Bucket`], 3 u64 and 16 bytes. Only buckets with entries.
pub(super) const BUCKETS: TableDefinition<(u32, u16), BucketRow> = TableDefinition::new("buckets");

/// `count`, `changed`, `digested` and `digest` of a [`Bucket`].
pub(super) type BucketRow = (u64, u64, u64, &'static [u8; 16]);

/// Key: (`forget_at`, table number, `EntryId`) # Value: nothing. Every id that is kept as dropped.
pub(super) const DROPPED: TableDefinition<(u64, u32, &[u8; 32]), ()> = TableDefinition::new("dropped");

/// The counters of the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The next arrival number.
    pub(super) next_arrival: u64,
    /// When the last entry arrived; arrival times never descend, whatever the clock does.
    pub(super) last_received: u64,
    /// Number of the last transaction that changed entries.
    pub(super) change: u64,
    /// What everything stored and dropped is charged for its disk space, in bytes.
    pub(super) charge: u64,
    /// Number of ids kept as dropped.
    pub(super) dropped: u64,
    /// The number of the next table that comes; a u32.
    pub(super) next_table: u64,
}

impl State {
    pub(super) const NEW: Self =
        Self { next_arrival: 1, last_received: 0, change: 0, charge: 0, dropped: 0, next_table: 1 };

    pub(super) const fn to_row(self) -> StateRow {
        [self.next_arrival, self.last_received, self.change, self.charge, self.dropped, self.next_table]
    }

    pub(super) fn read(table: &impl ReadableTable<(), StateRow>) -> Result<Self, Error> {
        let row = table.get(())?.ok_or_else(|| damaged("the row of counters is missing"))?;
        let [next_arrival, last_received, change, charge, dropped, next_table] = row.value();
        Ok(Self { next_arrival, last_received, change, charge, dropped, next_table })
    }

    /// The arrival number of the newest entry ever stored; 0 if there was none.
    pub(super) const fn newest(&self) -> u64 {
        self.next_arrival.saturating_sub(1)
    }
}

/// The counters of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableTotals {
    /// Entries stored.
    pub(super) entries: u64,
    /// The sum of their encoded lengths.
    pub(super) bytes: u64,
    /// What they are charged for their disk space, in bytes.
    pub(super) charge: u64,
    /// The arrival number of the newest entry ever stored.
    pub(super) newest: u64,
}

impl TableTotals {
    pub(super) const fn to_row(self) -> [u64; 4] {
        [self.entries, self.bytes, self.charge, self.newest]
    }

    pub(super) const fn from_row([entries, bytes, charge, newest]: [u64; 4]) -> Self {
        Self { entries, bytes, charge, newest }
    }
}

/// Where a known id is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Tag 0: stored under this arrival number, `created` then.
    Stored { arrival: u64, created: u64 },
    /// The tag is the reason; kept until `forget_at`, `u64::MAX` being for ever. The second number is 0.
    Dropped { reason: DropReason, forget_at: u64 },
}

impl Place {
    pub(super) const fn to_row(self) -> (u8, u64, u64) {
        match self {
            Self::Stored { arrival, created } => (0, arrival, created),
            Self::Dropped { reason, forget_at } => (reason as u8, forget_at, 0),
        }
    }

    pub(super) fn from_row((tag, first, second): (u8, u64, u64)) -> Result<Self, Error> {
        let reason = match tag {
            0 => return Ok(Self::Stored { arrival: first, created: second }),
            1 => DropReason::Expired,
            2 => DropReason::Evicted,
            3 => DropReason::Retracted,
            4 => DropReason::Refused,
            _ => return Err(damaged(format!("an id has the unknown tag {tag}"))),
        };
        Ok(Self::Dropped { reason, forget_at: first })
    }
}

/// Why an id is kept as dropped (SPEC 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum DropReason {
    /// Its `expires` passed.
    Expired = 1,
    /// Its space was needed for entries with more effort per byte.
    Evicted = 2,
    /// Withdrawn, or removed by the operator.
    Retracted = 3,
    /// Refused for a reason that its id commits to.
    Refused = 4,
}

/// The metadata of one bucket of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// Ids stored.
    pub(super) count: u64,
    /// The last [`State::change`] that stored or dropped one of them.
    pub(super) changed: u64,
    /// The value of `changed` that `digest` belongs to; the digest is stale if they differ.
    pub(super) digested: u64,
    /// MD5 of the ascending ids.
    pub(super) digest: [u8; 16],
}

impl Bucket {
    pub(super) const fn as_row(&self) -> (u64, u64, u64, &[u8; 16]) {
        (self.count, self.changed, self.digested, &self.digest)
    }

    pub(super) const fn from_row((count, changed, digested, digest): (u64, u64, u64, &[u8; 16])) -> Self {
        Self { count, changed, digested, digest: *digest }
    }
}

/// A row of [`ENTRIES`]: `received` u64 || `effort` u64 || `created` u64 || table number u32 || `EntryId` ||
/// encoded entry.
///
/// The first 60 bytes let a query pass over an entry without decoding it, and an entry be dropped without
/// computing its id.
#[derive(Debug, Clone, Copy)]
pub(super) struct EntryRow<'a> {
    pub(super) received: u64,
    pub(super) effort: u64,
    pub(super) created: u64,
    pub(super) table_no: u32,
    pub(super) id: EntryId,
    pub(super) encoded: &'a [u8],
}

impl<'a> EntryRow<'a> {
    pub(super) const PREFIX: usize = 60;

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut row = Vec::with_capacity(Self::PREFIX + self.encoded.len());
        row.extend_from_slice(&self.received.to_be_bytes());
        row.extend_from_slice(&self.effort.to_be_bytes());
        row.extend_from_slice(&self.created.to_be_bytes());
        row.extend_from_slice(&self.table_no.to_be_bytes());
        row.extend_from_slice(self.id.as_bytes());
        row.extend_from_slice(self.encoded);
        row
    }

    pub(super) fn parse(row: &'a [u8]) -> Result<Self, Error> {
        fn split(row: &[u8]) -> Option<EntryRow<'_>> {
            let (received, row) = row.split_first_chunk()?;
            let (effort, row) = row.split_first_chunk()?;
            let (created, row) = row.split_first_chunk()?;
            let (table_no, row) = row.split_first_chunk()?;
            let (id, encoded) = row.split_first_chunk()?;
            Some(EntryRow {
                received: u64::from_be_bytes(*received),
                effort: u64::from_be_bytes(*effort),
                created: u64::from_be_bytes(*created),
                table_no: u32::from_be_bytes(*table_no),
                id: EntryId::from_bytes(*id),
                encoded,
            })
        }
        split(row).ok_or_else(|| damaged(format!("an entry's row has only {} bytes", row.len())))
    }

    /// The header alone; that it belongs to the id was checked before the entry came in.
    pub(super) fn header(&self) -> Result<Header, Error> {
        let undecodable =
            |reason: &dyn fmt::Display| damaged(format!("entry {} does not decode: {reason}", self.id));
        let mut reader = Reader::new(self.encoded);
        let header = reader.tuple(4).and_then(|()| reader.bytes(self.encoded.len()));
        Header::decode(header.map_err(|error| undecodable(&error))?).map_err(|refusal| undecodable(&refusal))
    }

    /// Effort per byte; see [`score`].
    pub(super) fn score(&self) -> u64 {
        score(self.effort, self.encoded.len())
    }
}

/// Splits a row of [`TABLES`].
pub(super) fn parse_table(row: &[u8]) -> Result<(TableId, &[u8]), Error> {
    let (id, spki) = row.split_first_chunk().ok_or_else(|| damaged("a table's row is cut off"))?;
    Ok((TableId::from_bytes(*id), spki))
}

/// Everything that an entry's rows are made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) table_no: u32,
    pub(super) arrival: u64,
    pub(super) id: EntryId,
    pub(super) effort: u64,
    pub(super) length: usize,
    pub(super) header: &'a Header,
}

impl Facts<'_> {
    pub(super) fn bucket(&self, network: &Network) -> (u32, u16) {
        (self.table_no, bucket_of(&self.id, network.bucket_bits))
    }

    pub(super) const fn table_key(&self) -> (u32, u64) {
        (self.table_no, self.arrival)
    }

    /// One for each recipient; two are equal if their ids begin alike.
    pub(super) fn recipient_keys(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.header.recipients.iter().map(|key| (recipient_prefix(key.recipient.as_bytes()), self.arrival))
    }

    pub(super) fn score_key(&self) -> (u32, u64, u64) {
        (self.table_no, score(self.effort, self.length), self.arrival)
    }

    pub(super) fn epoch_key(&self, network: &Network) -> (u32, u64, u64) {
        (self.table_no, network.epoch(self.header.created), self.arrival)
    }

    /// What the entry is charged for its space on the disk, in bytes.
    pub(super) fn charge(&self) -> u64 {
        charge::of_entry(self.length, self.header.recipients.len())
    }

    pub(super) fn expiry_key(&self) -> Option<(u64, u64)> {
        self.header.expires.map(|expires| (expires, self.arrival))
    }
}

/// The first 8 bytes of a recipient's id, as they stand in [`BY_RECIPIENT`].
pub(super) fn recipient_prefix(id: &[u8; 32]) -> u64 {
    id.first_chunk().map_or(0, |prefix| u64::from_be_bytes(*prefix))
}

/// Effort per byte as a fixed-point number with 16 fractional bits: who has least is evicted first.
pub(super) fn score(effort: u64, length: usize) -> u64 {
    let score = (u128::from(effort) << 16) / (length.max(1) as u128);
    u64::try_from(score).unwrap_or(u64::MAX)
}

/// An error for rows that contradict this module.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::Corrupted(what.into())
}
