//! The libp2p swarm: one task owns it, everything else talks to it through a [`Handle`].

mod address;
mod behaviour;
mod dht;
mod dial;
mod event_loop;
mod exchange;
mod filter;
mod gossip;
mod handle;
pub mod ip_limits;
mod peers;
pub mod routes;
mod score;
mod share;

use std::{sync::Arc, time::Duration};

use libp2p::{Multiaddr, PeerId, identity::Keypair};
use p2pdb_protocol::{
    message::{get::Get, hello::Hello, index::Index, put::Put, sync::Sync},
    network::Network,
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

pub use self::{
    address::is_reachable_from,
    exchange::{Exchange, Incoming, Responder},
    gossip::{Announced, News, Topic},
    handle::{Handle, PeerStatus, RequestError, SwarmStatus},
    score::Conduct,
};
use self::{
    exchange::{Outlet, answer::Server, idle::Idle},
    filter::{Filtered, Talk},
    gossip::guard::Guard,
    ip_limits::IpLimits,
};
use crate::transport;

/// Requests of one operation that wait to be answered; further ones are answered "busy".
pub const INBOX: usize = 256;
/// Requests of one peer and operation that wait or are being answered; further ones are answered "busy", so that no peer
/// can keep out the others.
pub const INBOX_PER_PEER: usize = 64;
/// Announces that wait for the relay to take them; further ones are dropped, and made up for by reconciliation.
const ANNOUNCES: usize = 256;
/// Announces of one peer that wait or are being fetched.
const ANNOUNCES_PER_PEER: usize = 32;
const COMMANDS: usize = 256;
const EVENTS: usize = 256;

/// Whether this end answers queries of the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KadMode {
    /// Once an address is confirmed from outside.
    Auto,
    /// Never.
    Client,
    /// Always: for nodes that are known to be reachable, bootstrap nodes above all.
    Server,
}

/// What helps nodes behind NAT, each on its own switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// Ask others whether our addresses can be reached, and tell others.
    pub autonat: bool,
    /// Be reachable through a relay.
    pub relay_client: bool,
    /// Turn relayed connections into direct ones.
    pub dcutr: bool,
    /// Ask the router for a port.
    pub upnp: bool,
    /// Relay for others.
    pub relay_server: bool,
}

/// Bounds of what peers can take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Inbound connections being set up.
    pub pending_incoming: u32,
    /// Outbound connections being set up.
    pub pending_outgoing: u32,
    /// Established inbound connections.
    pub established_incoming: u32,
    /// Established outbound connections.
    pub established_outgoing: u32,
    /// Established connections in all.
    pub established: u32,
    /// Established connections with one peer.
    pub established_per_peer: u32,
    /// Established connections with one address.
    pub per_ip: IpLimits,
    /// Resident memory of the process, in bytes, above which no new connection is taken.
    pub memory_bytes: usize,
    /// Bytes of requests held at the same time, as many of answers that peers have not taken yet, and as many of streams
    /// that nobody has read yet.
    pub request_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            pending_incoming: 128,
            pending_outgoing: 32,
            established_incoming: 128,
            established_outgoing: 64,
            established: 192,
            established_per_peer: 3,
            per_ip: IpLimits { per_ipv4: 8, per_ipv6_48: 16 },
            memory_bytes: 2 << 30,
            request_bytes: 64 << 20,
        }
    }
}

/// How a swarm is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// The network; it names every protocol.
    pub network: Network,
    /// Addresses to listen on; none for a client.
    pub listen: Vec<Multiaddr>,
    /// Addresses under which this node is known to be reachable.
    pub external: Vec<Multiaddr>,
    /// Whether requests are answered.
    pub serve: bool,
    /// Whether only confirmed addresses are told to others.
    pub hide_listen_addresses: bool,
    /// Role in the DHT.
    pub kad_mode: KadMode,
    /// Help behind NAT.
    pub nat: Nat,
    /// Bounds.
    pub limits: Limits,
    /// What identify says of the software.
    pub agent: String,
    /// A node that nobody found reachable after this time asks a peer to relay for it.
    pub relay_patience: Duration,
    /// Time a peer has to send a request whole.
    pub read_timeout: Duration,
    /// How often a connection is tried; one that fails twice in a row is closed.
    pub heartbeat: Duration,
}

impl Config {
    /// A client that listens nowhere and serves nothing.
    #[must_use]
    pub fn client(network: Network) -> Self {
        Self {
            network,
            listen: Vec::new(),
            external: Vec::new(),
            serve: false,
            hide_listen_addresses: true,
            kad_mode: KadMode::Client,
            nat: Nat { autonat: false, relay_client: true, dcutr: true, upnp: false, relay_server: false },
            limits: Limits::default(),
            agent: format!("p2pdb/{}", env!("CARGO_PKG_VERSION")),
            relay_patience: Duration::from_secs(60),
            read_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(30),
        }
    }

