//! Announces: what came in here is announced, what others announce is fetched, verified and only then passed on
//! (SPEC 9.2).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::{PeerId, gossipsub::MessageAcceptance};
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    filter::Filter,
    id::{EntryId, TableId},
    limits,
    message::get::Get,
    refusal::{Outcome, Refusal},
};
use tokio::sync::{Notify, Semaphore, broadcast, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ingest::{Admitted, Way},
    serve::quota::{Limiter, Rates},
    store::{Presence, StoreError},
    swarm::{Announced, Conduct},
    sync::Context,
};

/// Announces that are fetched at the same time.
const MAX_FETCHES: usize = 32;
/// How long an announce may take to be fetched, waiting for other fetches of the same ids included.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// Entries older than this that reconciliation brought are news to nobody, in seconds.
const MAX_NEWS_AGE: u64 = 600;
/// Announces that nobody heard, kept for another try.
const MAX_UNHEARD: usize = 256;
/// Pause between the tries.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// After so many tries, reconciliation has to do.
const MAX_TRIES: u32 = 15;

/// Announces and fetches announced entries.
#[derive(Debug, Clone)]
pub struct Relay {
    context: Arc<Context>,
    fetching: Arc<Mutex<HashSet<EntryId>>>,
    fetched: Arc<Notify>,
    fetches: Arc<Semaphore>,
    announced: Arc<Limiter>,
}

/// Why an announce is not passed on.
enum Unfit {
    /// The forwarder answered, but did not have the entries.
    Missing,
    /// The entries are not what honest nodes pass on.
    Invalid,
    /// They could not be asked for, or not taken: nothing that speaks against the forwarder.
    Own,
}

impl Relay {
    /// A relay that works with `context` and takes of each peer as many ids as `rates` says.
    #[must_use]
    pub fn new(context: Arc<Context>, rates: Rates) -> Self {
        Self {
            context,
            fetching: Arc::default(),
            fetched: Arc::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            announced: Arc::new(Limiter::per_minute(rates.announced, rates.per_address)),
        }
    }

