#![doc = include_str!("README.md")]

mod batch;
mod charge;
mod error;
mod file;
mod index;
mod keys;
mod migrate;
mod options;
mod query;
mod retention;
mod schema;
mod sketch;
mod summary;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, path::Path, sync::Arc, thread};

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
    batch::{Committed, NewEntry},
    error::StoreError,
    index::{IdPage, Index},
    options::StoreOptions,
    query::Page,
    retention::Swept,
    schema::DropReason,
    sketch::Sketched,
    summary::{Presence, Stats, TableSummary},
    verify::{Report, VerifyProgress},
};
use self::{
    file::{Opener, StoreFile},
    index::Scopes,
    options::Settings,
    schema::State,
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
    settings: Settings,
    clock: Clock,
    scopes: Scopes,
    sketches: sketch::Sketches,
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
}

impl Store {
    /// Opens the file, or makes a new one. Blocks for some milliseconds, also after the last writer was killed.
    ///
    /// # Errors
    /// If the file is in use, not a store, of another network, of a newer version, or damaged; it is left as it is.
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

    fn open_with(
        path: &Path,
        mut settings: Settings,
        clock: Clock,
        opener: Opener,
        steps: &[migrate::Step],
    ) -> Result<Self, StoreError> {
        let (file, store_id) = StoreFile::open(path, opener, settings.network.id(), steps)?;
        settings.store_id = store_id;
        let newest = file.read(|txn| Ok(State::read(&txn.open_table(schema::STATE)?)?.last_received))?;
        if newest > clock.now().saturating_add(86_400) {
            tracing::warn!(
                newest,
                now = clock.now(),
                "the last entry arrived in the future: a clock is or was wrong, and asking for what arrived lately finds \
                 the wrong entries until it has caught up"
            );
        }
        let core = Arc::new(Core {
            file,
            settings,
            clock,
            scopes: Scopes::default(),
            sketches: sketch::Sketches::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            long: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING),
            verifying: Arc::new(Semaphore::new(1)),
        });
        let (requests, queue) = mpsc::channel(writer::QUEUE);
        let writing = Arc::clone(&core);
        thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer::run(&writing, queue))
            .map_err(|error| core.file.fault(error.into()))?;
        Ok(Self { core, requests })
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

    /// Makes the file as small as it can be; everybody else waits meanwhile. Whether it became smaller.
    ///
    /// # Errors
    /// If it could not be written.
    pub async fn compact(&self) -> Result<bool, StoreError> {
        self.ask(Request::Compact).await
    }

    /// Closes the file after everything that was asked before; later requests fail.
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
        self.read(move |txn, _| summary::presences(txn, &table, &ids)).await
    }

    /// The SPKI DER of a table's key, if the store has it.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn table_key(&self, table: TableId) -> Result<Option<Bytes>, StoreError> {
        self.read(move |txn, _| {
            let Some(table_no) = index::number_of(txn, &table)? else { return Ok(None) };
            let row = txn.open_table(schema::TABLES)?.get(table_no)?;
            row.map(|row| Ok(Bytes::copy_from_slice(schema::parse_table(row.value())?.1))).transpose()
        })
        .await
    }

    /// Every table the store knows, in the order in which they came.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn tables(&self) -> Result<Vec<TableSummary>, StoreError> {
        self.read(|txn, _| summary::summaries(txn)).await
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
        self.read(move |txn, core| {
            query::get(txn, &core.settings, &filter, allowed.as_deref(), core.clock.now(), most_bytes)
        })
        .await
    }

    /// Count and digest of the table's buckets, of entries created at `since` or later (SPEC 8.6).
    ///
    /// # Errors
    /// If the file could not be read, or [`StoreError::Busy`] if the answer would take long and others wait for such
    /// answers already.
    pub async fn index(&self, table: TableId, since: u64) -> Result<Index, StoreError> {
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
        let since = self.scope(since);
        let (ids, more) = self
            .in_turn(move |txn, core, most| {
                index::ids(txn, &core.settings.network, &table, since, bucket, after, limit, most)
            })
            .await?;
        Ok(IdPage { since, ids, more })
    }

    /// Proves that the indexes are the data; `progress` hears how far it is.
    ///
    /// # Errors
    /// If the file could not be read to the end; contradictions are in the report.
    pub async fn verify(
        &self,
        progress: impl Fn(VerifyProgress) + Send + 'static,
    ) -> Result<Report, StoreError> {
        let turns = Arc::clone(&self.core.verifying);
        self.blocking(turns, move |core| verify::run(&core.file, &core.settings, &progress)).await
    }

    /// The store in numbers.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn stats(&self) -> Result<Stats, StoreError> {
        let mut stats = self.read(|txn, _| summary::stats(txn)).await?;
        (stats.file_bytes, stats.disk_bytes) = self.blocking(self.readers(), |core| core.file.size()).await?;
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
