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
use tokio::sync::{broadcast, mpsc};
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
/// How long one node may keep the others waiting.
const NODE_PATIENCE: Duration = Duration::from_secs(5);
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
            cursors: HashMap::new(),
            seen: Arc::new(Mutex::new(LruCache::new(MAX_SEEN))),
            entries: sender,
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
    cursors: HashMap<PeerId, Cursor>,
    seen: Arc<Mutex<LruCache<EntryId, ()>>>,
    entries: mpsc::Sender<Entry>,
}

/// Nobody reads any more.
struct ReaderGone;

impl Follower {
    async fn run(mut self, mut wakes: broadcast::Receiver<(TableId, PeerId)>) {
        let (mut nodes, mut polls) = (Vec::new(), 0);
        loop {
            if nodes.is_empty() || polls % POLLS_PER_SEARCH == 0 {
                match self.client.nodes(&self.filter.tables, self.client.inner.nodes).await {
                    Ok(found) => nodes = found,
                    Err(error) => tracing::warn!(%error, "nobody to follow, trying on"),
                }
            }
            polls = polls.wrapping_add(1);
            for node in nodes.clone() {
                if self.drain(node).await.is_err() {
                    return;
                }
            }
            let deadline = tokio::time::Instant::now() + POLL;
            // Whoever announces has the entry: it is asked at once, and followed from then on.
            while let Ok(Ok((table, source))) = tokio::time::timeout_at(deadline, wakes.recv()).await {
                if !self.filter.tables.contains(&table) {
                    continue;
                }
                if !nodes.contains(&source) && nodes.len() < MAX_NODES {
                    nodes.push(source);
                }
                if self.drain(source).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Hands out what one node has and the reader has not, for as long as the node keeps up: a slow one must not
    /// hold up the others, and is asked again in the next round.
    async fn drain(&mut self, node: PeerId) -> Result<(), ReaderGone> {
        tokio::time::timeout(NODE_PATIENCE, self.drain_whole(node)).await.unwrap_or(Ok(()))
    }

    async fn drain_whole(&mut self, node: PeerId) -> Result<(), ReaderGone> {
        let mut empty_pages = 0;
        loop {
            let cursor = self.cursors.get(&node).copied();
            let mut filter = Filter { cursor, ..self.filter.clone() };
            filter.seconds_since = match (cursor, self.filter.seconds_since) {
                (Some(_), _) => None,
                // A node that is asked for the first time later on: what arrived since the start counts.
                (None, Some(since)) => {
                    Some(since + self.client.inner.clock.now().saturating_sub(self.started))
                }
                (None, None) => None,
            };
            let seen = Arc::clone(&self.seen);
            let page = match self.client.page(node, &filter, move |id| lock(&seen).contains(id)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::debug!(%node, %error, "a followed node does not answer");
                    return Ok(());
                }
            };
            let progress = cursor.is_none_or(|cursor| cursor != page.next);
            empty_pages = if page.served == 0 { empty_pages + 1 } else { 0 };
            for entry in page.entries {
                // Nothing counts as seen before there is room for it. A page may have two copies.
                let place = self.entries.reserve().await.map_err(|_| ReaderGone)?;
                if lock(&self.seen).put(entry.id(), ()).is_none() {
                    place.send(entry);
                }
            }
            self.cursors.insert(node, page.next);
            if !page.more || !progress || empty_pages == MAX_EMPTY_PAGES {
                return Ok(());
            }
        }
    }
}
