//! What reconciliation asks of the store (SPEC 8.7, 10.6).

use p2pdb_protocol::{
    filter::{BySids, Cursor, Filter},
    id::{EntryId, TableId},
    reconcile::{
        Held,
        sketch::{MAX_LEVEL, Sid, Summary},
    },
};

use super::{Page, Sketched, Store, StoreError, sketch};

impl Store {
    /// The start of the scope that answers for `since`: the first epoch that begins then or later and lies within the
    /// horizon, in unix seconds (SPEC 8.6, 8.7).
    #[must_use]
    pub fn scope_for(&self, since: u64) -> u64 {
        let core = &self.core;
        core.settings.network.epoch_start_at_or_after(since).max(self.scope_start())
    }

    /// The sketch of the table's ids, of entries created at `since` or later (SPEC 10.6). Nothing is searched.
    ///
    /// # Errors
    /// If the store is closed.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn summary(&self, table: TableId, since: u64) -> Result<Summary, StoreError> {
        self.check_open()?;
        let (live, from) = (self.core.live(), self.core.settings.network.epoch(self.scope_for(since)));
        Ok(live.number_of(&table).map(|table_no| live.summary(table_no, from)).unwrap_or_default())
    }

    /// The sketches of all tables with entries that were created at `since` or later, likewise.
    ///
    /// # Errors
    /// If the store is closed.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn summaries(&self, since: u64) -> Result<Vec<(TableId, Summary)>, StoreError> {
        self.check_open()?;
        let (live, from) = (self.core.live(), self.core.settings.network.epoch(self.scope_for(since)));
        let summaries = live.tables.iter().map(|(table_no, table)| (table.id, live.summary(*table_no, from)));
        Ok(summaries.filter(|(_, summary)| !summary.is_empty()).collect())
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
        self.in_turn(move |view, most| sketch::groups(view, &table, from, level, &numbers, most)).await
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
        let mut ids: Vec<EntryId> = held.iter().filter(|held| held.stored).map(|held| held.id).collect();
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
