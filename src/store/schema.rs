//! The tables of the file and the layout of their rows.
//!
//! redb stores integers little-endian and compares them as numbers, tuples and arrays of fixed width as the
//! concatenation of their elements; where this module lays out bytes itself, integers are big-endian. Every
//! change here needs a new [`SCHEMA_VERSION`] and a step in [`super::migrate`].

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::sketch::{Group, Summary},
};
use redb::{Error, ReadableTable, TableDefinition};

/// The version of this layout.
pub(super) const SCHEMA_VERSION: u32 = 2;

/// Key: name # Value: bytes.
///
/// `schema`: [`SCHEMA_VERSION`], u32 (4 bytes). `network`: the `NetworkId` (32 bytes). `store`: the random name
/// of this store in cursors and in the log (8 bytes). `migrating`: there while a migration is unfinished, the
/// version it leads to, u32 (4 bytes).
pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

/// Key: nothing # Value: [`State`], 8 u64.
pub(super) const STATE: TableDefinition<(), StateRow> = TableDefinition::new("counters");

/// The fields of [`State`] in their order.
pub(super) type StateRow = [u64; 8];

/// Key: table number # Value: `TableId` (32 bytes) || SPKI DER of the table's key.
pub(super) const TABLES: TableDefinition<u32, &[u8]> = TableDefinition::new("tables");

/// Key: `TableId` # Value: table number, counted from 1 and never given twice.
///
/// A table of which no id is known any longer has no rows here, in [`TABLES`] and in [`TABLE_TOTALS`].
pub(super) const TABLE_NUMBERS: TableDefinition<&[u8; 32], u32> = TableDefinition::new("table_numbers");

/// Key: table number # Value: [`TableTotals`], 4 u64.
pub(super) const TABLE_TOTALS: TableDefinition<u32, [u64; 4]> = TableDefinition::new("totals");

/// Key: arrival number, counted from 1 # Value: [`Location`](super::record::Location).
pub(super) const LOCATIONS: TableDefinition<u64, LocationRow> = TableDefinition::new("locations");

/// The fields of a [`Location`](super::record::Location) in their order.
pub(super) type LocationRow = (u32, u32, u32, u32, u8);

/// Key: segment of the log # Value: bytes of its records that are stored, and where its frames end. Only segments
/// with stored entries.
pub(super) const SEGMENTS: TableDefinition<u32, (u64, u64)> = TableDefinition::new("segments");

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

/// Key: (table number, [class](super::record::class), arrival number) # Value: nothing.
pub(super) const BY_CLASS: TableDefinition<(u32, u16, u64), ()> = TableDefinition::new("by_class");

/// Key: (table number, epoch of `created`, arrival number) # Value: `EntryId`. A cell's ids without its entries.
pub(super) const BY_EPOCH: TableDefinition<(u32, u64, u64), &[u8; 32]> = TableDefinition::new("cells");

/// Key: arrival time # Value: the first arrival number of that second.
pub(super) const BY_RECEIVED: TableDefinition<u64, u64> = TableDefinition::new("by_received");

/// Key: (`expires`, arrival number) # Value: nothing. Only entries that expire.
pub(super) const BY_EXPIRY: TableDefinition<(u64, u64), ()> = TableDefinition::new("by_expiry");

/// Key: (table number, bucket) # Value: [`Bucket`], 3 u64 and 16 bytes. Only buckets with entries.
pub(super) const BUCKETS: TableDefinition<(u32, u16), BucketRow> = TableDefinition::new("buckets");