    /// A node that listens on these addresses.
    #[must_use]
    pub fn node(network: Network, listen: Vec<Multiaddr>) -> Self {
        Self {
            listen,
            serve: true,
            hide_listen_addresses: false,
            kad_mode: KadMode::Auto,
            nat: Nat { autonat: true, relay_client: true, dcutr: true, upnp: false, relay_server: false },
            ..Self::client(network)
        }
    }
}

/// What the swarm tells whoever listens. Slow listeners lose the oldest events, never the newest.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A peer of this network is connected and has said what it speaks.
    Met {
        /// The peer.
        peer: PeerId,
        /// Whether it serves the operations, as nodes do.
        serves: bool,
    },
    /// A node has shown its record, and it is kept.
    Introduced {
        /// The node.
        peer: PeerId,
    },
    /// There is a further connection with a peer: the others may be dead, which shows only when nothing is answered on them.
    Reconnected {
        /// The peer.
        peer: PeerId,
    },
    /// The last connection with a peer is closed.
    Lost {
        /// The peer.
        peer: PeerId,
    },
    /// Peers may find this end here: it listens there, or it was confirmed from outside.
    Listening {
        /// The address.
        address: Multiaddr,
    },
}

/// The requests and announces of peers, for whoever serves them.
#[derive(Debug)]
pub struct Inbox {
    /// Introductions.
    pub hello: mpsc::Receiver<Incoming<Hello>>,
    /// Questions for indexes.
    pub index: mpsc::Receiver<Incoming<Index>>,
    /// Questions for entries.
    pub get: mpsc::Receiver<Incoming<Get>>,
    /// Entries.
    pub put: mpsc::Receiver<Incoming<Put>>,
    /// Questions for roots and sketches.
    pub sync: mpsc::Receiver<Incoming<Sync>>,
    /// Held announces.
    pub announces: mpsc::Receiver<Announced>,
}

/// Why a swarm does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A transport or a behaviour cannot be set up.
    #[error(transparent)]
    Transport(#[from] transport::TransportError),
    /// An address to listen on is not possible.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the transport says.
        reason: String,
    },
}

/// Starts the task that owns the swarm. It runs until `shutdown`.
///
/// # Errors
/// If a transport cannot be set up or an address not be listened on.
pub async fn start(
    key: Keypair,
    config: Config,
    shutdown: CancellationToken,
) -> Result<(Handle, Inbox, tokio::task::JoinHandle<()>), StartError> {
    let local_peer = PeerId::from(key.public());
    let (commands, command_queue) = mpsc::channel(COMMANDS);
    let (events, _) = broadcast::channel(EVENTS);
    let (hello, hello_queue) = Outlet::new(INBOX, INBOX_PER_PEER);
    let (index, index_queue) = Outlet::new(INBOX, INBOX_PER_PEER);
    let (get, get_queue) = Outlet::new(INBOX, INBOX_PER_PEER);
    let (put, put_queue) = Outlet::new(INBOX, INBOX_PER_PEER);
    let (sync, sync_queue) = Outlet::new(INBOX, INBOX_PER_PEER);
    let (announced, announces) = Outlet::new(ANNOUNCES, ANNOUNCES_PER_PEER);
    let server = Arc::new(Server::new(
        exchange::Outlets { hello, index, get, put, sync },
        config.limits.request_bytes,
        config.read_timeout,
        commands.clone(),
    ));
    let guard = Guard::default();
    let mut swarm = {
        let (server, guard) = (Arc::clone(&server), guard.clone());
        let unread = config.limits.request_bytes;
        let behaviour = |key: &_, relay, pause| {
            let behaviour = behaviour::Behaviour::new(key, relay, &config, server, guard)?;
            Ok(Filtered::new(behaviour, Talk(pause)))
        };
        transport::clearnet(key, unread, behaviour).await?
    };
    let (mut failure, mut listening) = (None, 0);
    for address in &config.listen {
        match swarm.listen_on(address.clone()) {
            Ok(_) => listening += 1,
            Err(error) => {
                tracing::warn!(%address, %error, "cannot listen here");
                failure = Some(StartError::Listen { address: address.clone(), reason: error.to_string() });
            }
        }
    }
    // A machine without IPv6, say, can be reached all the same.
    if let Some(failure) = failure.filter(|_| listening == 0) {
        return Err(failure);
    }
    for address in &config.external {
        swarm.add_external_address(address.clone());
    }
    let idle = Idle::default();
    let handle = Handle::new(local_peer, config.network.clone(), commands, events.clone(), idle.clone());
    let event_loop = event_loop::EventLoop::new(
        swarm,
        config.network,
        (config.nat.relay_client && !config.listen.is_empty()).then_some(config.relay_patience),
        command_queue,
        events,
        event_loop::Shared { announced, server, idle, guard },
    );
    let task = tokio::spawn(event_loop.run(shutdown));
    let inbox = Inbox {
        hello: hello_queue,
        index: index_queue,
        get: get_queue,
        put: put_queue,
        sync: sync_queue,
        announces,
    };
    Ok((handle, inbox, task))
}
