//! Tells others of what came in here.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use lru::LruCache;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    limits,
    message::announce::{Announce, MAX_NEW_TABLES, NewTables},
};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use super::Relay;
use crate::{
    clock::monotonic,
    ingest::{Admitted, Mirror, Way},
    swarm::{News, Topic},
};

/// Entries older than this that did not come by a put are news to nobody, in seconds.
const MAX_NEWS_AGE: u64 = 600;
/// Admissions that are announced together, at most.
const MAX_TOGETHER: usize = 1024;
/// Announces that nobody heard, kept for another try.
const MAX_UNHEARD: usize = 256;
/// Pause between the tries.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Pause between two looks at which tables are gone: each reads all of them.
const LEAVE_PAUSE: Duration = Duration::from_secs(60);
/// After so many tries, reconciliation has to do.
const MAX_TRIES: u32 = 15;

/// What the announcing side knows of the tables here.
struct Tables {
    /// Those whose gossip this node takes part in.
    joined: HashSet<TableId>,
    /// Those that it holds or held entries of.
    held: LruCache<TableId, ()>,
    /// When it last looked which of those that it joined are gone.
    left: Option<Instant>,
}

impl Relay {
    /// Announces what comes in, and joins the gossip about tables that are new here, until `shutdown`.
    pub async fn announce(self, mut admitted: broadcast::Receiver<Admitted>, shutdown: CancellationToken) {
        let most = NonZeroUsize::new(self.context.max_tables).unwrap_or(NonZeroUsize::MIN);
        let mut tables = Tables { joined: HashSet::new(), held: LruCache::new(most), left: None };
        for table in self.context.held_tables().await.unwrap_or_default() {
            tables.held.put(table, ());
        }
        for table in self.context.own_tables().await {
            self.join(table, &mut tables).await;
        }
        if *self.context.gate.mirror() == Mirror::All {
            self.context.swarm.subscribe(Topic::NewTables).await;
        }
        let mut unheard: VecDeque<(News, u32)> = VecDeque::new();
        let mut retry = tokio::time::interval(RETRY_PAUSE);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                first = admitted.recv() => {
                    let mut admissions = match first {
                        Ok(first) => vec![first],
                        // Reconciliation makes up for what was not announced.
                        Err(RecvError::Lagged(_)) => continue,
                        Err(RecvError::Closed) => return,
                    };
                    // What came in meanwhile goes along.
                    while admissions.len() < MAX_TOGETHER && let Ok(next) = admitted.try_recv() {
                        admissions.push(next);
                    }
                    for news in self.worth_announcing(admissions, &mut tables).await {
                        if !self.context.swarm.announce(news.clone()).await && unheard.len() < MAX_UNHEARD {
                            unheard.push_back((news, 1));
                        }
                    }
                }
                _ = retry.tick() => {
                    for _ in 0..unheard.len() {
                        let Some((news, tries)) = unheard.pop_front() else { break };
                        if !self.context.swarm.announce(news.clone()).await && tries < MAX_TRIES {
                            unheard.push_back((news, tries + 1));
                        }
                    }
                }
            }
        }
    }

    async fn worth_announcing(&self, admissions: Vec<Admitted>, tables: &mut Tables) -> Vec<News> {
        let now = self.context.clock.now();
        let mut by_table: BTreeMap<TableId, Vec<EntryId>> = BTreeMap::new();
        let mut new_tables = Vec::new();
        for Admitted { table, id, created, way, .. } in admissions {
            self.join(table, tables).await;
            let is_new = tables.held.put(table, ()).is_none();
            let announce = match way {
                Way::Put => true,
                // What was announced is passed on by gossip itself.
                Way::Announce => false,
                Way::Sync | Way::Import => created.saturating_add(MAX_NEWS_AGE) > now,
            };
            if announce {
                by_table.entry(table).or_default().push(id);
                if is_new && !self.lock_heard().contains(&table) {
                    new_tables.push(table);
                }
            }
        }
        let entries = by_table.into_iter().flat_map(|(table, ids)| {
            let lists = ids.chunks(limits::MAX_ANNOUNCE_IDS).map(|ids| Announce::try_from(ids.to_vec()));
            lists.flatten().map(|ids| News::Entries { table, ids }).collect::<Vec<_>>()
        });
        let new_tables = new_tables.chunks(MAX_NEW_TABLES).map(|tables| NewTables::try_from(tables.to_vec()));
        new_tables.flatten().map(News::NewTables).chain(entries).collect()
    }

    async fn join(&self, table: TableId, tables: &mut Tables) {
        if tables.joined.contains(&table) {
            return;
        }
        if tables.joined.len() >= self.context.max_tables {
            self.leave(tables).await;
        }
        if tables.joined.len() < self.context.max_tables && tables.joined.insert(table) {
            self.context.swarm.subscribe(Topic::Entries(table)).await;
            self.context.swarm.provide(table).await;
        }
    }

    /// Leaves the gossip about tables of which this node holds nothing any more: the store has given their places to others.
    async fn leave(&self, tables: &mut Tables) {
        let is_due = tables.left.is_none_or(|left| monotonic().saturating_duration_since(left) > LEAVE_PAUSE);
        if !is_due || *self.context.gate.mirror() != Mirror::All {
            return;
        }
        tables.left = Some(monotonic());
        let Some(held) = self.context.held_tables().await else { return };
        for table in tables.joined.extract_if(|table| !held.contains(table)) {
            self.context.swarm.unsubscribe(Topic::Entries(table)).await;
            self.context.swarm.stop_providing(table).await;
        }
    }
}
