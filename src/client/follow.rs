//! Follows live: pages from each of several nodes by arrival, woken by announces.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{PeerId, gossipsub};
use lru::LruCache;
use p2pdb_protocol::{
    entry::Entry,
    filter::{Cursor, Filter, FilterError},
    id::{EntryId, TableId},
    limits,
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        mpsc,
    },
    task::{AbortHandle, JoinSet},
    time::MissedTickBehavior,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    client::{
        Client, ClientError,
        get::{MAX_EMPTY_PAGES, lock},
    },
    swarm::{Announced, Handle, News, Topic},
};

/// Without announces, nodes are asked again after this time.
const POLL: Duration = Duration::from_secs(10);
/// Nodes are looked for again after so many polls.
const POLLS_PER_SEARCH: u32 = 6;
/// Ids that are remembered, so that an entry is handed out once though several nodes serve it.
const MAX_SEEN: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// Entries that wait for the reader; further ones stay on the nodes until he is done.
const MAX_WAITING: usize = 64;
/// Wake-ups that a busy follower may miss without harm: the next poll finds all.
const MAX_WAKES: usize = 64;
/// Nodes followed at the same time.
const MAX_NODES: usize = 8;

/// Passes on that something was announced.
#[derive(Debug, Clone)]
pub(super) struct Wakers(broadcast::Sender<(TableId, PeerId)>);

impl Default for Wakers {
    fn default() -> Self {
        Self(broadcast::channel(MAX_WAKES).0)
    }
}

impl Wakers {
    /// A client cannot serve what it would forward: it only listens, beside the mesh (SPEC 9.4).
    pub(super) async fn run(
        self,
        swarm: Handle,
        mut announces: mpsc::Receiver<Announced>,
        shutdown: CancellationToken,
    ) {
        loop {
            let announced = tokio::select! {
                () = shutdown.cancelled() => return,
                announced = announces.recv() => announced,
            };
            let Some(Announced { source, news, message_id, .. }) = announced else { return };
            if let News::Entries { table, .. } = news {
                // Nobody may be following.
                let _ = self.0.send((table, source));
            }
            swarm.judge(message_id, source, gossipsub::MessageAcceptance::Ignore).await;
        }
    }
}

/// The entries that pass a filter, as they arrive. Ends when it is dropped, and then the client leaves the gossip about
/// the filter's tables, unless it follows them otherwise.
#[derive(Debug)]
pub struct Follow {
    entries: mpsc::Receiver<Entry>,
    _stop: DropGuard,
}

impl Follow {
    /// The next entry, verified; none after the client was stopped.
    pub async fn next(&mut self) -> Option<Entry> {
        self.entries.recv().await
    }
}

impl Client {
    /// Says who announced something of which table. Tables that nobody follows have to be subscribed to by
    /// [`Handle::subscribe`].
    #[must_use]
    pub fn announced(&self) -> broadcast::Receiver<(TableId, PeerId)> {
        self.inner.wakers.0.subscribe()
    }

    /// Follows what passes the filter: first what the nodes have already (set `seconds_since` to 0 to leave that
    /// out), then live. Each entry comes once, from whichever node has it first.
    ///
    /// # Errors
    /// If the filter has a cursor, which means something to one node only, or cannot be asked for.
    pub fn follow(&self, filter: Filter) -> Result<Follow, ClientError> {
        if filter.cursor.is_some() {
            return Err(ClientError::CursorWithoutNode);
        }
        let filter = Filter { limit: limits::MAX_GET_ENTRIES, ..filter };
        filter.to_request()?;
        if filter.is_unbounded() {
            return Err(ClientError::Filter(FilterError::Empty));
        }
        let (sender, entries) = mpsc::channel(MAX_WAITING);
        let stop = self.inner.shutdown.child_token();
        let follower = Follower {
            client: self.clone(),
            started: self.inner.clock.now(),
            filter,
            reader: Reader {
                cursors: Arc::default(),
                seen: Arc::new(Mutex::new(LruCache::new(MAX_SEEN))),
                entries: sender,
            },
            reading: JoinSet::new(),
            nodes: HashMap::new(),
            search: JoinSet::new(),
        };
        let wakes = self.inner.wakers.0.subscribe();
        let stopped = stop.clone();
        let (client, tables) = (self.clone(), follower.filter.tables.clone());
        tokio::spawn(async move {
            let swarm = &client.inner.swarm;
            for table in &tables {
                swarm.subscribe(Topic::Entries(*table)).await;
            }
            tokio::select! {
                () = stopped.cancelled() => {}
                () = follower.run(wakes) => {}
            }
            for table in tables {
                swarm.unsubscribe(Topic::Entries(table)).await;
            }
        });
        Ok(Follow { entries, _stop: stop.drop_guard() })
    }
}

