#![doc = include_str!("README.md")]

mod asking;
mod batch;
mod charge;
mod clean;
mod delta;
mod error;
mod fault;
mod file;
mod frozen;
mod index;
mod keys;
mod live;
mod log;
mod merge;
mod migrate;
mod opening;
mod options;
mod query;
mod reconcile;
mod record;
mod retention;
mod schema;
mod sketch;
mod summary;
mod verify;
mod view;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fmt,
    path::Path,
    sync::{Arc, RwLock},
};

use bytes::Bytes;
use p2pdb_protocol::{
    bucket::BucketSummary,
    filter::Filter,
    id::{EntryId, TableId},
    network::Network,
};
use tokio::sync::{Semaphore, mpsc};

use self::{
    asking::Pace, delta::Delta, file::StoreFile, index::Scopes, live::Live, log::Log, options::Settings,
    writer::Request,
};
pub use self::{
    error::StoreError,
    index::{IdPage, Index},
    options::StoreOptions,
    query::Page,
    retention::Swept,
    sketch::Sketched,
    summary::{Presence, Stats, TableSummary},
    verify::{Report, VerifyProgress},
    writer::{Committed, NewEntry},
};
use crate::clock::Clock;

/// Snapshots that are read at the same time, at most.
const READERS: usize = 8;
/// Long answers that may wait for the one that is being made; who comes then is told that the store is busy.
const WAITING: usize = 8;

/// A handle to the store; clones share it. See the module for how it works.
///
/// The file is released by [`Store::close`], or some time after the last handle is gone.
#[derive(Clone)]
pub struct Store {
    core: Arc<Core>,
    requests: mpsc::Sender<Request>,
}

struct Core {
    file: StoreFile,
    log: Log,
    delta: Delta,
    live: RwLock<Live>,
    settings: Settings,
    clock: Clock,
    scopes: Scopes,
    pace: Pace,
    readers: Arc<Semaphore>,
    /// Those of the gate: what peers ask must not keep anybody's entry waiting.
    known: Arc<Semaphore>,
    /// Answers that take long are made one at a time, and so are verifications: neither may keep all readers busy.
    long: Arc<Semaphore>,
    waiting: Semaphore,
    verifying: Arc<Semaphore>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.core.file.path()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the index file at `path` and the log beside it, in `path` with `.log` appended, or makes new ones.
    ///
    /// Blocks for some milliseconds, and after the last writer was killed for as long as it takes to read what was not
    /// merged into the indexes, at most twice 64 MiB. A file of an older version is migrated, which reads all of it.
    ///
    /// # Errors
    /// If the store is in use, not a store, of another network, of a newer version, or damaged; it is left as it is.
    pub fn open(
        path: &Path,
        network: Network,
        options: StoreOptions,
        clock: Clock,
    ) -> Result<Self, StoreError> {
        let cache_bytes = options.cache_bytes;
        let opener = move |path: &Path| redb::Builder::new().set_cache_size(cache_bytes).create(path);
        Self::open_with(path, Settings::new(network, options)?, clock, Arc::new(opener), migrate::STEPS)
    }

    /// The name of this store in cursors (SPEC 8.5).
    #[must_use]
    pub fn id(&self) -> [u8; 8] {
        self.core.settings.store_id
    }

    /// The time from which on entries are kept, in unix seconds: the start of the epoch that the horizon lies in,
    /// or 0 without a horizon (SPEC 6.4).
    #[must_use]
    pub fn horizon_start(&self) -> u64 {
        self.core.settings.horizon_start(self.core.clock.now())
    }

    /// The time from which on entries are listed and compared, in unix seconds: the start of the first epoch within
    /// the horizon as a whole, or 0 without a horizon (SPEC 8.6).
    #[must_use]
    pub fn scope_start(&self) -> u64 {
        self.core.settings.scope_start(self.core.clock.now())
    }

    /// Stores entries; answers for each, in order, once they are durable.
    ///
    /// # Errors
    /// If they could not be written; then none of them is stored.
    pub async fn commit(&self, entries: Vec<NewEntry>) -> Result<Vec<Committed>, StoreError> {
        self.ask(|answer| Request::Commit(entries, answer)).await
    }

