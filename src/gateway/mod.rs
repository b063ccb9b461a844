//! The local daemon: one HTTP API on loopback that makes p2pdb a backend for any app.
//!
//! It holds the keys, seals and opens, does the proof of work, keeps an outbox, and mirrors the tables of its spaces, so that
//! an app's query costs no round trip. What apps see of it is in `deploy/webapps/README.md` and,
//! generated, at `/openapi.json`.
//!
//! Whoever can reach the port is not trusted for that: every request needs a token, and a web page of somewhere else is
//! turned away before anything is looked at.

mod api;
mod content;
mod follow;
mod guard;
mod keys;
mod login;
mod mirror;
mod opener;
mod outbox;
mod places;
mod problem;
mod reader;
mod sessions;
mod spaces;
mod state;
mod tokens;

use std::{
    collections::HashMap, fs, io, net::SocketAddr, num::NonZeroUsize, os::unix::fs::DirBuilderExt as _,
    path::PathBuf, sync::Arc, time::Duration,
};

use libp2p::Multiaddr;
use p2pdb_protocol::{id::TableId, network::Network};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use zeroize::Zeroizing;

use self::{
    follow::{Follower, Seen},
    guard::Hosts,
    keys::Keys,
    login::Answered,
    mirror::Mirror,
    opener::Opener,
    outbox::{Outbox, Parts},
    places::{Bounds, Places},
    reader::Reader,
    sessions::Sessions,
    spaces::Spaces,
    state::State,
    tokens::Tokens,
};
pub use self::{
    keys::NamedKey,
    outbox::OutboxError,
    problem::{Kind, Problem},
    state::StateError,
};
use crate::{
    client::{self, Client, ClientConfig, ClientError},
    clock::Clock,
    config::{
        Home, HomeError,
        home::{self, Overwrite},
    },
    store::{Store, StoreError, StoreOptions},
};

/// Where the daemon listens unless it is told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:4780";

/// Requests at the same time, at most, and those of one app; streams that have begun do not count.
const MAX_REQUESTS: Bounds = Bounds { in_all: 256, of_app: 64 };
/// Streams of events and waits for a node at the same time, at most, and those of one app.
const MAX_STREAMS: Bounds = Bounds { in_all: 64, of_app: 32 };
/// How long a request that needs a node waits for a first one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests that are under way when the daemon stops have this long.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GatewayError {
    /// Others could reach it, which nobody said they may.
    #[error("{address} can be reached from other machines, and with it every key of this home")]
    NotLoopback {
        /// Where it should listen.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where it should listen.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The home cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The directory of the daemon cannot be made.
    #[error("cannot make the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The mirror cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The outbox cannot be opened.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The state file cannot be opened.
    #[error(transparent)]
    State(#[from] StateError),
    /// The network cannot be joined.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The runtime shuts down.
    #[error("stopped while starting")]
    Stopped,
}

/// What a daemon is made of.
#[derive(Debug, Clone)]
pub struct GatewayConfig {
    /// The home, whose tables become spaces.
    pub home: Home,
    /// The network of the home.
    pub network: Network,
    /// Nodes to begin with.
    pub bootstrap: Vec<Multiaddr>,
    /// The keys of the home.
    pub keys: Vec<NamedKey>,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Whether an address that other machines can reach is meant so.
    pub expose: bool,
    /// Further `Host` headers that it answers to, as in `p2pdb.example:4780`.
    pub hosts: Vec<String>,
    /// Threads that do the proof of work.
    pub threads: NonZeroUsize,
    /// Nodes to store entries at, and to read from.
    pub nodes: usize,
    /// The bounds of the mirror.
    pub store: StoreOptions,
}

impl GatewayConfig {
    /// A daemon of a home, on loopback.
    #[must_use]
    pub fn new(home: Home, network: Network) -> Self {
        Self {
            home,
            network,
            bootstrap: Vec::new(),
            keys: Vec::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 4780)),
            expose: false,
            hosts: Vec::new(),
            threads: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            nodes: client::DEFAULT_NODES,
            store: StoreOptions::default(),
        }
    }
}

/// Everything that requests work with.
#[derive(Debug)]
struct App {
    keys: Arc<Keys>,
    spaces: Arc<Spaces>,
    mirror: Arc<Mirror>,
    reader: Arc<Reader>,
    outbox: Arc<Outbox>,
    tokens: Tokens,
    client: Client,
    clock: Clock,
    hosts: Hosts,
    answered: Answered,
    sessions: Sessions,
    /// Without a path.
    url: String,
    /// Whole rounds over the nodes of each table since the start.
    rounds: watch::Receiver<HashMap<TableId, u64>>,
    started: u64,
    requests: Places,
    streams: Places,
    shutdown: CancellationToken,
}