struct Follower {
    client: Client,
    started: u64,
    filter: Filter,
    reader: Reader,
    /// Nodes that are read from, each by itself: a slow one does not hold up the others.
    reading: JoinSet<Result<PeerId, ReaderGone>>,
    /// Which they are.
    nodes: HashMap<PeerId, Reading>,
    /// Looks for nodes.
    search: JoinSet<Result<Vec<PeerId>, ClientError>>,
}

struct Reading {
    task: AbortHandle,
    /// Whether something new came meanwhile.
    again: bool,
}

/// What is handed out, and up to where each node was read.
#[derive(Clone)]
struct Reader {
    cursors: Arc<Mutex<HashMap<PeerId, Cursor>>>,
    seen: Arc<Mutex<LruCache<EntryId, ()>>>,
    entries: mpsc::Sender<Entry>,
}

/// Nobody reads any more.
struct ReaderGone;

impl Follower {
    async fn run(mut self, mut wakes: broadcast::Receiver<(TableId, PeerId)>) {
        let (mut nodes, mut polls) = (Vec::new(), 0);
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = poll.tick() => {
                    if self.search.is_empty() && (nodes.is_empty() || polls % POLLS_PER_SEARCH == 0) {
                        let (client, tables) = (self.client.clone(), self.filter.tables.clone());
                        self.search.spawn(async move { client.nodes(&tables, client.inner.nodes).await });
                    }
                    polls = polls.wrapping_add(1);
                    nodes.iter().for_each(|node| self.read(*node));
                }
                Some(found) = self.search.join_next() => match found {
                    Ok(Ok(found)) => {
                        nodes = found;
                        self.nodes.retain(|node, reading| {
                            let stays = nodes.contains(node);
                            if !stays {
                                reading.task.abort();
                            }
                            stays
                        });
                        nodes.iter().for_each(|node| self.read(*node));
                    }
                    Ok(Err(error)) => tracing::warn!(%error, "nobody to follow, trying on"),
                    Err(error) => tracing::error!(%error, "the search for nodes failed"),
                },
                // Whoever announces has the entry: it is asked at once, and followed from then on.
                wake = wakes.recv() => match wake {
                    Ok((table, source)) if self.filter.tables.contains(&table) => {
                        if !nodes.contains(&source) && nodes.len() < MAX_NODES {
                            nodes.push(source);
                        }
                        if nodes.contains(&source) {
                            self.read(source);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => nodes.iter().for_each(|node| self.read(*node)),
                    Err(RecvError::Closed) => return,
                },
                Some(read) = self.reading.join_next() => match read {
                    Ok(Ok(node)) => {
                        // A task that was begun since for the same node goes on.
                        if self.nodes.get(&node).is_some_and(|reading| reading.task.is_finished())
                            && self.nodes.remove(&node).is_some_and(|reading| reading.again)
                        {
                            self.read(node);
                        }
                    }
                    Ok(Err(ReaderGone)) => return,
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => {
                        tracing::error!(%error, "following stops");
                        return;
                    }
                },
            }
        }
    }

    /// Hands out what a node has and the reader has not; if that is under way, once more afterwards.
    fn read(&mut self, node: PeerId) {
        if let Some(reading) = self.nodes.get_mut(&node) {
            reading.again = true;
            return;
        }
        let cursor = lock(&self.reader.cursors).get(&node).copied();
        let mut filter = Filter { cursor, ..self.filter.clone() };
        // A node that is asked for the first time later on: what arrived since the start counts.
        let elapsed = self.client.inner.clock.now().saturating_sub(self.started);
        filter.seconds_since = filter.seconds_since.map(|since| since + elapsed);
        let task = self.reading.spawn(self.reader.clone().read(self.client.clone(), node, filter));
        self.nodes.insert(node, Reading { task, again: false });
    }
}

impl Reader {
    /// Reads a node from the cursor of the filter on.
    async fn read(self, client: Client, node: PeerId, mut filter: Filter) -> Result<PeerId, ReaderGone> {
        let mut stale_pages = 0;
        loop {
            if filter.cursor.is_some() {
                filter.seconds_since = None;
            }
            let known = Arc::clone(&self.seen);
            let page = match client.page(node, &filter, move |id| lock(&known).contains(id)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%node, %error, "a followed node does not answer");
                    break;
                }
            };
            let progress = filter.cursor.is_none_or(|cursor| cursor != page.next);
            // Whoever serves the same again and again is not asked on before the next round.
            stale_pages = if page.entries.is_empty() { stale_pages + 1 } else { 0 };
            for entry in page.entries {
                // Nothing counts as seen before there is room for it. Several nodes may have it, and a page two copies.
                let place = self.entries.reserve().await.map_err(|_| ReaderGone)?;
                if lock(&self.seen).put(entry.id(), ()).is_none() {
                    place.send(entry);
                }
            }
            filter.cursor = Some(page.next);
            lock(&self.cursors).insert(node, page.next);
            if !page.more || !progress || stale_pages == MAX_EMPTY_PAGES {
                break;
            }
        }
        Ok(node)
    }
}