/// `count`, `changed`, `digested` and `digest` of a [`Bucket`].
pub(super) type BucketRow = (u64, u64, u64, &'static [u8; 16]);

/// Key: (table number, epoch of `created`) # Value: a row of [`Summary`]. Only cells with entries.
pub(super) const SUMMARIES: TableDefinition<(u32, u64), &[u8; Summary::ROW_BYTES]> =
    TableDefinition::new("summaries");

/// Key: (table number, epoch of `created`, 12 less the level in the upper 4 bits, and the group) # Value: a row of [`Group`].
/// Only cells that have some ids, see [`super::sketch`], and groups with entries.
pub(super) const GROUPS: TableDefinition<(u32, u64, u16), &[u8; Group::ROW_BYTES]> =
    TableDefinition::new("groups");

/// Key: (`forget_at`, table number, `EntryId`) # Value: nothing. Every id that is kept as dropped.
pub(super) const DROPPED: TableDefinition<(u64, u32, &[u8; 32]), ()> = TableDefinition::new("dropped");

/// The counters of the whole store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    /// The next arrival number; in the file, the mark up to which the log is merged into the indexes.
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
    /// The same mark as a place in the log.
    pub(super) position: Position,
}

/// A place in the log: behind the last frame of a segment, or 0 before the first segment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

impl State {
    pub(super) const NEW: Self = Self {
        next_arrival: 1,
        last_received: 0,
        change: 0,
        charge: 0,
        dropped: 0,
        next_table: 1,
        position: Position { segment: 0, offset: 0 },
    };

    pub(super) const fn to_row(self) -> StateRow {
        let Self { next_arrival, last_received, change, charge, dropped, next_table, position } = self;
        let Position { segment, offset } = position;
        [next_arrival, last_received, change, charge, dropped, next_table, segment as u64, offset]
    }

    pub(super) fn read(table: &impl ReadableTable<(), StateRow>) -> Result<Self, Error> {
        let row = table.get(())?.ok_or_else(|| damaged("the row of counters is missing"))?;
        let [next_arrival, last_received, change, charge, dropped, next_table, segment, offset] = row.value();
        let segment =
            u32::try_from(segment).map_err(|_| damaged(format!("there is no segment {segment}")))?;
        let position = Position { segment, offset };
        Ok(Self { next_arrival, last_received, change, charge, dropped, next_table, position })
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
        match tag {
            0 => Ok(Self::Stored { arrival: first, created: second }),
            _ => Ok(Self::Dropped { reason: DropReason::from_tag(tag)?, forget_at: first }),
        }
    }
}

/// Why an id is kept as dropped (SPEC 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum DropReason {
    /// Its `expires` passed.
    Expired = 1,
    /// Its space was needed for entries with more effort per byte.
    Evicted = 2,
    /// Withdrawn by its own poster, who has not put it to any node.
    Retracted = 3,
    /// Refused for a reason that its id commits to. Nothing is any longer; files of version 1 may have such ids.
    Refused = 4,
}

impl DropReason {
    pub(super) fn from_tag(tag: u8) -> Result<Self, Error> {
        match tag {
            1 => Ok(Self::Expired),
            2 => Ok(Self::Evicted),
            3 => Ok(Self::Retracted),
            4 => Ok(Self::Refused),
            _ => Err(damaged(format!("an id has the unknown tag {tag}"))),
        }
    }
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

/// Where an id is; one whose row makes no sense is left alone, as if it were dropped for ever.
pub(super) fn place(
    by_id: &impl ReadableTable<(u32, &'static [u8; 32]), (u8, u64, u64)>,
    table_no: u32,
    id: &EntryId,
) -> Result<Option<Place>, Error> {
    let Some(row) = by_id.get((table_no, id.as_bytes()))? else { return Ok(None) };
    Ok(Some(Place::from_row(row.value()).unwrap_or_else(|error| {
        tracing::error!(%id, %error, "an id is passed over");
        Place::Dropped { reason: DropReason::Refused, forget_at: u64::MAX }
    })))
}

/// Splits a row of [`TABLES`].
pub(super) fn parse_table(row: &[u8]) -> Result<(TableId, &[u8]), Error> {
    let (id, spki) = row.split_first_chunk().ok_or_else(|| damaged("a table's row is cut off"))?;
    Ok((TableId::from_bytes(*id), spki))
}

/// An error for rows that contradict this module.
pub(super) fn damaged(what: impl Into<String>) -> Error {
    Error::Corrupted(what.into())
}
