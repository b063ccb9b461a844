//! The store in numbers.

use p2pdb_protocol::id::TableId;
use redb::{Error, ReadTransaction, ReadableTable};

use super::schema::{self, TableTotals};

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
