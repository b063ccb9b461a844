//! The outbox: what apps put, on its way to the nodes.
//!
//! An entry is sealed before it is accepted, so that its id is fixed: however often the daemon dies and tries again, nodes
//! know one entry. It is accepted once it is durable. From then on one task does its proof of work, keeping how far it is,
//! and another one sends it, with back-off, until nodes hold it.

mod error;
mod file;
mod job;
mod mine;
mod schema;
mod send;

use std::{
    num::NonZeroUsize,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

pub use error::OutboxError;
use p2pdb_protocol::{id::EntryId, keys::PublicKey, network::Network, pow::Progress, seal::SealedEntry};
use tokio::sync::{Notify, watch};

use self::file::File;
pub(super) use self::{
    job::{Job, JobState, NodeAnswer},
    schema::{Accepted, Idempotency},
};
use crate::{
    client::Client,
    clock::{Clock, monotonic},
    gateway::mirror::Mirror,
};

/// Why a job failed that nobody took in time.
const EXPIRED: &str = "it expired before a node took it";

/// What the outbox works with.
#[derive(Debug)]
pub(super) struct Outbox {
    file: File,
    client: Client,
    mirror: Arc<Mirror>,
    network: Network,
    clock: Clock,
    /// Threads that do the proof of work.
    threads: NonZeroUsize,
    /// Nodes that an entry is to be stored at.
    copies: usize,
    /// There may be something to mine, or to send.
    to_mine: Notify,
    to_send: Notify,
    mining: Mutex<Option<Mining>>,
    /// Counts the changes of all jobs.
    changed: watch::Sender<u64>,
}

/// The job whose work is being done.
#[derive(Debug, Clone)]
struct Mining {
    id: EntryId,
    progress: Progress,
    /// Hashes that were done before this start of the daemon.
    hashes_before: u64,
    started: Instant,
    cancel: Arc<AtomicBool>,
}

/// How far the work of a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WorkProgress {
    pub(super) solved: u32,
    pub(super) of: u32,
    pub(super) hashes: u64,
    /// Estimated seconds left; nothing until the speed is known.
    pub(super) eta_seconds: Option<u64>,
}

/// What an outbox is made of.
pub(super) struct Parts {
    pub(super) client: Client,
    pub(super) mirror: Arc<Mirror>,
    pub(super) network: Network,
    pub(super) clock: Clock,
    pub(super) threads: NonZeroUsize,
    pub(super) copies: usize,
}

impl Outbox {
    /// Opens the file, or makes it. Blocks.
    pub(super) fn open(path: &Path, parts: Parts) -> Result<Self, OutboxError> {
        let Parts { client, mirror, network, clock, threads, copies } = parts;
        Ok(Self {
            file: File::open(path)?,
            client,
            mirror,
            network,
            clock,
            threads,
            copies,
            to_mine: Notify::new(),
            to_send: Notify::new(),
            mining: Mutex::new(None),
            changed: watch::Sender::new(0),
        })
    }

    /// Counts the changes of all jobs: whoever waits for one looks again when it grows.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn note_change(&self) {
        self.changed.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    /// What an idempotency key led to before, if anything.
    pub(super) async fn before(
        &self,
        app: &str,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, OutboxError> {
        let (app, idempotency) = (app.to_owned(), idempotency.clone());
        self.blocking(move |file| file.before(&app, &idempotency)).await
    }

    /// Takes an entry on. It is durable when this returns.
    pub(super) async fn accept(
        &self,
        new: NewJob,
        sealed: SealedEntry,
        idempotency: Option<Idempotency>,
    ) -> Result<Accepted, OutboxError> {
        let NewJob { space, app, table_key } = new;
        let job = Job {
            id: sealed.id(),
            space,
            app,
            state: JobState::Queued,
            accepted: self.clock.now(),
            expires: sealed.header().expires,
            table_key: data_encoding::BASE64.encode(table_key.der()),
            handed_out: false,
            holders: Vec::new(),
            answers: Vec::new(),
            tries: 0,
            next_try: None,
            error: None,
            settled: None,
            idempotency: idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
        };
        let accepted = self.blocking(move |file| file.accept(job, &sealed, idempotency.as_ref())).await?;
        self.to_mine.notify_one();
        self.note_change();
        Ok(accepted)
    }

    /// The job of an entry.
    pub(super) async fn find(&self, id: EntryId) -> Result<Option<Job>, OutboxError> {
        self.blocking(move |file| file.find(&id)).await
    }

    /// Jobs, the newest first, that were accepted before the one of `before`, at most `limit` that `wanted` takes.
    pub(super) async fn list(
        &self,
        before: Option<EntryId>,
        limit: usize,
        wanted: impl Fn(&Job) -> bool + Send + 'static,
    ) -> Result<Vec<Job>, OutboxError> {
        self.blocking(move |file| file.list(before.as_ref(), limit, wanted)).await
    }

    /// How many jobs are queued, being sent, and stored but tried on.
    pub(super) async fn count_open(&self) -> Result<[u64; 3], OutboxError> {
        self.blocking(|file| file.count_open()).await
    }

    /// Withdraws a job; gives it up if a node may have its entry, unless one says that it holds it. The job as it is then.
    pub(super) async fn cancel(&self, id: EntryId) -> Result<Option<Job>, OutboxError> {
        let (network, now) = (self.network.clone(), self.clock.now());
        let Some((job, entry)) = self.blocking(move |file| file.cancel(&id, &network, now)).await? else {
            return Ok(None);
        };
        if matches!(job.state, JobState::Cancelled | JobState::Abandoned) {
            if let Some(mining) = &*self.lock()
                && mining.id == id
            {
                mining.cancel.store(true, Ordering::Relaxed);
            }
            if let Some(entry) = entry
                && let Err(error) = self.mirror.withdraw(&entry).await
            {
                tracing::warn!(%id, %error, "a cancelled entry stays in the mirror");
            }
            self.note_change();
        }
        Ok(Some(job))
    }

    /// How far the work of this job is, if it is being done.
    pub(super) fn progress(&self, id: &EntryId) -> Option<WorkProgress> {
        let mining = self.lock().clone().filter(|mining| mining.id == *id)?;
        let Progress { solved, of, hashes } = mining.progress;
        let seconds = monotonic().saturating_duration_since(mining.started).as_secs_f64();
        let speed = hashes.saturating_sub(mining.hashes_before) as f64 / seconds;
        // Each puzzle takes as many hashes as every other on average, however far it is.
        let per_puzzle = hashes.checked_div(u64::from(solved));
        let eta_seconds = per_puzzle
            .map(|hashes| hashes.saturating_mul(u64::from(of - solved)) as f64 / speed)
            .filter(|eta| eta.is_finite())
            .map(|eta| eta.ceil() as u64);
        Some(WorkProgress { solved, of, hashes, eta_seconds })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Mining>> {
        self.mining.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&File) -> Result<T, OutboxError> + Send + 'static,
    ) -> Result<T, OutboxError> {
        let file = self.file.clone();
        tokio::task::spawn_blocking(move || work(&file))
            .await
            .unwrap_or_else(|error| Err(OutboxError::Damaged(error.to_string())))
    }
}

/// Where a new job comes from and goes to.
#[derive(Debug)]
pub(super) struct NewJob {
    pub(super) space: String,
    pub(super) app: String,
    pub(super) table_key: PublicKey,
}