    /// Drops what is expired, beyond the horizon or over a limit, in steps that let others write in between.
    ///
    /// Nothing is written if nothing is due.
    ///
    /// # Errors
    /// If it could not be written; what was dropped before stays so.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        self.check_open()?;
        let mut swept = self.core.take_swept();
        while self.core.is_due_in_delta() || self.look(retention::is_due).await? {
            let step = self.ask(Request::Sweep).await?;
            if step.total() == 0 {
                break;
            }
            swept.add(step);
        }
        Ok(swept)
    }

    /// Removes entries of a table, if they are stored; their ids stay known as dropped (SPEC 6.3).
    ///
    /// It merges what was committed before, so it is for what a user does now and then.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn withdraw(&self, table: TableId, ids: Vec<EntryId>) -> Result<(), StoreError> {
        self.ask(|answer| Request::Withdraw(table, ids, answer)).await
    }

    /// Merges what was committed into the indexes, which happens on its own now and then.
    ///
    /// # Errors
    /// If it could not be written; it is in the log all the same.
    pub async fn merge(&self) -> Result<(), StoreError> {
        self.ask(Request::Merge).await
    }

    /// Makes index file and log as small as they can be, but for the segment that the log grows in; everybody else waits
    /// meanwhile. Whether they became smaller.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        self.ask(Request::Compact).await
    }

    /// Merges and closes everything after what was asked before; later requests fail.
    ///
    /// # Errors
    /// If the end could not be noted; the next opening gets over that.
    pub async fn close(&self) -> Result<(), StoreError> {
        match self.ask(Request::Close).await {
            Err(StoreError::Closed) => Ok(()),
            result => result,
        }
    }

    /// What is known of each id, in order.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn known(&self, table: TableId, ids: Vec<EntryId>) -> Result<Vec<Presence>, StoreError> {
        let read = move |core: &Core| core.view(|view| summary::presences(view, &table, &ids));
        self.blocking(Arc::clone(&self.core.known), read).await
    }

    /// As [`Store::known`], for who has a thread of its own that may wait for the disk.
    ///
    /// # Errors
    /// If the file could not be read.
    pub fn known_blocking(&self, table: TableId, ids: &[EntryId]) -> Result<Vec<Presence>, StoreError> {
        merge::guarded(&self.core, || self.core.view(|view| summary::presences(view, &table, ids)))
    }

    /// The SPKI DER of a table's key, if the store has it.
    ///
    /// # Errors
    /// If the file could not be read.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn table_key(&self, table: TableId) -> Result<Option<Bytes>, StoreError> {
        self.check_open()?;
        let live = self.core.live();
        let number = live.number_of(&table);
        Ok(number.and_then(|number| live.tables.get(&number)).map(|table| table.spki.clone()))
    }

    /// Whether anything of a table is stored.
    #[must_use]
    pub fn has_entries(&self, table: &TableId) -> bool {
        let live = self.core.live();
        let table = live.number_of(table).and_then(|number| live.tables.get(&number));
        table.is_some_and(|table| table.totals.entries > 0)
    }

    /// Every table the store knows, in the order in which they came.
    ///
    /// # Errors
    /// If the file could not be read.
    #[expect(clippy::unused_async, reason = "where an answer comes from is not the caller's business")]
    pub async fn tables(&self) -> Result<Vec<TableSummary>, StoreError> {
        self.check_open()?;
        Ok(summary::summaries(&self.core.live()))
    }

    /// The entries that match `filter`, of the tables in `allowed` if that is given, in the order in which they
    /// arrived; at most `most_bytes` of them, but at least one (SPEC 8.5).
    ///
    /// A page can be short or empty and still have [`Page::more`]: one request looks at a bounded number of
    /// entries. A filter with nothing but a cursor pages through the whole store.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn get(
        &self,
        filter: Filter,
        allowed: Option<Arc<BTreeSet<TableId>>>,
        most_bytes: usize,
    ) -> Result<Page, StoreError> {
        self.quickly(move |view, reach| {
            query::get(view, &filter, allowed.as_deref(), view.core.clock.now(), most_bytes, reach)
        })
        .await
    }

    /// Count and digest of the table's buckets, of entries created at `since` or later (SPEC 8.6).
    ///
    /// # Errors
    /// If the file could not be read, or [`StoreError::Busy`] if the answer would take long and others wait for such
    /// answers already.
    pub async fn index(&self, table: TableId, since: u64) -> Result<Index, StoreError> {
        let since = self.scope_for(since);
        let (buckets, fresh): (Vec<BucketSummary>, _) =
            self.in_turn(move |view, most| index::buckets(view, &table, since, most)).await?;
        if !fresh.is_empty() {
            // If the writer is busy, the next one who asks computes them again.
            let _ = self.requests.try_send(Request::Digests(fresh));
        }
        Ok(Index { since, buckets })
    }

    /// The ids of a bucket after `after`, of entries created at `since` or later, at most `limit` (SPEC 8.6).
    ///
    /// # Errors
    /// As those of [`Store::index`].
    pub async fn bucket_ids(
        &self,
        table: TableId,
        since: u64,
        bucket: u16,
        after: Option<EntryId>,
        limit: usize,
    ) -> Result<IdPage, StoreError> {
        let since = self.scope_for(since);
        let (ids, more) = self
            .in_turn(move |view, most| index::ids(view, &table, since, bucket, after, limit, most))
            .await?;
        Ok(IdPage { since, ids, more })
    }

    /// Proves that the indexes are the log; `progress` hears how far it is.
    ///
    /// # Errors
    /// If the file could not be read to the end; contradictions are in the report.
    pub async fn verify(
        &self,
        progress: impl Fn(VerifyProgress) + Send + 'static,
    ) -> Result<Report, StoreError> {
        self.merge().await?;
        let turns = Arc::clone(&self.core.verifying);
        self.blocking(turns, move |core| verify::run(core, &progress)).await
    }

    /// The store in numbers.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        self.check_open()?;
        let mut stats = summary::stats(&self.core.live());
        (stats.file_bytes, stats.disk_bytes) = self.blocking(self.readers(), Core::size).await?;
        Ok(stats)
    }
}