    /// Fetches what is announced until `shutdown`.
    pub async fn listen(self, mut announces: mpsc::Receiver<Announced>, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        loop {
            let announced = tokio::select! {
                () = shutdown.cancelled() => break,
                announced = announces.recv() => announced,
            };
            let Some(announced) = announced else { break };
            let Ok(place) = Arc::clone(&self.fetches).acquire_owned().await else { break };
            let relay = self.clone();
            tasks.spawn(async move {
                relay.consider(announced).await;
                drop(place);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn consider(&self, announced: Announced) {
        let Announced { source, table, ids, message_id } = announced;
        let fetched = tokio::time::timeout(FETCH_PATIENCE, self.fetch(source, table, ids.into_inner()));
        let acceptance = match fetched.await.unwrap_or(Err(Unfit::Own)) {
            Ok(()) => MessageAcceptance::Accept,
            Err(Unfit::Missing) => {
                self.context.swarm.report(source, Conduct::EmptyPromise).await;
                self.context.hint(source);
                MessageAcceptance::Ignore
            }
            Err(Unfit::Invalid) => {
                self.context.swarm.report(source, Conduct::Misbehaviour).await;
                MessageAcceptance::Reject
            }
            Err(Unfit::Own) => {
                // Reconciliation will bring what is worth it.
                self.context.hint(source);
                MessageAcceptance::Ignore
            }
        };
        self.context.swarm.judge(message_id, source, acceptance).await;
    }

    /// Gets those of the ids that are not Known from whoever announced them.
    async fn fetch(&self, source: PeerId, table: TableId, ids: Vec<EntryId>) -> Result<(), Unfit> {
        let mut charged = false;
        loop {
            let unknown = self.unknown(table, &ids).await.map_err(|_| Unfit::Own)?;
            if unknown.is_empty() {
                return Ok(());
            }
            if !std::mem::replace(&mut charged, true) {
                let origin = self.context.swarm.origin_of(source).await;
                self.announced.charge(source, origin, unknown.len()).map_err(|_| Unfit::Own)?;
            }
            let done = self.fetched.notified();
            let claim = self.claim(&unknown);
            if claim.ids.is_empty() {
                // Others are at it: one copy of each entry is enough.
                done.await;
            } else {
                // What others fetch meanwhile is looked at again; what is refused here stays unknown.
                let all_ours = claim.ids.len() == unknown.len();
                self.get(source, table, claim).await?;
                if all_ours {
                    return Ok(());
                }
            }
        }
    }

    async fn get(&self, source: PeerId, table: TableId, claim: Claim<'_>) -> Result<(), Unfit> {
        let mut filter = Filter::ids(claim.ids.clone()).with_table(table);
        filter.limit = limits::MAX_ANNOUNCE_IDS;
        let mut missing: BTreeSet<EntryId> = claim.ids.iter().copied().collect();
        while !missing.is_empty() {
            let request = filter.to_request().map_err(|_| Unfit::Own)?;
            let answer = self.context.swarm.request::<Get>(source, request).await.map_err(|error| {
                tracing::debug!(peer = %source, %error, "announced entries could not be asked for");
                Unfit::Own
            })?;
            let entries: Vec<_> = answer.entries.into_iter().map(|(_, entry)| entry.into_inner()).collect();
            if entries.is_empty() {
                break;
            }
            let keys = List::into_inner(answer.keys).into_iter().map(Blob::into_inner).collect();
            for judgement in self.context.gate.admit_patiently(Way::Announce, entries, keys).await {
                match judgement.outcome {
                    Outcome::Refused(refusal) if refusal.is_misbehaviour() => return Err(Unfit::Invalid),
                    Outcome::Refused(Refusal::Busy | Refusal::StoreFailed | Refusal::QuotaExceeded) => {
                        return Err(Unfit::Own);
                    }
                    _ => {}
                }
                // Only what was asked for may come, and each once.
                if !judgement.id.is_some_and(|id| missing.remove(&id)) {
                    return Err(Unfit::Invalid);
                }
            }
            if !answer.more {
                break;
            }
            filter.cursor = Some(answer.next);
        }
        if missing.is_empty() { Ok(()) } else { Err(Unfit::Missing) }
    }

    async fn unknown(&self, table: TableId, ids: &[EntryId]) -> Result<Vec<EntryId>, StoreError> {
        let presences = self.context.store.known(table, ids.to_vec()).await?;
        let unknown = ids.iter().zip(presences).filter(|(_, presence)| *presence == Presence::Unknown);
        Ok(unknown.map(|(id, _)| *id).collect())
    }

    fn claim(&self, ids: &[EntryId]) -> Claim<'_> {
        let mut fetching = self.lock_fetching();
        let ids = ids.iter().filter(|id| fetching.insert(**id)).copied().collect();
        Claim { relay: self, ids }
    }

    fn lock_fetching(&self) -> MutexGuard<'_, HashSet<EntryId>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces what comes in, and joins the gossip about tables that are new here, until `shutdown`.
    pub async fn announce(self, mut admitted: broadcast::Receiver<Admitted>, shutdown: CancellationToken) {
        let mut tables = HashSet::new();
        for table in self.context.own_tables().await {
            self.join(table, &mut tables).await;
        }
        let mut unheard: VecDeque<(TableId, Vec<EntryId>, u32)> = VecDeque::new();
        let mut retry = tokio::time::interval(RETRY_PAUSE);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                first = admitted.recv() => {
                    let mut news = match first {
                        Ok(first) => vec![first],
                        // Reconciliation makes up for what was not announced.
                        Err(broadcast::error::RecvError::Lagged(_)) => continue,
                        Err(broadcast::error::RecvError::Closed) => return,
                    };
                    // What came in meanwhile goes along.
                    while news.len() < 1024 && let Ok(next) = admitted.try_recv() {
                        news.push(next);
                    }
                    for (table, ids) in self.worth_announcing(news, &mut tables).await {
                        for ids in ids.chunks(limits::MAX_ANNOUNCE_IDS) {
                            if !self.context.swarm.announce(table, ids.to_vec()).await
                                && unheard.len() < MAX_UNHEARD
                            {
                                unheard.push_back((table, ids.to_vec(), 1));
                            }
                        }
                    }
                }
                _ = retry.tick() => {
                    for _ in 0..unheard.len() {
                        let Some((table, ids, tries)) = unheard.pop_front() else { break };
                        if !self.context.swarm.announce(table, ids.clone()).await && tries < MAX_TRIES {
                            unheard.push_back((table, ids, tries + 1));
                        }
                    }
                }
            }
        }
    }

    async fn worth_announcing(
        &self,
        news: Vec<Admitted>,
        tables: &mut HashSet<TableId>,
    ) -> BTreeMap<TableId, Vec<EntryId>> {
        let now = self.context.clock.now();
        let mut by_table: BTreeMap<TableId, Vec<EntryId>> = BTreeMap::new();
        for Admitted { table, id, created, way, .. } in news {
            self.join(table, tables).await;
            let fresh = created.saturating_add(MAX_NEWS_AGE) > now;
            // What was announced is passed on by gossip itself.
            let announce = match way {
                Way::Put => true,
                Way::Announce => false,
                Way::Sync | Way::Import => fresh,
            };
            if announce {
                by_table.entry(table).or_default().push(id);
            }
        }
        by_table
    }

    async fn join(&self, table: TableId, tables: &mut HashSet<TableId>) {
        if tables.len() < self.context.max_tables && tables.insert(table) {
            self.context.swarm.subscribe(table).await;
            self.context.swarm.provide(table).await;
        }
    }
}

/// Ids that one fetch is about, until it ends in whatever way.
struct Claim<'a> {
    relay: &'a Relay,
    ids: Vec<EntryId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut fetching = self.relay.lock_fetching();
        for id in &self.ids {
            fetching.remove(id);
        }
        drop(fetching);
        self.relay.fetched.notify_waiters();
    }
}