/// A running daemon.
#[derive(Debug)]
pub struct Gateway {
    address: SocketAddr,
    token: Zeroizing<String>,
    page: Zeroizing<String>,
    directory: PathBuf,
    store: Store,
    client: Client,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// The files of a daemon in its home.
fn files(home: &Home) -> (PathBuf, impl Fn(&str) -> PathBuf + use<>) {
    let directory = home.root().join("gateway");
    let within = directory.clone();
    (directory, move |name| within.join(name))
}

impl Gateway {
    /// Starts a daemon. Its URL and the owner's token are in the files `gateway/url` and `gateway/token` of the home when
    /// this returns.
    ///
    /// # Errors
    /// If it may not or cannot listen, another one runs on this home, or its files cannot be used.
    pub async fn start(config: GatewayConfig) -> Result<Self, GatewayError> {
        let address = config.listen;
        if !address.ip().is_loopback() && !config.expose {
            return Err(GatewayError::NotLoopback { address });
        }
        let listener =
            TcpListener::bind(address).await.map_err(|source| GatewayError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| GatewayError::Listen { address, source })?;
        let client = Client::start(ClientConfig {
            network: config.network.clone(),
            bootstrap: config.bootstrap.clone(),
            nodes: config.nodes,
            patience: PATIENCE,
        })
        .await?;
        let opened = {
            let client = client.clone();
            tokio::task::spawn_blocking(move || Opened::open(config, client, address))
        };
        let Opened { app, follower, opener, token, directory } =
            opened.await.map_err(|_| GatewayError::Stopped)??;
        let page = Zeroizing::new(format!("{}/?once={}", app.url, *app.sessions.link()));
        let (shutdown, store) = (app.shutdown.clone(), app.mirror.store().clone());
        let tasks = TaskTracker::new();
        tasks.spawn(follower.clone().run(shutdown.clone()));
        tasks.spawn(follower.sweep(shutdown.clone()));
        tasks.spawn(opener.run(shutdown.clone()));
        tasks.spawn(Arc::clone(&app.spaces).watch(shutdown.clone()));
        tasks.spawn(Arc::clone(&app.outbox).mine(shutdown.clone()));
        tasks.spawn(Arc::clone(&app.outbox).send(shutdown.clone()));
        let serving = axum::serve(listener, api::router(Arc::new(app)))
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let stopped = shutdown.clone();
        tasks.spawn(async move {
            let drained = async {
                stopped.cancelled().await;
                tokio::time::sleep(DRAIN).await;
            };
            tokio::select! {
                served = serving => if let Err(error) = served {
                    tracing::error!(%error, "the daemon does not listen any more");
                },
                () = drained => tracing::warn!("requests were cut off"),
            }
        });
        tasks.close();
        Ok(Self { address, token, page, directory, store, client, tasks, shutdown })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The owner's token, of this start alone.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// A link that opens the daemon's page in a browser, once.
    #[must_use]
    pub fn page(&self) -> &str {
        &self.page
    }

    /// Stops it: how far the proof of work is, is kept.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.wait().await;
        self.client.stop().await;
        if let Err(error) = self.store.close().await {
            tracing::warn!(%error, "the mirror was not closed cleanly");
        }
        for name in ["url", "token"] {
            // Without them, who looks for the daemon learns that it does not run.
            let _ = fs::remove_file(self.directory.join(name));
        }
    }
}

/// What the files of a home have become.
struct Opened {
    app: App,
    follower: Follower,
    opener: Opener,
    token: Zeroizing<String>,
    directory: PathBuf,
}

impl Opened {
    fn open(config: GatewayConfig, client: Client, address: SocketAddr) -> Result<Self, GatewayError> {
        let GatewayConfig { home, network, keys, hosts, threads, nodes, store, .. } = config;
        let (directory, file) = files(&home);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)
            .map_err(|source| GatewayError::Directory { path: directory.clone(), source })?;
        let clock = Clock::system();
        let shutdown = CancellationToken::new();
        // Whoever has the mirror open is the only daemon of this home, so that the other files are its own.
        let store = Store::open(&file("mirror.redb"), network.clone(), store, clock.clone())?;
        let state = State::open(&file("state.redb"), store.id())?;
        let mirror = Arc::new(Mirror::new(store));
        let outbox = Outbox::open(
            &file("outbox.redb"),
            Parts {
                client: client.clone(),
                mirror: Arc::clone(&mirror),
                network: network.clone(),
                clock: clock.clone(),
                threads,
                copies: nodes,
            },
        )?;
        let spaces = Arc::new(Spaces::open(home, network.clone())?);
        let (tokens, token) = Tokens::open(state.clone())?;
        home::write_secret(&file("token"), format!("{}\n", *token).as_bytes(), Overwrite::Yes)?;
        home::write_secret(&file("url"), format!("http://{address}\n").as_bytes(), Overwrite::Yes)?;
        let keys = Arc::new(Keys::new(keys));
        let reader = Arc::new(Reader::new(Arc::clone(&keys), network));
        let opener = Opener {
            keys: Arc::clone(&keys),
            mirror: Arc::clone(&mirror),
            reader: Arc::clone(&reader),
            spaces: Arc::clone(&spaces),
        };
        let rounds = watch::Sender::default();
        let app = App {
            reader,
            keys,
            spaces: Arc::clone(&spaces),
            mirror: Arc::clone(&mirror),
            outbox: Arc::new(outbox),
            tokens,
            client: client.clone(),
            hosts: Hosts::new(address, hosts),
            answered: Answered::default(),
            sessions: Sessions::default(),
            url: format!("http://{address}"),
            rounds: rounds.subscribe(),
            started: clock.now(),
            clock,
            requests: Places::new("requests", MAX_REQUESTS),
            streams: Places::new("streams", MAX_STREAMS),
            shutdown,
        };
        let follower = Follower { client, mirror, state, spaces, seen: Seen::default(), nodes, rounds };
        Ok(Self { app, follower, opener, token, directory })
    }
}
