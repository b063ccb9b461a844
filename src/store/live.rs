//! What is true right now, in memory: the counters, the tables, and the sketches of their cells.
//!
//! It is what the file says, with everything in the log behind its mark. The writer changes it with every commit, the
//! merger with what it drops.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::sketch::{Element, Summary},
};
use redb::{Error, ReadTransaction, ReadableTable};

use super::{
    Settings, charge,
    record::{Facts, Location},
    retention::Swept,
    schema::{self, State, TableTotals, parse_table},
    sketch::{self, Cell},
};

/// A table in memory.
#[derive(Debug, Clone)]
pub(super) struct LiveTable {
    pub(super) id: TableId,
    pub(super) spki: Bytes,
    pub(super) totals: TableTotals,
}

/// The store as it is.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) state: State,
    pub(super) tables: BTreeMap<u32, LiveTable>,
    numbers: HashMap<TableId, u32>,
    pub(super) cells: BTreeMap<Cell, Summary>,
    /// What merges dropped since somebody asked for a sweep.
    pub(super) swept: Swept,
}

impl Live {
    /// As a snapshot has it.
    pub(super) fn load(txn: &ReadTransaction) -> Result<Self, Error> {
        let state = State::read(&txn.open_table(schema::STATE)?)?;
        let mut live = Self {
            state,
            tables: BTreeMap::new(),
            numbers: HashMap::new(),
            cells: sketch::load(txn)?,
            swept: Swept::default(),
        };
        let totals = txn.open_table(schema::TABLE_TOTALS)?;
        for row in txn.open_table(schema::TABLES)?.iter()? {
            let (table_no, row) = row?;
            match parse_table(row.value()) {
                Ok((id, spki)) => {
                    live.add_table(table_no.value(), id, Bytes::copy_from_slice(spki));
                    if let (Some(row), Some(table)) =
                        (totals.get(table_no.value())?, live.tables.get_mut(&table_no.value()))
                    {
                        table.totals = TableTotals::from_row(row.value());
                    }
                }
                Err(error) => tracing::error!(%error, "a table is passed over"),
            }
        }
        Ok(live)
    }

    pub(super) fn number_of(&self, table: &TableId) -> Option<u32> {
        self.numbers.get(table).copied()
    }

    /// Notes a table, if it is not there.
    pub(super) fn add_table(&mut self, number: u32, id: TableId, spki: Bytes) {
        self.state.next_table = self.state.next_table.max(u64::from(number) + 1);
        self.numbers.insert(id, number);
        self.tables.entry(number).or_insert(LiveTable { id, spki, totals: TableTotals::default() });
    }

    /// Forgets a table of which nothing is known.
    fn remove_table(&mut self, number: u32) {
        if let Some(table) = self.tables.remove(&number) {
            self.numbers.remove(&table.id);
        }
    }

    /// Counts an entry that came.
    pub(super) fn stored(&mut self, facts: &Facts, location: &Location) {
        let charge = location.charge();
        if let Some(LiveTable { totals, .. }) = self.tables.get_mut(&facts.table_no) {
            totals.entries += 1;
            totals.bytes += u64::from(facts.length);
            totals.charge += charge;
            totals.newest = facts.arrival;
        }
        self.state.charge += charge;
        self.state.next_arrival = facts.arrival + 1;
        self.state.last_received = self.state.last_received.max(facts.received);
    }

    /// Adds ids that came to a cell.
    pub(super) fn came(&mut self, cell: Cell, ids: &Summary) {
        self.cells.entry(cell).or_default().merge(ids);
    }

    /// Takes an id out of its cell.
    pub(super) fn left(&mut self, cell: Cell, element: &Element) {
        let summary = self.cells.entry(cell).or_default();
        summary.remove(element);
        if summary.is_empty() {
            self.cells.remove(&cell);
        }
    }

    /// Counts an id that is dropped, and its entry if it was stored.
    pub(super) fn dropped(&mut self, table_no: u32, id: &EntryId, entry: Option<(Location, u64)>) {
        if let Some((location, epoch)) = entry {
            self.gone(table_no, &location);
            self.left((table_no, epoch), &Element::of(id));
        }
        self.state.dropped += 1;
        self.state.charge += charge::DROPPED;
    }

    fn gone(&mut self, table_no: u32, location: &Location) {
        if let Some(LiveTable { totals, .. }) = self.tables.get_mut(&table_no) {
            totals.entries = totals.entries.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(location.length.into());
            totals.charge = totals.charge.saturating_sub(location.charge());
        }
        self.state.charge = self.state.charge.saturating_sub(location.charge());
    }

    /// Takes over what a merge dropped on its own.
    pub(super) fn merged(&mut self, retired: &Retired, is_in_delta: impl Fn(u32) -> bool) {
        let Retired { gone, remembered, forgotten, tables, .. } = retired;
        for (table_no, location) in gone {
            self.gone(*table_no, location);
        }
        self.state.dropped = (self.state.dropped + remembered).saturating_sub(*forgotten);
        self.state.charge =
            (self.state.charge + remembered * charge::DROPPED).saturating_sub(forgotten * charge::DROPPED);
        for table_no in tables {
            if !is_in_delta(*table_no) {
                self.remove_table(*table_no);
            }
        }
    }

    /// The sketch of a table's ids from the epoch `from` on.
    pub(super) fn summary(&self, table_no: u32, from: u64) -> Summary {
        let mut summary = Summary::default();
        self.cells.range((table_no, from)..=(table_no, u64::MAX)).for_each(|(_, cell)| summary.merge(cell));
        summary
    }

    /// The tables of `touched`, or the whole store, that are over their limits.
    pub(super) fn is_over_limit(&self, settings: &Settings, touched: &[u32]) -> bool {
        let is_over = |table_no: &u32| {
            self.tables.get(table_no).is_some_and(|table| {
                settings.table_budget(&table.id).is_some_and(|budget| table.totals.charge > budget)
            })
        };
        settings.budget.is_some_and(|budget| self.state.charge > budget) || touched.iter().any(is_over)
    }
}

/// What a merge dropped by the operator's rules, and not because the log said so.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// Entries, with their table.
    pub(super) gone: Vec<(u32, Location)>,
    /// Their ids and cells, as far as they can be read.
    pub(super) left: Vec<(Cell, EntryId)>,
    /// Ids that are known as dropped from now on, or not any longer.
    pub(super) remembered: u64,
    pub(super) forgotten: u64,
    /// Tables of which nothing is known any longer.
    pub(super) tables: Vec<u32>,
}
