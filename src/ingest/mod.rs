//! The one gate: whatever its way in, an entry is admitted here or not at all (SPEC 6).
//!
//! Entries wait in two queues, one for what somebody waits for and one for what has time, which the workers serve in
//! turn. A worker takes whatever waits, up to a batch, and does the steps of SPEC 6.1 for all of it; the batch is then
//! committed at once, while the worker goes on. Nothing waits for a batch to fill.

mod batch;
mod checks;
mod claims;
mod mirror;
mod turns;
mod workers;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    network::Network,
    refusal::{Outcome, Refusal},
};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

pub use self::mirror::Mirror;
use self::{
    batch::{Verdict, Work},
    checks::Checks,
    turns::Lane,
    workers::Workers,
};
use crate::{
    clock::Clock,
    store::{Store, StoreError},
};

/// Entries that wait at the gate in each of its queues.
const MAX_WAITING: usize = 4096;
/// Entries of one piece of work, and of a batch: enough to make the hand-over cheap, few enough to share the cores and to
/// let others in between.
const CHUNK: usize = 32;
/// Admissions that a slow listener may be behind.
const MAX_EVENTS: usize = 4096;
/// After so many times of waiting for another copy of an entry, it is looked at whatever becomes of the others: else who
/// sends spoiled copies again and again could keep an honest one waiting.
const MAX_WAITS: u32 = 2;

/// An entry that was just stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// Its table.
    pub table: TableId,
    /// Its id.
    pub id: EntryId,
    /// Its arrival number.
    pub arrival: u64,
    /// When it was created, in unix seconds.
    pub created: u64,
    /// How it came in.
    pub way: Way,
}

/// The way an entry came in. All pass the same checks; it decides what is announced, and in which queue it waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A peer put it here.
    Put,
    /// It was announced and fetched.
    Announce,
    /// Reconciliation fetched it.
    Sync,
    /// The operator imported it.
    Import,
}

/// What the gate says of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// Its id, as far as it could be decoded.
    pub id: Option<EntryId>,
    /// What became of it.
    pub outcome: Outcome,
}

impl Judgement {
    const fn busy() -> Self {
        Self { id: None, outcome: Outcome::Refused(Refusal::Busy) }
    }
}

/// What came to a gate since the start: every copy of an entry, by its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Put by peers.
    pub put: u64,
    /// Announced and fetched.
    pub announced: u64,
    /// Fetched by reconciliation, or as the first of a new table.
    pub reconciled: u64,
    /// Imported.
    pub imported: u64,
    /// Signatures verified.
    pub verified: u64,
}

/// Admits entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    came: Arc<Came>,
    workers: Arc<Workers>,
    live: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
}

impl Gate {
    /// A gate in front of `store` that takes the tables of `mirror`, at most `max_tables` of them.
    #[must_use]
    pub fn new(store: Store, network: Network, mirror: Mirror, max_tables: usize, clock: Clock) -> Self {
        let checks = Checks::new(store, network, mirror, max_tables, clock);
        Self {
            came: Arc::default(),
            workers: Arc::new(Workers::new(checks, broadcast::channel(MAX_EVENTS).0)),
            live: Arc::new(Semaphore::new(MAX_WAITING)),
            bulk: Arc::new(Semaphore::new(MAX_WAITING)),
        }
    }

    /// What is stored from now on.
    #[must_use]
    pub fn admitted(&self) -> broadcast::Receiver<Admitted> {
        self.workers.admitted()
    }

