//! A node: everything put together, started and stopped.

pub mod admin;
mod upkeep;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use p2pdb_protocol::network::Network;
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::{Upkeep, meet},
    clock::Clock,
    ingest::{Gate, Mirror, Totals},
    serve::{self, OwnRecord, Rates, Service},
    store::{Store, StoreError, StoreOptions},
    swarm::{self, Handle, RequestError, StartError, SwarmStatus, routes::Routes},
    sync,
};

/// Nodes that a node tries to be connected with.
const TARGET_NODES: usize = 8;
/// On shutdown requests under way have this long.
const DRAIN: Duration = Duration::from_secs(5);

/// Longer than comparing the largest tables takes over a slow link.
const SYNC_PATIENCE: Duration = Duration::from_secs(900);

/// How a node is set up.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The network.
    pub network: Network,
    /// Where the store is.
    pub store: PathBuf,
    /// Where the routes are kept over restarts; none: nowhere.
    pub routes: Option<PathBuf>,
    /// Bounds of the store.
    pub store_options: StoreOptions,
    /// The tables it keeps.
    pub mirror: Mirror,
    /// Most tables it keeps, if it mirrors all.
    pub max_tables: usize,
    /// The swarm.
    pub swarm: swarm::Config,
    /// Nodes to begin with.
    pub bootstrap: Vec<Multiaddr>,
    /// What peers may ask for.
    pub rates: Rates,
    /// Mean pause between reconciliations with a random peer.
    pub sync_interval: Duration,
    /// A reconciliation that brings nothing new for so long is ended: others wait for its place.
    pub sync_patience: Duration,
}

impl NodeConfig {
    /// A node of a network that mirrors all tables, with everything else at its default.
    #[must_use]
    pub fn new(network: Network, store: PathBuf, listen: Vec<Multiaddr>) -> Self {
        Self {
            swarm: swarm::Config::node(network.clone(), listen),
            network,
            store,
            routes: None,
            store_options: StoreOptions::default(),
            mirror: Mirror::All,
            max_tables: 1000,
            bootstrap: Vec::new(),
            rates: Rates::default(),
            sync_interval: Duration::from_secs(30),
            sync_patience: SYNC_PATIENCE,
        }
    }
}

/// Why a node does not start or stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The store cannot be opened or closed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The swarm does not start.
    #[error(transparent)]
    Swarm(#[from] StartError),
    /// The node's key is not an Ed25519 key.
    #[error("the node's key is not an Ed25519 key: make a new one")]
    Key,
    /// The node is shutting down.
    #[error(transparent)]
    Stopped(#[from] RequestError),
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    swarm: Handle,
    swarm_task: JoinHandle<()>,
    store: Store,
    gate: Gate,
    routes: Arc<Routes>,
    routes_file: Option<PathBuf>,
    sync: Arc<sync::Context>,
    clock: Clock,
    started: u64,
    tasks: TaskTracker,
    work: CancellationToken,
    swarm_stop: CancellationToken,
}

/// A table at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct TableStatus {
    /// Its id.
    pub table: String,
    /// Entries stored.
    pub entries: u64,
    /// The sum of their encoded lengths, in bytes.
    pub bytes: u64,
}

/// A node at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Its peer id.
    pub peer: String,
    /// The name of its network.
    pub network: String,
    /// The id of its network.
    pub network_id: String,
    /// The version of the software.
    pub version: &'static str,
    /// Seconds since it started.
    pub uptime: u64,
    /// Whether it is connected with any other node.
    pub healthy: bool,
    /// Whether it mirrors every table that comes along.
    pub mirrors_all: bool,
    /// Entries stored.
    pub entries: u64,
    /// The sum of their encoded lengths, in bytes.
    pub bytes: u64,
    /// What the store's file takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// Ids that were dropped on purpose and are still known.
    pub dropped: u64,
    /// The tables, by id.
    pub tables: Vec<TableStatus>,
    /// Nodes known by their records.
    pub routes: usize,
    /// Its connections.
    pub swarm: SwarmStatus,
    /// What came to its gate.
    pub gate: Totals,
    /// What reconciliation did.
    pub sync: sync::Totals,
}

