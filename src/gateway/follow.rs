//! Keeps the mirror up with the nodes: what each of them has behind the place up to which it was read, woken by
//! announces. The place is on disk, so that a restart reads nothing twice.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use lru::LruCache;
use p2pdb_protocol::{
    entry::Entry,
    filter::Filter,
    id::{EntryId, TableId},
    keys::PublicKey,
    limits,
};
use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::JoinSet,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{Client, ClientError, MAX_EMPTY_PAGES},
    gateway::{
        mirror::Mirror,
        spaces::Spaces,
        state::{State, StateError},
    },
    store::StoreError,
    swarm::Topic,
};

/// Without announces, nodes are asked again after this time.
const POLL: Duration = Duration::from_secs(10);
/// Pause after no node was found, which itself took as long as the client is patient.
const PAUSE: Duration = Duration::from_secs(1);
/// Nodes that one table is read from at the same time, those of the round not counted: anybody may announce.
const MAX_ANNOUNCERS: usize = 8;
/// How long one node may keep the next one waiting; it is read on beside that.
const NODE_PATIENCE: Duration = Duration::from_secs(5);
/// Ids that are remembered, so that what one node served is not verified again when another one serves it.
const MAX_SEEN: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();
/// How often the mirror drops what is due.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Why a node is not read to the end.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Node(#[from] ClientError),
    #[error(transparent)]
    Mirror(#[from] StoreError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the daemon stops")]
    Stopped(#[from] tokio::task::JoinError),
}

/// Ids of entries that are in the mirror.
#[derive(Debug, Clone)]
pub(super) struct Seen(Arc<Mutex<LruCache<EntryId, ()>>>);

impl Default for Seen {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MAX_SEEN))))
    }
}

impl Seen {
    fn contains(&self, id: &EntryId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    fn note(&self, ids: Vec<EntryId>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            seen.put(id, ());
        }
    }
}

/// What following needs.
#[derive(Debug, Clone)]
pub(super) struct Follower {
    pub(super) client: Client,
    pub(super) mirror: Arc<Mirror>,
    pub(super) state: State,
    pub(super) spaces: Arc<Spaces>,
    pub(super) seen: Seen,
    /// Nodes to look for.
    pub(super) nodes: usize,
    /// Rounds over the nodes of each table since the start.
    pub(super) rounds: watch::Sender<HashMap<TableId, u64>>,
}

impl Follower {
    /// Follows the tables of all spaces until `shutdown`.
    pub(super) async fn run(self, shutdown: CancellationToken) {
        let mut changes = self.spaces.changes();
        let tasks = TaskTracker::new();
        let mut followed: HashMap<TableId, CancellationToken> = HashMap::new();
        loop {
            let wanted: HashMap<TableId, PublicKey> = (self.spaces.all().iter())
                .map(|space| (space.table(), space.card.table_public.clone()))
                .collect();
            for (table, stop) in &followed {
                if !wanted.contains_key(table) {
                    stop.cancel();
                    self.client.swarm().unsubscribe(Topic::Entries(*table)).await;
                }
            }
            followed.retain(|table, _| wanted.contains_key(table));
            for (table, key) in wanted {
                followed.entry(table).or_insert_with(|| {
                    let stop = shutdown.child_token();
                    let (follower, stopped) = (self.clone(), stop.clone());
                    tasks.spawn(async move {
                        let mut reading = JoinSet::new();
                        tokio::select! {
                            () = stopped.cancelled() => {}
                            () = follower.follow(key, &mut reading) => {}
                        }
                        reading.shutdown().await;
                    });
                    stop
                });
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
            }
        }
        tasks.close();
        tasks.wait().await;
    }

