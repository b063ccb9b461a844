//! What reconciliation asks of the store (SPEC 8.7, 10.6).

use p2pdb_protocol::{
    filter::{BySids, Cursor, Filter},
    id::{EntryId, TableId},
    reconcile::{
        Held,
        sketch::{MAX_LEVEL, Sid, Summary},
    },
};

use super::{Page, Sketched, Store, StoreError, delta, sketch};

impl Store {
    /// The start of the scope that answers for `since`: the first epoch that begins then or later and lies within the
    /// horizon, in unix seconds (SPEC 8.6, 8.7).
    #[must_use]
    pub fn scope_for(&self, since: u64) -> u64 {
        let core = &self.core;
        core.settings.network.epoch_start_at_or_after(since).max(self.scope_start())
    }

    /// The sketch of the table's ids, of entries created at `since` or later (SPEC 10.6), and the newest arrival number in
    /// it. Nothing is searched.
    ///
    /// # Errors
    /// If the store is closed.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn summary(&self, table: TableId, since: u64) -> Result<(Summary, u64), StoreError> {
        self.check_open()?;
        let (live, from) = (self.core.live(), self.core.settings.network.epoch(self.scope_for(since)));
        let summary = live.number_of(&table).map(|table_no| live.summary(table_no, from));
        Ok((summary.unwrap_or_default(), live.state.newest()))
    }

    /// The sketches of all tables with entries that were created at `since` or later, ascending, and the newest arrival
    /// number in them.
    ///
    /// # Errors
    /// If the store is closed.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn summaries(&self, since: u64) -> Result<(Vec<(TableId, Summary)>, u64), StoreError> {
        self.check_open()?;
        let (live, from) = (self.core.live(), self.core.settings.network.epoch(self.scope_for(since)));
        let summaries = live.tables.iter().map(|(table_no, table)| (table.id, live.summary(*table_no, from)));
        let mut summaries: Vec<_> = summaries.filter(|(_, summary)| !summary.is_empty()).collect();
        // In memory they stand in the order in which they came.
        summaries.sort_unstable_by_key(|(table, _)| *table);
        Ok((summaries, live.state.newest()))
    }

    /// The groups of a level, all of them or some, of the table's entries created at `since` or later (SPEC 10.6).
    ///
    /// A group that does not exist is empty; the level counts as [`MAX_LEVEL`] if it is greater.
    ///
    /// # Errors
    /// As those of [`Store::index`].
    pub async fn groups(
        &self,
        table: TableId,
        since: u64,
        level: u8,
        which: Option<Vec<u16>>,
    ) -> Result<Sketched, StoreError> {
        let level = level.min(MAX_LEVEL);
        let numbers = which.unwrap_or_else(|| (0..1 << level).collect());
        let from = self.core.settings.network.epoch(self.scope_for(since));
        self.in_turn(move |view, most| sketch::answer(view, &table, from, level, &numbers, most)).await
    }

    /// About what so many groups take, as rows that are read; an id of which the share in a group is computed counts as 17.
    #[must_use]
    pub fn groups_work(&self, table: TableId, since: u64, level: u8, groups: usize) -> u64 {
        let level = level.min(MAX_LEVEL);
        let from = self.core.settings.network.epoch(self.scope_for(since));
        let fresh = self.core.delta.generations();
        let fresh = fresh.iter().map(|generation| delta::read(generation).entries.len() as u64).sum();
        let live = self.core.live();
        let Some(table_no) = live.number_of(&table) else { return 0 };
        let work = |ids, kept| sketch::work(ids, kept, level, groups as u64);
        let cells = live.cells.range((table_no, from)..=(table_no, u64::MAX));
        let cells = cells.map(|(_, cell)| 1 + work(cell.len(), sketch::level_for(cell.len(), None)));
        cells.fold(work(fresh, None), u64::saturating_add)
    }

    /// The ids of a table with these sids that are Known (SPEC 6.3).
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn held(&self, table: TableId, sids: Vec<Sid>) -> Result<Vec<Held>, StoreError> {
        self.look(move |view| sketch::held(view, &table, &sids)).await
    }

    /// The entries of a table with some sids (SPEC 8.5), as far as they fit into `most_bytes`, but at least one.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn by_sids(&self, asked: BySids, most_bytes: usize) -> Result<Page, StoreError> {
        let BySids { table, sids, limit } = asked;
        let held = self.held(table, sids).await?;
        let mut ids: Vec<EntryId> =
            held.iter().filter(|held| held.arrival.is_some()).map(|held| held.id).collect();
        let cut = ids.len() > limit;
        ids.truncate(limit);
        if ids.is_empty() {
            let next = Cursor { store: self.id(), arrival: 0 };
            return Ok(Page { entries: Vec::new(), keys: Vec::new(), next, more: false });
        }
        let filter = Filter { limit, ..Filter::ids(ids).with_table(table) };
        let mut page = self.get(filter, None, most_bytes).await?;
        page.more |= cut;
        Ok(page)
    }
}
