#![doc = include_str!("README.md")]

mod batch;
mod charge;
mod clean;
mod delta;
mod error;
mod fault;
mod file;
mod index;
mod keys;
mod live;
mod log;
mod merge;
mod migrate;
mod opening;
mod options;
mod query;
mod record;
mod retention;
mod schema;
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
    sync::{Arc, PoisonError, RwLock},
};

use bytes::Bytes;
use p2pdb_protocol::{
    bucket::BucketSummary,
    filter::Filter,
    id::{EntryId, TableId},
    network::Network,
};
use redb::ReadTransaction;
use tokio::sync::{Semaphore, mpsc, oneshot};

pub use self::{
    error::StoreError,
    index::{IdPage, Index},
    options::StoreOptions,
    query::Page,
    retention::Swept,
    schema::DropReason,
    summary::{Presence, Stats, TableSummary},
    verify::{Report, VerifyProgress},
    writer::{Committed, NewEntry},
};
use self::{
    delta::Delta,
    file::StoreFile,
    index::Scopes,
    live::Live,
    log::Log,
    options::Settings,
    view::{Before, View},
    writer::{Answer, Request},
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
    readers: Arc<Semaphore>,
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

impl Core {
    fn panicked(&self) -> StoreError {
        let reason = "a row could not be read".to_owned();
        StoreError::Damaged { path: self.file.path().to_owned(), reason }
    }

    /// Length of the index file and the log, and what they take on the disk, in bytes.
    fn size(&self) -> Result<(u64, u64), StoreError> {
        let (length, on_disk) = self.file.size()?;
        let log = self.log.size().map_err(|error| self.file.fault(error.into()))?;
        Ok((length + log.0, on_disk + log.1))
    }

    /// Runs `read` on a view. Keep it short, as [`StoreFile::read`].
    fn view<T>(&self, read: impl Fn(&View<'_>) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let before = Before::take(self);
        self.file.read(|txn| read(&before.view(self, txn)?))
    }

    fn live(&self) -> std::sync::RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the index file at `path` and the log beside it, in `path` with `.log` appended, or makes new ones.
    ///
    /// Blocks for some milliseconds, and after the last writer was killed for as long as it takes to read what was not
    /// merged into the indexes, at most twice 128 MiB. A file of an older version is migrated, which reads all of it.
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

    /// Makes an id known as dropped, and removes its entry if it is stored (SPEC 6.3).
    ///
    /// Does nothing if the table is unknown or too many dropped ids are kept already.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn drop_for_good(
        &self,
        table: TableId,
        id: EntryId,
        reason: DropReason,
    ) -> Result<(), StoreError> {
        self.ask(|answer| Request::Drop(table, id, reason, answer)).await
    }

    /// Drops what is expired, beyond the horizon or over a limit, in steps that let others write in between.
    ///
    /// # Errors
    /// If it could not be written; what was dropped before stays so.
    pub async fn sweep(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        loop {
            let step = self.ask(Request::Sweep).await?;
            if step.total() == 0 {
                return Ok(swept);
            }
            swept.add(step);
        }
    }

    /// Merges what was committed into the indexes, which happens on its own now and then.
    ///
    /// # Errors
    /// If it could not be written; it is in the log all the same.
    pub async fn merge(&self) -> Result<(), StoreError> {
        self.ask(Request::Merge).await
    }

    /// Makes index file and log as small as they can be; everybody else waits meanwhile. Whether they became smaller.
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
        self.look(move |view| summary::presences(view, &table, &ids)).await
    }

    /// The SPKI DER of a table's key, if the store has it.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn table_key(&self, table: TableId) -> Result<Option<Bytes>, StoreError> {
        self.check_open()?;
        let live = self.core.live();
        let number = live.number_of(&table);
        Ok(number.and_then(|number| live.tables.get(&number)).map(|table| table.spki.clone()))
    }

    /// Every table the store knows, in the order in which they came.
    ///
    /// # Errors
    /// If the file could not be read.
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
        self.look(move |view| {
            query::get(view, &filter, allowed.as_deref(), view.core.clock.now(), most_bytes)
        })
        .await
    }

    /// Count and digest of the table's buckets, of entries created at `since` or later (SPEC 8.6).
    ///
    /// # Errors
    /// If the file could not be read, or [`StoreError::Busy`] if the answer would take long and others wait for such
    /// answers already.
    pub async fn index(&self, table: TableId, since: u64) -> Result<Index, StoreError> {
        self.merge_table(table).await?;
        let since = self.scope(since);
        let (buckets, fresh): (Vec<BucketSummary>, _) = self
            .in_turn(move |txn, core, most| {
                index::buckets(txn, &core.settings.network, &core.scopes, &table, since, most)
            })
            .await?;
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
        self.merge_table(table).await?;
        let since = self.scope(since);
        let (ids, more) = self
            .in_turn(move |txn, core, most| {
                index::ids(txn, &core.settings.network, &table, since, bucket, after, limit, most)
            })
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

    /// The start of the scope that answers for `since`.
    fn scope(&self, since: u64) -> u64 {
        let core = &self.core;
        core.settings.network.epoch_start_at_or_after(since).max(self.scope_start())
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    /// Merges the delta if anything in it is of this table.
    async fn merge_table(&self, table: TableId) -> Result<(), StoreError> {
        let table_no = self.core.live().number_of(&table);
        match table_no {
            Some(table_no) if self.core.delta.concerns(table_no) => self.merge().await,
            _ => Ok(()),
        }
    }

    fn check_open(&self) -> Result<(), StoreError> {
        if self.requests.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Reads a view, off the async threads.
    async fn look<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(self.readers(), move |core| core.view(read)).await
    }

    /// Reads a snapshot, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&ReadTransaction, &Core) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(self.readers(), move |core| core.file.read(|txn| read(txn, core))).await
    }

    /// Reads with the number of ids that may be looked at: a few like anything else, any number when it has its turn.
    async fn in_turn<T: Send + 'static>(
        &self,
        read: impl Fn(&ReadTransaction, &Core, u64) -> Result<Option<T>, redb::Error> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let short = read.clone();
        if let Some(answer) =
            self.read(move |txn, core| short(txn, core, core.settings.bounds.listed)).await?
        {
            return Ok(answer);
        }
        let _place = self.core.waiting.try_acquire().map_err(|_| StoreError::Busy)?;
        let long = move |core: &Core| core.file.read(|txn| read(txn, core, u64::MAX));
        self.blocking(Arc::clone(&self.core.long), long).await?.ok_or(StoreError::Busy)
    }

    fn readers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.core.readers)
    }

    /// Works off the async threads, when `turns` permits.
    async fn blocking<T: Send + 'static>(
        &self,
        turns: Arc<Semaphore>,
        work: impl FnOnce(&Core) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let core = Arc::clone(&self.core);
        let permit = turns.acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work ends, also if nobody waits for it any more.
            let _permit = permit;
            work(&core)
        });
        task.await.unwrap_or_else(|error| {
            if error.is_panic() { Err(self.core.panicked()) } else { Err(StoreError::Closed) }
        })
    }
}
