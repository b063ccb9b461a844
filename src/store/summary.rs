//! The store in numbers.

use p2pdb_protocol::id::{EntryId, TableId};
use redb::{Error, ReadTransaction, ReadableTable};

use super::{
    index::number_of,
    schema::{self, Place, State, TableTotals},
};

/// What the store knows of an id (SPEC 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// Nothing.
    Unknown,
    /// It is stored.
    Stored,
    /// It was dropped on purpose.
    Dropped,
}

/// A table in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableSummary {
    /// The table.
    pub table: TableId,
    /// Entries stored.
    pub entries: u64,
    /// The sum of their encoded lengths.
    pub bytes: u64,
    /// The arrival number of the newest entry ever stored; 0 if there was none.
    pub newest_arrival: u64,
}

/// The store in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Entries stored.
    pub entries: u64,
    /// The sum of their encoded lengths.
    pub bytes: u64,
    /// Tables known.
    pub tables: u64,
    /// Ids kept as dropped.
    pub dropped: u64,
    /// The arrival number of the newest entry ever stored; 0 if there was none.
    pub newest_arrival: u64,
    /// What entries and dropped ids are charged for their space, in bytes.
    pub charged_bytes: u64,
    /// Length of the file, in bytes; it grows by doubling and may have holes.
    pub file_bytes: u64,
    /// What the file takes on the disk, in bytes.
    pub disk_bytes: u64,
}

/// Every table with its counters.
pub(super) fn summaries(txn: &ReadTransaction) -> Result<Vec<TableSummary>, Error> {
    let totals = txn.open_table(schema::TABLE_TOTALS)?;
    let mut summaries = Vec::new();
    for row in txn.open_table(schema::TABLES)?.iter()? {
        let (table_no, row) = row?;
        let (table, _) = schema::parse_table(row.value())?;
        let totals = totals.get(table_no.value())?.map(|row| TableTotals::from_row(row.value()));
        let TableTotals { entries, bytes, newest, .. } = totals.unwrap_or_default();
        summaries.push(TableSummary { table, entries, bytes, newest_arrival: newest });
    }
    Ok(summaries)
}

/// The store in numbers, without those of its file.
pub(super) fn stats(txn: &ReadTransaction) -> Result<Stats, Error> {
    let state = State::read(&txn.open_table(schema::STATE)?)?;
    let mut stats = Stats {
        dropped: state.dropped,
        newest_arrival: state.newest(),
        charged_bytes: state.charge,
        ..Stats::default()
    };
    for table in summaries(txn)? {
        stats.tables += 1;
        stats.entries += table.entries;
        stats.bytes += table.bytes;
    }
    Ok(stats)
}

/// What is known of each id, in order.
pub(super) fn presences(
    txn: &ReadTransaction,
    table: &TableId,
    ids: &[EntryId],
) -> Result<Vec<Presence>, Error> {
    let Some(table_no) = number_of(txn, table)? else { return Ok(vec![Presence::Unknown; ids.len()]) };
    let places = txn.open_table(schema::BY_ID)?;
    let presence = |id: &EntryId| match places.get((table_no, id.as_bytes()))? {
        None => Ok(Presence::Unknown),
        Some(row) => Ok(match Place::from_row(row.value())? {
            Place::Stored { .. } => Presence::Stored,
            Place::Dropped { .. } => Presence::Dropped,
        }),
    };
    ids.iter().map(presence).collect()
}
