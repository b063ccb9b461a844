//! Announces: what came in here is announced, what others announce is fetched, verified and only then passed on
//! (SPEC 9).

mod fetch;
mod publish;
mod tables;

use std::{
    collections::HashSet,
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::{PeerId, gossipsub::MessageAcceptance};
use lru::LruCache;
use p2pdb_protocol::{
    filter::Filter,
    id::{EntryId, TableId},
    message::get::{Get, GetResponse},
    refusal::{Outcome, Refusal},
};
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    time::{error::Elapsed, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ingest::Judgement,
    serve::quota::{Limiter, Rates},
    swarm::{Announced, Conduct, News},
    sync::Context,
};

/// Announces that are fetched at the same time.
const MAX_FETCHES: usize = 128;
/// Announces of one peer that are fetched at the same time: peers that let them hang must be many to keep others waiting.
const MAX_FETCHES_PER_PEER: usize = 8;
/// Announces that are fetched or wait for it: some megabytes. Further ones are dropped, and made up for by reconciliation.
const MAX_HELD: usize = 4096;
/// How long one announcer may take to hand over what it announced, waiting for other fetches of the same ids included. Who takes longer is
/// not blamed for it: so does a slow link.
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
/// How long it may be silent: less, so that whoever announces the same is asked before his time is over, too.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// How long all announcers of the same may take.
const ANNOUNCE_PATIENCE: Duration = Duration::from_secs(15);
/// How long an announce waits for others to be fetched: gossip keeps it for 45 seconds.
const PLACE_PATIENCE: Duration = Duration::from_secs(25);
/// Announcers that are asked for the same, one after the other: the announce must not be forgotten meanwhile.
const MAX_ASKED: usize = 4;
/// New tables that a peer may announce in a minute: each costs it an entry with its work, and us a question.
const TABLES_PER_MINUTE: u32 = 60;
/// Announced tables that are remembered.
const MAX_HEARD: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Announces and fetches announced entries.
#[derive(Debug, Clone)]
pub struct Relay {
    context: Arc<Context>,
    fetching: Arc<Mutex<HashSet<EntryId>>>,
    fetched: Arc<Notify>,
    fetches: Arc<Semaphore>,
    held: Arc<Semaphore>,
    announced: Arc<Limiter>,
    announced_tables: Arc<Limiter>,
    /// New tables that gossip passes on by itself.
    heard: Arc<Mutex<LruCache<TableId, ()>>>,
}

/// Why something announced could not be had from a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unfit {
    /// The peer answered, but did not have the entries.
    Missing,
    /// The entries are not what honest nodes pass on.
    Invalid,
    /// The peer did not answer, or not in time.
    Silent,
    /// They could not be taken: nothing that speaks against the peer.
    Own,
}

