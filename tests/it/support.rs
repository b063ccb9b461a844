//! Real nodes on loopback for the tests: a cheap network, keys made once, and waiting on conditions.

use std::{
    future::Future,
    num::NonZeroUsize,
    path::Path,
    sync::{Arc, OnceLock, atomic::AtomicBool},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use libp2p::{Multiaddr, identity::Keypair};
use p2pdb::{
    client::{Client, ClientConfig},
    ingest::Mirror,
    node::{Node, NodeConfig},
    protocol::{
        entry::Entry,
        id::TableId,
        keys::{PrivateKey, PublicKey},
        network::Network,
        pow::Solver,
        seal::{Content, Draft, SealedEntry},
    },
    swarm::Nat,
};
use rand_core::UnwrapErr;
use tempfile::TempDir;

pub(crate) fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// A network on which an entry costs a few thousand hashes.
pub(crate) fn network() -> Network {
    Network { name: "it".to_owned(), work_price: 1 << 12, work_puzzles: 8, ..Network::default() }
}

/// One of four RSA keys that are made once for all tests.
pub(crate) fn key(index: usize) -> &'static PrivateKey {
    static KEYS: [OnceLock<PrivateKey>; 4] = [const { OnceLock::new() }; 4];
    KEYS[index].get_or_init(|| PrivateKey::generate(&mut rng(), 2048).unwrap())
}

/// The key of the table that most tests use.
pub(crate) fn table() -> &'static PrivateKey {
    key(0)
}

pub(crate) fn table_id(key: &PrivateKey) -> TableId {
    key.public_key().table_id()
}

pub(crate) fn now() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tests stand outside of the program")]
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A sealed entry without its work.
pub(crate) fn sealed(
    network: &Network,
    table: &PrivateKey,
    recipient: &PublicKey,
    text: &str,
) -> SealedEntry {
    sealed_until(network, table, recipient, text, None)
}

/// The same, of an entry that may expire.
pub(crate) fn sealed_until(
    network: &Network,
    table: &PrivateKey,
    recipient: &PublicKey,
    text: &str,
    expires: Option<u64>,
) -> SealedEntry {
    Draft {
        table,
        recipients: std::slice::from_ref(recipient),
        created: now(),
        expires,
        content: &Content { media_type: "text/plain".to_owned(), data: text.as_bytes().to_vec() },
        author: None,
    }
    .seal(&mut rng(), network)
    .unwrap()
}

pub(crate) fn mine(network: &Network, sealed: &SealedEntry) -> Entry {
    let threads = NonZeroUsize::new(2).unwrap();
    let work = Solver::new(sealed.puzzle(network)).solve(threads, &AtomicBool::new(false), &|_| {}).unwrap();
    sealed.finish(&work, network).unwrap()
}

/// A whole entry.
pub(crate) fn entry(network: &Network, table: &PrivateKey, recipient: &PublicKey, text: &str) -> Entry {
    mine(network, &sealed(network, table, recipient, text))
}

/// A node on a loopback port of its own, with its store in a directory of its own.
pub(crate) struct TestNode {
    pub(crate) node: Arc<Node>,
    pub(crate) address: Multiaddr,
    pub(crate) directory: TempDir,
    config: NodeConfig,
    key: Keypair,
}

pub(crate) fn config(network: &Network, directory: &Path, bootstrap: &[Multiaddr]) -> NodeConfig {
    let listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let mut config = NodeConfig::new(network.clone(), directory.join("store.redb"), listen);
    config.bootstrap = bootstrap.to_vec();
    config.routes = Some(directory.join("routes"));
    config.sync_interval = Duration::from_secs(2);
    config.swarm.kad_mode = p2pdb::swarm::KadMode::Server;
    config.swarm.nat =
        Nat { autonat: false, relay_client: false, dcutr: false, upnp: false, relay_server: false };
    config
}

impl TestNode {
    pub(crate) async fn start(network: &Network, mirror: Mirror, bootstrap: &[Multiaddr]) -> Self {
        Self::with(network, bootstrap, |config| config.mirror = mirror).await
    }

    pub(crate) async fn with(
        network: &Network,
        bootstrap: &[Multiaddr],
        change: impl FnOnce(&mut NodeConfig),
    ) -> Self {
        let directory = TempDir::new().unwrap();
        let mut config = config(network, directory.path(), bootstrap);
        change(&mut config);
        let key = Keypair::generate_ed25519();
        let (node, address) = run(key.clone(), config.clone()).await;
        Self { node, address, directory, config, key }
    }

    pub(crate) async fn stop(self) -> Stopped {
        let node = Arc::into_inner(self.node).expect("nobody else holds the node");
        node.stop().await.unwrap();
        Stopped { directory: self.directory, config: self.config, key: self.key }
    }

    pub(crate) async fn entries(&self) -> u64 {
        self.node.store().stats().await.unwrap().entries
    }
}

/// A stopped node that can be started again.
pub(crate) struct Stopped {
    directory: TempDir,
    config: NodeConfig,
    key: Keypair,
}

impl Stopped {
    /// The same, without the addresses to begin with.
    pub(crate) fn without_bootstrap(mut self) -> Self {
        self.config.bootstrap.clear();
        self
    }

    pub(crate) async fn start(self) -> TestNode {
        let (node, address) = run(self.key.clone(), self.config.clone()).await;
        TestNode { node, address, directory: self.directory, config: self.config, key: self.key }
    }
}

async fn run(key: Keypair, config: NodeConfig) -> (Arc<Node>, Multiaddr) {
    let node = Arc::new(Node::start(key, config).await.unwrap());
    let address = eventually("the node listens", || async { node.addresses().await.unwrap().pop() }).await;
    (node, address)
}

pub(crate) async fn client(network: &Network, bootstrap: &[&Multiaddr]) -> Client {
    Client::start(ClientConfig {
        network: network.clone(),
        bootstrap: bootstrap.iter().map(|address| (*address).clone()).collect(),
        nodes: 3,
        patience: Duration::from_secs(20),
    })
    .await
    .unwrap()
}

/// Waits until `probe` gives something; fails the test after a minute.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, probe: impl Fn() -> F) -> T {
    let found = async {
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), found).await {
        Ok(found) => found,
        Err(_) => panic!("waited a minute for: {what}"),
    }
}

/// Waits until `probe` holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, probe: impl Fn() -> F) {
    eventually(what, || async { probe().await.then_some(()) }).await;
}
