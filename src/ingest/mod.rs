//! The one gate: whatever its way in, an entry is admitted here or not at all (SPEC 6).

mod checks;
mod mirror;
mod pool;

use std::sync::Arc;

use bytes::Bytes;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    network::Network,
    refusal::{Outcome, Refusal},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

pub use self::mirror::Mirror;
use self::{checks::Checks, pool::Pool};
use crate::{
    clock::Clock,
    store::{Committed, NewEntry, Store, StoreError},
};

/// Entries that wait at the gate, over all ways in.
const MAX_WAITING: usize = 4096;
/// Entries that one worker checks in one go: enough to make the hand-over cheap, few enough to share the cores.
const CHUNK: usize = 32;
/// Admissions that a slow listener may be behind.
const MAX_EVENTS: usize = 4096;

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

/// The way an entry came in. All pass the same checks; it decides what is announced.
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

/// Admits entries. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    checks: Arc<Checks>,
    pool: Pool,
    waiting: Arc<Semaphore>,
    admitted: broadcast::Sender<Admitted>,
}

impl Gate {
    /// A gate in front of `store` that takes the tables of `mirror`, at most `max_tables` of them.
    #[must_use]
    pub fn new(store: Store, network: Network, mirror: Mirror, max_tables: usize, clock: Clock) -> Self {
        Self {
            checks: Arc::new(Checks::new(store, network, mirror, max_tables, clock)),
            pool: Pool::new(),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            admitted: broadcast::channel(MAX_EVENTS).0,
        }
    }

    /// What is stored from now on.
    #[must_use]
    pub fn admitted(&self) -> broadcast::Receiver<Admitted> {
        self.admitted.subscribe()
    }

    /// The tables that this gate takes.
    #[must_use]
    pub fn mirror(&self) -> &Mirror {
        &self.checks.mirror
    }

    /// Admits encoded entries; `keys` are the SPKIs of their tables, as far as they were sent along. The
    /// judgements are in the order of the entries, and `Stored` is said after the commit is durable.
    ///
    /// Answers [`Refusal::Busy`] for all if too many entries wait already.
    pub async fn admit(&self, way: Way, entries: Vec<Bytes>, keys: Vec<Bytes>) -> Vec<Judgement> {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        match Arc::clone(&self.waiting).try_acquire_many_owned(count) {
            Ok(places) => self.admit_with(places, way, entries, keys).await,
            Err(_) => vec![Judgement::busy(); entries.len()],
        }
    }

    /// As [`Gate::admit`], but waits for its turn: for imports and reconciliation, whose pace is ours. At most
    /// 1,024 entries at a time.
    pub async fn admit_patiently(&self, way: Way, entries: Vec<Bytes>, keys: Vec<Bytes>) -> Vec<Judgement> {
        let count = u32::try_from(entries.len().min(MAX_WAITING)).unwrap_or(u32::MAX);
        match Arc::clone(&self.waiting).acquire_many_owned(count).await {
            Ok(places) => self.admit_with(places, way, entries, keys).await,
            Err(_) => vec![Judgement::busy(); entries.len()],
        }
    }

    async fn admit_with(
        &self,
        _places: OwnedSemaphorePermit,
        way: Way,
        entries: Vec<Bytes>,
        sent_keys: Vec<Bytes>,
    ) -> Vec<Judgement> {
        // Answered for good further down, entry by entry; what a failing worker leaves over was not judged.
        let mut judgements = vec![Judgement::busy(); entries.len()];
        let numbered: Vec<Numbered<Bytes>> = entries.into_iter().enumerate().collect();
        let decoded = self.in_chunks(numbered, &mut judgements, Checks::decode).await;
        for (place, entry) in &decoded {
            if let Some(judgement) = judgements.get_mut(*place) {
                judgement.id = Some(entry.id());
            }
        }
        let timely = self.checks.leave_untimely(decoded, &mut judgements);
        let unknown = self.checks.leave_known(timely, &mut judgements).await;
        let keys = Arc::new(self.checks.keys_for(&unknown, sent_keys).await);
        let known_keys = Arc::clone(&keys);
        let check = move |checks: &Checks, entry| checks.verify(entry, &known_keys);
        let verified = self.in_chunks(unknown, &mut judgements, check).await;
        let (permitted, _new_tables) = self.checks.leave_over_quota(verified, &keys, &mut judgements).await;
        self.commit(way, permitted, &mut judgements).await;
        judgements
    }

    /// Runs a step for each entry on the worker pool; those that fail it get their outcome.
    async fn in_chunks<T: Send + 'static, U: Send + 'static>(
        &self,
        entries: Vec<Numbered<T>>,
        judgements: &mut [Judgement],
        step: impl Fn(&Checks, T) -> Result<U, Refusal> + Clone + Send + 'static,
    ) -> Vec<Numbered<U>> {
        let mut runs = Vec::new();
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            let chunk: Vec<_> = entries.by_ref().take(CHUNK).collect();
            let (checks, step) = (Arc::clone(&self.checks), step.clone());
            let run = move || -> Vec<Numbered<Result<U, Refusal>>> {
                chunk.into_iter().map(|(place, entry)| (place, step(&checks, entry))).collect()
            };
            runs.push(self.pool.run(run));
        }
        let mut passed = Vec::new();
        for (place, result) in futures::future::join_all(runs).await.into_iter().flatten().flatten() {
            match result {
                Ok(entry) => passed.push((place, entry)),
                Err(refusal) => settle(judgements, place, Outcome::Refused(refusal)),
            }
        }
        passed
    }

    /// Step 9: the durable commit.
    async fn commit(&self, way: Way, verified: Vec<Numbered<NewEntry>>, judgements: &mut [Judgement]) {
        if verified.is_empty() {
            return;
        }
        let (places, entries): (Vec<_>, Vec<_>) = verified.into_iter().unzip();
        let news: Vec<_> =
            entries.iter().map(|new: &NewEntry| (new.entry.id(), new.entry.header().clone())).collect();
        let committed = match self.checks.store.commit(entries).await {
            Ok(committed) => committed,
            Err(error) => {
                store_failed(&error);
                for place in places {
                    settle(judgements, place, Outcome::Refused(Refusal::StoreFailed));
                }
                return;
            }
        };
        for ((place, committed), (id, header)) in places.into_iter().zip(committed).zip(news) {
            let outcome = match committed {
                Committed::Stored { arrival } => {
                    let news = Admitted { table: header.table, id, arrival, created: header.created, way };
                    // Nobody may be listening.
                    let _ = self.admitted.send(news);
                    Outcome::Stored
                }
                Committed::Known => Outcome::Known,
                Committed::Dropped => Outcome::Refused(Refusal::Dropped),
            };
            settle(judgements, place, outcome);
        }
    }
}

/// An entry, or what has become of it, with its place in the request.
type Numbered<T> = (usize, T);

fn settle(judgements: &mut [Judgement], place: usize, outcome: Outcome) {
    if let Some(judgement) = judgements.get_mut(place) {
        judgement.outcome = outcome;
    }
}

fn store_failed(error: &StoreError) {
    tracing::error!(%error, "the store failed");
}

#[cfg(test)]
mod tests;