impl Relay {
    /// A relay that works with `context` and takes of each peer as many ids as `rates` says.
    #[must_use]
    pub fn new(context: Arc<Context>, rates: Rates) -> Self {
        let limiter = |items| Arc::new(Limiter::per_minute(items, rates.per_address));
        Self {
            context,
            fetching: Arc::default(),
            fetched: Arc::default(),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
            held: Arc::new(Semaphore::new(MAX_HELD)),
            announced: limiter(rates.announced),
            announced_tables: limiter(TABLES_PER_MINUTE),
            heard: Arc::new(Mutex::new(LruCache::new(MAX_HEARD))),
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
            let Ok(held) = Arc::clone(&self.held).try_acquire_owned() else {
                self.judge(&announced, MessageAcceptance::Ignore).await;
                continue;
            };
            let (relay, shutdown) = (self.clone(), shutdown.clone());
            tasks.spawn(async move {
                shutdown.run_until_cancelled(relay.consider(announced)).await;
                drop(held);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn consider(&self, announced: Announced) {
        let (source, news) = (announced.source, &announced.news);
        tracing::trace!(%source, ?news, "announced");
        let acceptance = if self.charge(&announced) {
            self.have_soon(source, news).await.unwrap_or(MessageAcceptance::Ignore)
        } else {
            MessageAcceptance::Ignore
        };
        self.judge(&announced, acceptance).await;
    }

    /// Says what becomes of an announce. If it is not passed on, reconciliation will bring what is worth it.
    async fn judge(&self, announced: &Announced, acceptance: MessageAcceptance) {
        let source = announced.source;
        tracing::trace!(%source, ?acceptance, "announce considered");
        if !matches!(acceptance, MessageAcceptance::Accept) {
            self.context.hint(source);
        }
        self.context.swarm.judge(announced.message_id.clone(), source, acceptance).await;
    }

    /// Charges who announces for everything announced, known here or not: it all goes on to others.
    fn charge(&self, announced: &Announced) -> bool {
        let (limiter, items) = match &announced.news {
            News::Entries { ids, .. } => (&self.announced, ids.len()),
            News::NewTables(tables) => (&self.announced_tables, tables.len()),
        };
        limiter.charge(announced.source, announced.origin, items).is_ok()
    }

    /// Gets what is announced once it has its turn, unless it takes too long.
    async fn have_soon(&self, source: PeerId, news: &News) -> Result<MessageAcceptance, Elapsed> {
        // The peer's own place first: who waits behind a slow peer must not hold a place of all.
        let of_peer = self.context.swarm.slot(source, "announce", MAX_FETCHES_PER_PEER);
        let places = async { (of_peer.acquire().await, self.fetches.acquire().await) };
        let _places = timeout(PLACE_PATIENCE, places).await?;
        timeout(ANNOUNCE_PATIENCE, self.have(source, news)).await
    }

    /// Gets what is announced, from whoever forwarded it or else from the next that did, and says whether to pass it on.
    async fn have(&self, source: PeerId, news: &News) -> MessageAcceptance {
        let mut otherwise = MessageAcceptance::Ignore;
        let mut asked = Vec::new();
        let mut next = Some(source);
        while let Some(peer) = next {
            asked.push(peer);
            let fetched = timeout(FETCH_PATIENCE, self.fetch(peer, news)).await;
            match fetched.unwrap_or(Err(Unfit::Silent)) {
                Ok(()) => return MessageAcceptance::Accept,
                Err(Unfit::Missing) => {
                    // Others of the mesh are asked on the chance that they have it: they promised nothing.
                    if peer == source {
                        self.context.swarm.report(peer, Conduct::EmptyPromise).await;
                    }
                }
                Err(Unfit::Invalid) => {
                    self.context.swarm.report(peer, Conduct::Misbehaviour).await;
                    if peer == source {
                        otherwise = MessageAcceptance::Reject;
                    }
                }
                Err(Unfit::Silent) => {}
                Err(Unfit::Own) => break,
            }
            let forwarders = self.context.swarm.forwarders(news.topic()).await;
            next = forwarders.into_iter().find(|peer| asked.len() < MAX_ASKED && !asked.contains(peer));
        }
        otherwise
    }

    async fn fetch(&self, peer: PeerId, news: &News) -> Result<(), Unfit> {
        match news {
            News::Entries { table, ids } => self.fetch_entries(peer, *table, ids).await,
            News::NewTables(tables) => self.fetch_tables(peer, tables).await,
        }
    }

    /// What a peer that announced it has of this.
    async fn ask(&self, peer: PeerId, filter: &Filter) -> Result<GetResponse, Unfit> {
        let request = filter.to_request().map_err(|_| Unfit::Own)?;
        let answer = self.context.swarm.request_begun_within::<Get>(peer, request, ANSWER_PATIENCE).await;
        answer.map_err(|error| {
            tracing::debug!(%peer, %error, "announced entries could not be asked for");
            Unfit::Silent
        })
    }

    fn lock_heard(&self) -> MutexGuard<'_, LruCache<TableId, ()>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the gate's judgement of an entry says that its fetch is over.
const fn judged(judgement: &Judgement) -> Result<(), Unfit> {
    match judgement.outcome {
        Outcome::Refused(refusal) if refusal.is_misbehaviour() => Err(Unfit::Invalid),
        Outcome::Refused(Refusal::Busy | Refusal::StoreFailed | Refusal::QuotaExceeded) => Err(Unfit::Own),
        _ => Ok(()),
    }
}
