//! The client library: finds nodes, puts entries to several of them, and reads from several and merges, so
//! that no single node can hide anything.
//!
//! It needs no listening socket and keeps nothing on disk.
//!
//! ```no_run
//! use p2pdb::{
//!     client::{Client, ClientConfig},
//!     protocol::{card::TableCard, filter::Filter, keys::PrivateKey, seal},
//! };
//!
//! # async fn example(card: &str, key: &str) -> Result<(), Box<dyn std::error::Error>> {
//! let card = TableCard::parse(card)?;
//! let key = PrivateKey::from_pem(key, None)?;
//! let client = Client::start(ClientConfig::new(&card.network)?).await?;
//! let filter = Filter::recipient(key.public_key().recipient_id()).with_table(card.table_public.table_id());
//! let mut news = client.follow(filter)?;
//! while let Some(entry) = news.next().await {
//!     let opened = seal::open(&entry, &key)?;
//!     println!("{}", String::from_utf8_lossy(&opened.content.data));
//! }
//! # Ok(())
//! # }
//! ```

mod find;
mod follow;
mod get;
pub mod meet;
mod post;
mod put;
mod upkeep;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use p2pdb_protocol::{
    id::TableId,
    message::{
        hello::HelloResponse,
        index::{Index, IndexRequest, IndexResponse},
    },
    network::{Network, NetworkFile},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

pub use self::{
    follow::Follow,
    get::{Fetched, MAX_EMPTY_PAGES, NodeError},
    post::Post,
    put::{NodePut, PutReport},
    upkeep::Upkeep,
};
use crate::{
    clock::Clock,
    swarm::{self, Handle, RequestError, StartError, routes::Routes},
};

/// Nodes that an entry is put to, and that are asked for entries.
pub const DEFAULT_NODES: usize = 3;

/// Why the client cannot do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The swarm does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A bootstrap address is not a multiaddr.
    #[error("{address} is not a multiaddr such as /dns4/example.org/tcp/4711/p2p/12D3Koo...: {reason}")]
    BadAddress {
        /// The text.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No node of the network answers.
    #[error("no node of the network can be reached; tried {tried} addresses")]
    Unreachable {
        /// How many addresses are known.
        tried: usize,
    },
    /// Nodes answer, but none mirrors the table.
    #[error("no node that mirrors {table} can be reached")]
    NoMirror {
        /// The table.
        table: TableId,
    },
    /// A node was asked by name and did not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A draft cannot be sealed.
    #[error(transparent)]
    Seal(#[from] p2pdb_protocol::seal::SealError),
    /// What was sealed is not an entry of this network.
    #[error("nodes would refuse this: {0}")]
    Unfit(#[from] p2pdb_protocol::refusal::Refusal),
    /// The runtime shuts down.
    #[error("the work was stopped")]
    Stopped,
    /// The filter cannot be asked for.
    #[error(transparent)]
    Filter(#[from] p2pdb_protocol::filter::FilterError),
    /// A cursor means something to one node only.
    #[error("a cursor belongs to one node: name the node to continue at")]
    CursorWithoutNode,
}

/// How a client finds its network.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The network.
    pub network: Network,
    /// Nodes to begin with.
    pub bootstrap: Vec<Multiaddr>,
    /// How many nodes to put to and to read from.
    pub nodes: usize,
    /// How long to wait for a first node.
    pub patience: Duration,
}

impl ClientConfig {
    /// A client of the network that a network file describes.
    ///
    /// # Errors
    /// If one of its bootstrap addresses is not a multiaddr.
    pub fn new(file: &NetworkFile) -> Result<Self, ClientError> {
        let bootstrap =
            file.bootstrap.iter().map(|address| parse_address(address)).collect::<Result<_, _>>()?;
        Ok(Self {
            network: file.network.clone(),
            bootstrap,
            nodes: DEFAULT_NODES,
            patience: Duration::from_secs(20),
        })
    }
}

fn parse_address(address: &str) -> Result<Multiaddr, ClientError> {
    address.parse().map_err(|e: libp2p::multiaddr::Error| ClientError::BadAddress {
        address: address.to_owned(),
        reason: e.to_string(),
    })
}

/// A connection to the network. Cheap to clone; dropping the last clone closes it.
#[derive(Debug, Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    swarm: Handle,
    network: Network,
    routes: Arc<Routes>,
    upkeep: Upkeep,
    searches: find::Searches,
    puts: Arc<put::queue::Queues>,
    keys: Mutex<get::Keys>,
    clock: Clock,
    nodes: usize,
    patience: Duration,
    wakers: follow::Wakers,
    tasks: TaskTracker,
    swarm_task: Mutex<Option<tokio::task::JoinHandle<()>>>,
    shutdown: CancellationToken,
    _stop: DropGuard,
}

impl Client {
    /// Starts a client; it begins to look for nodes at once.
    ///
    /// # Errors
    /// If the swarm does not start. That no node answers shows at the first request.
    pub async fn start(config: ClientConfig) -> Result<Self, ClientError> {
        // A key of its own for each start: nodes cannot tell that they met this client before.
        let key = Keypair::generate_ed25519();
        let shutdown = CancellationToken::new();
        let clock = Clock::system();
        let (swarm, inbox, swarm_task) =
            swarm::start(key, swarm::Config::client(config.network.clone()), shutdown.clone()).await?;
        let routes = Arc::new(Routes::new(config.network.id(), swarm.local_peer()));
        let upkeep = Upkeep::new(swarm.clone(), Arc::clone(&routes), config.bootstrap, config.nodes);
        let tasks = TaskTracker::new();
        tasks.spawn(meet::run(
            swarm.clone(),
            Arc::clone(&routes),
            clock.clone(),
            meet::no_record,
            shutdown.clone(),
        ));
        tasks.spawn(upkeep.clone().run(shutdown.clone()));
        let wakers = follow::Wakers::default();
        tasks.spawn(wakers.clone().run(swarm.clone(), inbox.announces, shutdown.clone()));
        tasks.close();
        Ok(Self {
            inner: Arc::new(Inner {
                swarm,
                network: config.network,
                routes,
                upkeep,
                searches: find::Searches::default(),
                puts: Arc::default(),
                keys: get::no_keys(),
                clock,
                nodes: config.nodes.max(1),
                patience: config.patience,
                wakers,
                tasks,
                swarm_task: Mutex::new(Some(swarm_task)),
                _stop: shutdown.clone().drop_guard(),
                shutdown,
            }),
        })
    }

    /// Closes the client's connections and waits until they are closed.
    pub async fn stop(&self) {
        self.inner.shutdown.cancel();
        self.inner.tasks.wait().await;
        let task = self.inner.swarm_task.lock().ok().and_then(|mut task| task.take());
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// The swarm underneath.
    #[must_use]
    pub fn swarm(&self) -> &Handle {
        &self.inner.swarm
    }

    /// The network that this client belongs to.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.inner.network
    }

    /// The nodes that this client knows of.
    #[must_use]
    pub fn routes(&self) -> &Routes {
        &self.inner.routes
    }

    /// Connects to a node by its address.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn connect(&self, address: Multiaddr) -> Result<PeerId, ClientError> {
        Ok(self.inner.swarm.connect_to(address).await?)
    }

    /// Introduces this client to a connected node and learns of others.
    ///
    /// # Errors
    /// If the node does not answer, or its record is not its own.
    pub async fn hello(
        &self,
        node: PeerId,
        tables: Option<Vec<TableId>>,
    ) -> Result<HelloResponse, ClientError> {
        let Inner { swarm, routes, clock, .. } = &*self.inner;
        Ok(meet::greet(swarm, routes, clock, node, None, tables).await?)
    }

    /// Asks a node what it holds of a table.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn index(&self, node: PeerId, request: IndexRequest) -> Result<IndexResponse, ClientError> {
        Ok(self.inner.swarm.request::<Index>(node, request).await?)
    }
}