    /// The tables that this gate takes.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.workers.checks().mirror
    }

    /// What came to this gate so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let count = |way: Way| self.came.count(way).load(Ordering::Relaxed);
        Totals {
            put: count(Way::Put),
            announced: count(Way::Announce),
            reconciled: count(Way::Sync),
            imported: count(Way::Import),
            verified: self.workers.checks().verifications(),
        }
    }

    /// Admits encoded entries; `keys` are the SPKIs of their tables, as far as they were sent along. The
    /// judgements are in the order of the entries, and `Stored` is said after the commit is durable.
    ///
    /// Answers [`Refusal::Busy`] for all if too many entries wait already.
    pub async fn admit(&self, way: Way, entries: Vec<Bytes>, keys: Vec<Bytes>) -> Vec<Judgement> {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        match Arc::clone(self.places(way)).try_acquire_many_owned(count) {
            Ok(places) => self.pass(way, entries, keys, places.into()).await,
            Err(_) => vec![Judgement::busy(); entries.len()],
        }
    }

    /// As [`Gate::admit`], but waits for its turn: for imports and reconciliation, whose pace is ours. At most
    /// 1,024 entries at a time.
    pub async fn admit_patiently(&self, way: Way, entries: Vec<Bytes>, keys: Vec<Bytes>) -> Vec<Judgement> {
        let count = u32::try_from(entries.len().min(MAX_WAITING)).unwrap_or(u32::MAX);
        match Arc::clone(self.places(way)).acquire_many_owned(count).await {
            Ok(places) => self.pass(way, entries, keys, places.into()).await,
            Err(_) => vec![Judgement::busy(); entries.len()],
        }
    }

    const fn places(&self, way: Way) -> &Arc<Semaphore> {
        match way.lane() {
            Lane::Live => &self.live,
            Lane::Bulk => &self.bulk,
        }
    }

    /// Whoever waits may go away at any time: the work keeps its places until it is done.
    async fn pass(
        &self,
        way: Way,
        entries: Vec<Bytes>,
        keys: Vec<Bytes>,
        places: Arc<OwnedSemaphorePermit>,
    ) -> Vec<Judgement> {
        self.came.count(way).fetch_add(entries.len() as u64, Ordering::Relaxed);
        // Answered for good further down, entry by entry; what a failing worker leaves over was not judged.
        let mut judgements = vec![Judgement::busy(); entries.len()];
        let keys: Arc<[Bytes]> = keys.into();
        let mut left: Vec<(usize, Bytes)> = entries.into_iter().enumerate().collect();
        let mut waits = 0;
        while !left.is_empty() {
            let pieces = left.chunks(CHUNK).map(|piece| {
                let entries = piece.iter().map(|(_, entry)| entry.clone()).collect();
                let (keys, places) = (Arc::clone(&keys), Arc::clone(&places));
                let (work, answer) = Work::new(way, entries, keys, places, waits == MAX_WAITS);
                self.workers.push(work);
                answer
            });
            // All are queued before the first is waited for.
            let answers: Vec<_> = pieces.collect();
            let mut verdicts = Vec::with_capacity(left.len());
            for (answer, piece) in answers.into_iter().zip(left.chunks(CHUNK)) {
                let judged = answer.await.unwrap_or_default().into_iter();
                verdicts.extend(judged.map(Some).chain(std::iter::repeat_with(|| None)).take(piece.len()));
            }
            let mut again = Vec::new();
            for ((place, entry), verdict) in left.into_iter().zip(verdicts) {
                match verdict {
                    Some(Verdict::Judged(judgement)) => {
                        if let Some(slot) = judgements.get_mut(place) {
                            *slot = judgement;
                        }
                    }
                    Some(Verdict::InFlight(done)) => {
                        // One copy is enough; only if it came to nothing is this one looked at.
                        done.cancelled().await;
                        again.push((place, entry));
                    }
                    None => {}
                }
            }
            left = again;
            waits += 1;
        }
        judgements
    }
}

/// Entries that came, by their way.
#[derive(Debug, Default)]
struct Came {
    put: AtomicU64,
    announced: AtomicU64,
    reconciled: AtomicU64,
    imported: AtomicU64,
}

impl Came {
    const fn count(&self, way: Way) -> &AtomicU64 {
        match way {
            Way::Put => &self.put,
            Way::Announce => &self.announced,
            Way::Sync => &self.reconciled,
            Way::Import => &self.imported,
        }
    }
}

fn store_failed(error: &StoreError) {
    tracing::error!(error = error.with_causes(), "the store failed");
}

#[cfg(test)]
mod tests;