    /// Drops what is due in the mirror, until `shutdown`.
    pub(super) async fn sweep(self, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => if let Err(error) = self.mirror.store().sweep().await {
                    tracing::error!(%error, "entries that are due could not be dropped");
                },
            }
        }
    }

    async fn follow(self, key: PublicKey, tasks: &mut JoinSet<PeerId>) {
        let table = key.table_id();
        let mut announced = self.client.announced();
        self.client.swarm().subscribe(Topic::Entries(table)).await;
        let mut readers = Readers { follower: &self, key: &key, tasks, under_way: HashMap::new() };
        loop {
            let nodes = match self.client.nodes(&[table], self.nodes).await {
                Ok(nodes) => nodes,
                Err(error) => {
                    tracing::debug!(%table, %error, "nobody to follow, trying on");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // One after the other, as long as they keep up, so that what several have is verified once.
            for node in &nodes {
                readers.wake(*node);
                let turn = Instant::now() + NODE_PATIENCE;
                readers.serve(&nodes, &mut announced, turn, Some(node)).await;
            }
            self.rounds.send_modify(|rounds| *rounds.entry(table).or_default() += 1);
            readers.serve(&nodes, &mut announced, Instant::now() + POLL, None).await;
        }
    }

    /// Takes over what a node has behind the place up to which it was read.
    async fn read(self, key: PublicKey, node: PeerId) -> PeerId {
        if let Err(error) = self.read_whole(&key, node).await {
            tracing::debug!(%node, %error, "a node is not read to the end");
        }
        node
    }

    async fn read_whole(&self, key: &PublicKey, node: PeerId) -> Result<(), ReadError> {
        let table = key.table_id();
        let mut empty_pages = 0;
        loop {
            let state = self.state.clone();
            let cursor = tokio::task::spawn_blocking(move || state.cursor(&table, &node)).await??;
            let filter = Filter { cursor, limit: limits::MAX_GET_ENTRIES, ..Filter::table(table) };
            let seen = self.seen.clone();
            let page = self.client.page(node, &filter, move |id| seen.contains(id)).await?;
            empty_pages = if page.served == 0 { empty_pages + 1 } else { 0 };
            let ids = page.entries.iter().map(Entry::id).collect();
            self.mirror.commit(page.entries, key).await?;
            self.seen.note(ids);
            // After the entries are durable: what a crash lets be read twice is known.
            let progress = cursor != Some(page.next);
            if progress {
                let state = self.state.clone();
                tokio::task::spawn_blocking(move || state.keep_cursor(&table, &node, page.next)).await??;
            }
            if !page.more || !progress || empty_pages == MAX_EMPTY_PAGES {
                return Ok(());
            }
        }
    }
}

/// Reads the nodes of one table, each by a task of its own: a slow one holds up itself alone.
struct Readers<'a> {
    follower: &'a Follower,
    key: &'a PublicKey,
    tasks: &'a mut JoinSet<PeerId>,
    /// The nodes that are being read, and whether they have announced something since.
    under_way: HashMap<PeerId, bool>,
}

impl Readers<'_> {
    /// Reads a node, or once more after it was read.
    fn wake(&mut self, node: PeerId) {
        if let Some(again) = self.under_way.get_mut(&node) {
            *again = true;
            return;
        }
        self.under_way.insert(node, false);
        self.tasks.spawn(self.follower.clone().read(self.key.clone(), node));
    }

    /// Serves announces and what is read until `deadline`, or until `node` is read. Ends early when announces were missed:
    /// what they said is found by asking all.
    async fn serve(
        &mut self,
        nodes: &[PeerId],
        announced: &mut broadcast::Receiver<(TableId, PeerId)>,
        deadline: Instant,
        node: Option<&PeerId>,
    ) {
        while node.is_none_or(|node| self.under_way.contains_key(node)) {
            tokio::select! {
                // Whoever announces without a pause does not put off the round.
                biased;
                () = tokio::time::sleep_until(deadline) => return,
                Some(read) = self.tasks.join_next() => match read {
                    Ok(node) => if self.under_way.remove(&node) == Some(true) {
                        self.wake(node);
                    },
                    // Which one it was is not known.
                    Err(_) => self.under_way.clear(),
                },
                news = announced.recv() => match news {
                    // Whoever announces has the entry: it is asked at once.
                    Ok((table, source)) if table == self.key.table_id() => {
                        if nodes.contains(&source) || self.under_way.len() < nodes.len() + MAX_ANNOUNCERS {
                            self.wake(source);
                        }
                    }
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) if node.is_some() => {}
                    Err(_) => return,
                },
            }
        }
    }
}
