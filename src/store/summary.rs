//! The store in numbers.

use p2pdb_protocol::id::{EntryId, TableId};
use redb::Error;

use super::{
    live::{Live, LiveTable},
    schema::Place,
    view::View,
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
    /// Length of the index file and the log, in bytes; the index grows by doubling and may have holes.
    pub file_bytes: u64,
    /// What they take on the disk, in bytes.
    pub disk_bytes: u64,
}

/// Every table with its counters.
pub(super) fn summaries(live: &Live) -> Vec<TableSummary> {
    let summary = |LiveTable { id, totals, .. }: &LiveTable| TableSummary {
        table: *id,
        entries: totals.entries,
        bytes: totals.bytes,
        newest_arrival: totals.newest,
    };
    live.tables.values().map(summary).collect()
}

/// The store in numbers, without those of its files.
pub(super) fn stats(live: &Live) -> Stats {
    let mut stats = Stats {
        tables: live.tables.len() as u64,
        dropped: live.state.dropped,
        newest_arrival: live.state.newest(),
        charged_bytes: live.state.charge,
        ..Stats::default()
    };
    for table in live.tables.values() {
        stats.entries += table.totals.entries;
        stats.bytes += table.totals.bytes;
    }
    stats
}

/// What is known of each id, in order.
pub(super) fn presences(view: &View<'_>, table: &TableId, ids: &[EntryId]) -> Result<Vec<Presence>, Error> {
    let table_no = view.live().number_of(table);
    let Some(table_no) = table_no else { return Ok(vec![Presence::Unknown; ids.len()]) };
    let presence = |id: &EntryId| match view.place(table_no, *id)? {
        None => Ok(Presence::Unknown),
        Some(Place::Stored { .. }) => Ok(Presence::Stored),
        Some(Place::Dropped { .. }) => Ok(Presence::Dropped),
    };
    ids.iter().map(presence).collect()
}
