//! The one gate: whatever its way in, an entry is admitted here or not at all (SPEC 6).

mod mirror;
mod pool;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lru::LruCache;
use p2pdb_protocol::{
    entry::UnverifiedEntry,
    id::{EntryId, TableId},
    keys::PublicKey,
    network::Network,
    refusal::{Outcome, Refusal},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

pub use self::mirror::Mirror;
use self::pool::Pool;
use crate::{
    clock::Clock,
    store::{Committed, NewEntry, Presence, Store, StoreError},
};

/// Entries that wait at the gate, over all ways in.
const MAX_WAITING: usize = 4096;
/// Entries that one worker checks in one go: enough to make the hand-over cheap, few enough to share the cores.
const CHUNK: usize = 32;
/// Parsed table keys that are kept.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
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
        let keys = Mutex::new(LruCache::new(MAX_KEYS));
        Self {
            checks: Arc::new(Checks { store, network, mirror, max_tables, clock, keys }),
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
        let unknown = self.checks.leave_known(decoded, &mut judgements).await;
        let keys = Arc::new(self.checks.keys_for(&unknown, sent_keys).await);
        let check = move |checks: &Checks, entry| checks.verify(entry, &keys);
        let verified = self.in_chunks(unknown, &mut judgements, check).await;
        self.commit(way, verified, &mut judgements).await;
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

/// Steps 1 to 8.
#[derive(Debug)]
struct Checks {
    store: Store,
    network: Network,
    mirror: Mirror,
    max_tables: usize,
    clock: Clock,
    keys: Mutex<LruCache<TableId, PublicKey>>,
}

/// What step 6 needs: the keys of tables that are stored, those that were sent along, and whether one more
/// table may be taken.
#[derive(Debug)]
struct Keys {
    stored: HashMap<TableId, PublicKey>,
    sent: Vec<Bytes>,
    room_for_tables: bool,
}

impl Checks {
    /// Steps 1 to 3: size, encoding, clock.
    fn decode(&self, encoded: Bytes) -> Result<UnverifiedEntry, Refusal> {
        let entry = UnverifiedEntry::decode(encoded, &self.network)?;
        entry.check_clock(&self.network, self.clock.now(), self.store.horizon_start())?;
        Ok(entry)
    }

    /// Step 4: those that are not Known.
    async fn leave_known(
        &self,
        entries: Vec<Numbered<UnverifiedEntry>>,
        judgements: &mut [Judgement],
    ) -> Vec<Numbered<UnverifiedEntry>> {
        let mut by_table: BTreeMap<TableId, Vec<Numbered<UnverifiedEntry>>> = BTreeMap::new();
        for (place, entry) in entries {
            by_table.entry(entry.header().table).or_default().push((place, entry));
        }
        let mut unknown = Vec::new();
        for (table, entries) in by_table {
            let ids = entries.iter().map(|(_, entry)| entry.id()).collect();
            let presences = match self.store.known(table, ids).await {
                Ok(presences) => presences,
                Err(error) => {
                    store_failed(&error);
                    for (place, _) in entries {
                        settle(judgements, place, Outcome::Refused(Refusal::StoreFailed));
                    }
                    continue;
                }
            };
            for ((place, entry), presence) in entries.into_iter().zip(presences) {
                match presence {
                    Presence::Unknown => unknown.push((place, entry)),
                    Presence::Stored => settle(judgements, place, Outcome::Known),
                    Presence::Dropped => settle(judgements, place, Outcome::Refused(Refusal::Dropped)),
                }
            }
        }
        unknown
    }

    async fn keys_for(&self, entries: &[Numbered<UnverifiedEntry>], sent: Vec<Bytes>) -> Keys {
        let tables: BTreeSet<TableId> = entries.iter().map(|(_, entry)| entry.header().table).collect();
        let mut keys = Keys { stored: HashMap::new(), sent, room_for_tables: false };
        let mut all_stored = true;
        for table in tables {
            match self.stored_key(&table).await {
                Some(key) => {
                    keys.stored.insert(table, key);
                }
                None => all_stored = false,
            }
        }
        if !all_stored {
            // Tables are free to make: how many there may be is a quota of the node.
            let tables = self.store.tables().await.inspect_err(store_failed);
            keys.room_for_tables =
                tables.is_ok_and(|tables| tables.iter().filter(|t| t.entries > 0).count() < self.max_tables);
        }
        keys
    }

    async fn stored_key(&self, table: &TableId) -> Option<PublicKey> {
        if let Some(key) = self.lock_keys().get(table) {
            return Some(key.clone());
        }
        let der = self.store.table_key(*table).await.inspect_err(store_failed).ok()??;
        let key = PublicKey::from_der(&der).ok()?;
        self.lock_keys().put(*table, key.clone());
        Some(key)
    }

    /// Steps 5 to 8: work, table, signature, quota.
    fn verify(&self, entry: UnverifiedEntry, keys: &Keys) -> Result<NewEntry, Refusal> {
        let table = entry.header().table;
        let entry = entry.check_work(&self.network)?;
        if !self.mirror.takes(&table) {
            return Err(Refusal::TableNotMirrored);
        }
        let (key, is_new) = match keys.stored.get(&table) {
            Some(key) => (key.clone(), false),
            None => (sent_key(&table, &keys.sent)?, true),
        };
        let entry = entry.verify(&key)?;
        if is_new && !keys.room_for_tables {
            return Err(Refusal::QuotaExceeded);
        }
        Ok(NewEntry { entry, key })
    }

    fn lock_keys(&self) -> MutexGuard<'_, LruCache<TableId, PublicKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sent_key(table: &TableId, sent: &[Bytes]) -> Result<PublicKey, Refusal> {
    let mut refusal = Refusal::TableKeyMissing;
    for der in sent {
        match PublicKey::from_der(der) {
            Ok(key) if key.table_id() == *table => return Ok(key),
            Ok(_) => {}
            Err(_) => refusal = Refusal::TableKeyInvalid,
        }
    }
    Err(refusal)
}

fn store_failed(error: &StoreError) {
    tracing::error!(%error, "the store failed");
}