impl Node {
    /// Starts a node. It runs until [`Node::stop`].
    ///
    /// # Errors
    /// If the store cannot be opened, or the swarm does not start.
    pub async fn start(key: Keypair, config: NodeConfig) -> Result<Self, NodeError> {
        let clock = Clock::system();
        let signing = key.clone().try_into_ed25519().map_err(|_| NodeError::Key)?;
        let horizon = config.store_options.horizon.unwrap_or(0);
        let store = Store::open(&config.store, config.network.clone(), config.store_options, clock.clone())?;
        let gate =
            Gate::new(store.clone(), config.network.clone(), config.mirror, config.max_tables, clock.clone());
        let (work, swarm_stop) = (CancellationToken::new(), CancellationToken::new());
        let (swarm, inbox, swarm_task) = swarm::start(key, config.swarm, swarm_stop.clone()).await?;
        let routes = Arc::new(Routes::new(config.network.id(), swarm.local_peer()));
        if let Some(file) = &config.routes {
            upkeep::load_routes(&routes, file, clock.now());
        }
        let own_record = OwnRecord::new(signing, config.network.id(), horizon);
        let service = Arc::new(Service::new(
            store.clone(),
            gate.clone(),
            Arc::clone(&routes),
            swarm.clone(),
            clock.clone(),
            own_record,
            config.rates,
        ));
        let (sync, hinted) = sync::Context::new(
            swarm.clone(),
            store.clone(),
            gate.clone(),
            Arc::clone(&routes),
            clock.clone(),
            config.max_tables,
            config.sync_patience,
        );
        let tasks = TaskTracker::new();
        let announces = serve::start(&service, inbox, &tasks, &work);
        let record = {
            let service = Arc::clone(&service);
            move || {
                let service = Arc::clone(&service);
                async move { service.record().await }
            }
        };
        tasks.spawn(meet::run(swarm.clone(), Arc::clone(&routes), clock.clone(), record, work.clone()));
        let upkeep = Upkeep::new(swarm.clone(), Arc::clone(&routes), config.bootstrap, TARGET_NODES);
        tasks.spawn(upkeep.run(work.clone()));
        tasks.spawn(sync::run(Arc::clone(&sync), hinted, config.sync_interval, work.clone()));
        let relay = sync::Relay::new(Arc::clone(&sync), config.rates);
        tasks.spawn(relay.clone().listen(announces, work.clone()));
        tasks.spawn(relay.announce(gate.admitted(), work.clone()));
        tasks.spawn(upkeep::sweep(store.clone(), work.clone()));
        let started = clock.now();
        let node = Self {
            swarm,
            swarm_task,
            store,
            gate,
            routes,
            routes_file: config.routes,
            sync,
            clock,
            started,
            tasks,
            work,
            swarm_stop,
        };
        let kept = upkeep::keep_routes(
            Arc::clone(&node.routes),
            node.swarm.clone(),
            node.routes_file.clone(),
            node.clock.clone(),
            node.work.clone(),
        );
        node.tasks.spawn(kept);
        node.tasks.close();
        Ok(node)
    }

    /// The node's peer id.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.swarm.local_peer()
    }

    /// Its swarm.
    #[must_use]
    pub const fn swarm(&self) -> &Handle {
        &self.swarm
    }

    /// Its store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Its gate.
    #[must_use]
    pub const fn gate(&self) -> &Gate {
        &self.gate
    }

    /// The nodes it knows of.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The addresses it listens on, each with its peer id at the end.
    ///
    /// # Errors
    /// If the node is shutting down.
    pub async fn addresses(&self) -> Result<Vec<Multiaddr>, NodeError> {
        let peer = self.peer();
        let addresses = self.swarm.own_addresses().await?;
        Ok(addresses.into_iter().filter_map(|address| address.with_p2p(peer).ok()).collect())
    }

    /// What reconciliation did since the start.
    #[must_use]
    pub fn sync_totals(&self) -> sync::Totals {
        self.sync.totals()
    }

    /// The node at a glance.
    ///
    /// # Errors
    /// If the store cannot be read, or the node is shutting down.
    pub async fn status(&self) -> Result<NodeStatus, NodeError> {
        let swarm = self.swarm.status().await?;
        let stats = self.store.stats().await?;
        let mut tables: BTreeMap<String, TableStatus> = BTreeMap::new();
        for summary in self.store.tables().await? {
            let table = summary.table.to_string();
            let status = TableStatus { table: table.clone(), entries: summary.entries, bytes: summary.bytes };
            tables.insert(table, status);
        }
        Ok(NodeStatus {
            peer: self.peer().to_string(),
            network: self.swarm.network().name.clone(),
            network_id: self.swarm.network().id().to_string(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.clock.now().saturating_sub(self.started),
            healthy: swarm.peers.iter().any(|peer| peer.serves),
            mirrors_all: *self.gate.mirror() == Mirror::All,
            entries: stats.entries,
            bytes: stats.bytes,
            disk_bytes: stats.disk_bytes,
            dropped: stats.dropped,
            tables: tables.into_values().collect(),
            routes: self.routes.len(),
            swarm,
            gate: self.gate.totals(),
            sync: self.sync.totals(),
        })
    }

    /// Stops taking requests, answers those under way, closes the connections and the store.
    ///
    /// # Errors
    /// If the store cannot be closed; what was acknowledged is safe all the same.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.work.cancel();
        if tokio::time::timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests were still under way when the node stopped");
        }
        self.swarm_stop.cancel();
        // It only fails if the task panicked, and then there is nothing left to close.
        let _ = self.swarm_task.await;
        if let Some(file) = &self.routes_file {
            upkeep::save_routes(&self.routes, file);
        }
        Ok(self.store.close().await?)
    }
}

/// The file of a store in a directory.
#[must_use]
pub fn store_file(directory: &Path) -> PathBuf {
    directory.join("store.redb")
}
