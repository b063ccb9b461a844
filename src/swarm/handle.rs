//! How the rest of the program talks to the swarm.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Stream, gossipsub,
    multiaddr::Protocol,
    swarm::dial_opts::{DialOpts, PeerCondition},
};
use lru::LruCache;
use p2pdb_protocol::{
    id::TableId,
    message::{Reply, Status},
    network::Network,
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};

use crate::{
    clock::monotonic,
    swarm::{
        Conduct, Event,
        event_loop::{Command, EventLoop},
        exchange::{
            Exchange, MAX_ASKING,
            ask::{AskError, ask, is_quiet},
            idle::Idle,
            streams::OpenError,
        },
        gossip::{News, Topic},
        ip_limits::Origin,
    },
    wire::{frame::Frame, protocol_name},
};

/// Requests under way in all.
const MAX_REQUESTS: usize = 256;
/// Requests under way per peer and operation: as many as a peer takes at a time.
const MAX_REQUESTS_PER_PEER: usize = super::INBOX_PER_PEER;
/// Peers whose requests are counted.
const MAX_COUNTED_PEERS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// A request is given up after this time, whatever the swarm says of it.
const REQUEST_DEADLINE: Duration = Duration::from_secs(40);
/// A dial is given up after this time.
const DIAL_DEADLINE: Duration = Duration::from_secs(25);
/// The longest ban an operator can set.
const LONGEST_BAN: Duration = Duration::from_secs(10 * 365 * 86_400);
/// A query of the DHT is given up after this time.
const QUERY_DEADLINE: Duration = Duration::from_secs(40);

/// Why a request has no response.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// No address of the peer answers.
    #[error("the peer cannot be reached: {why}")]
    Unreachable {
        /// What happened at its addresses.
        why: String,
    },
    /// The peer did not answer in time.
    #[error("the peer did not answer in time")]
    Timeout,
    /// The connection broke.
    #[error("the connection closed before the peer answered")]
    Closed,
    /// The peer is of another network, or too old or new.
    #[error("the peer does not speak {0} on this network: is it of another network?")]
    Unsupported(String),
    /// The request is longer than one may be.
    #[error("the request cannot be sent: {0}")]
    Unsendable(String),
    /// What came was no response.
    #[error("the peer's response does not make sense: {0}")]
    Invalid(String),
    /// The peer says no.
    #[error("the peer refuses: {status}")]
    Refused {
        /// Its reason.
        status: Status,
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// This end is shutting down.
    #[error("the swarm has been shut down")]
    ShutDown,
}

/// A connected peer.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Its id.
    pub peer: String,
    /// Where it is seen.
    pub address: String,
    /// Whether it dialed us.
    pub inbound: bool,
    /// What software it says it runs; empty until it said so.
    pub agent: String,
    /// Whether it serves the operations of this network.
    pub serves: bool,
    /// Its conduct: 0 is neutral, -50 a ban.
    pub score: f64,
}

/// The swarm at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct SwarmStatus {
    /// Addresses listened on.
    pub listening: Vec<String>,
    /// Addresses confirmed from outside.
    pub external: Vec<String>,
    /// Connected peers.
    pub peers: Vec<PeerStatus>,
    /// Topics whose gossip this end takes part in.
    pub topics: usize,
    /// Streams that peers have open to ask on.
    pub streams: usize,
    /// Peers in the DHT's routing table.
    pub dht_peers: usize,
    /// Banned peers.
    pub banned: usize,
}

/// By peer and operation, or what else is counted, and for all operations together under no name.
type PerPeer = LruCache<(PeerId, &'static str), Arc<Semaphore>>;

/// Talks to the task that owns the swarm. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Handle {
    local_peer: PeerId,
    network: Arc<Network>,
    commands: mpsc::Sender<Command>,
    events: broadcast::Sender<Event>,
    all_requests: Arc<Semaphore>,
    per_peer: Arc<Mutex<PerPeer>>,
    idle: Idle,
}

impl Handle {
    pub(super) fn new(
        local_peer: PeerId,
        network: Network,
        commands: mpsc::Sender<Command>,
        events: broadcast::Sender<Event>,
        idle: Idle,
    ) -> Self {
        Self {
            local_peer,
            network: Arc::new(network),
            commands,
            events,
            all_requests: Arc::new(Semaphore::new(MAX_REQUESTS)),
            per_peer: Arc::new(Mutex::new(LruCache::new(MAX_COUNTED_PEERS))),
            idle,
        }
    }

    /// This end's own peer id.
    #[must_use]
    pub const fn local_peer(&self) -> PeerId {
        self.local_peer
    }

    /// The network this swarm belongs to.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// What happens from now on.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Asks a peer, dialing it if its addresses are known, and waits for the response. If a connection breaks, the peer may
    /// be asked twice: every operation may be repeated.
    ///
    /// # Errors
    /// If there is no response, or the peer refuses.
    pub async fn request<O: Exchange>(
        &self,
        peer: PeerId,
        request: O::Request,
    ) -> Result<O::Response, RequestError> {
        self.request_begun_within::<O>(peer, request, O::DEADLINE).await
    }

    /// The same, but the response has to begin within `patience` of the request's being sent.
    ///
    /// # Errors
    /// If there is no response, or the peer refuses.
    pub async fn request_begun_within<O: Exchange>(
        &self,
        peer: PeerId,
        request: O::Request,
        patience: Duration,
    ) -> Result<O::Response, RequestError> {
        let frame = Frame::request::<O>(&request).map_err(|e| RequestError::Unsendable(e.to_string()))?;
        // The peer's own place first: who waits behind a slow peer must not hold a place of all.
        let of_operation = self.slot(peer, O::NAME, MAX_REQUESTS_PER_PEER);
        let _one_of_operation = of_operation.acquire().await.map_err(|_| RequestError::ShutDown)?;
        let of_peer = self.slot(peer, "", MAX_ASKING);
        let _one_of_peer = of_peer.acquire().await.map_err(|_| RequestError::ShutDown)?;
        let _one_of_all = self.all_requests.acquire().await.map_err(|_| RequestError::ShutDown)?;
        let exchange = self.exchange::<O>(peer, &frame, patience);
        let reply = tokio::time::timeout(REQUEST_DEADLINE, exchange).await;
        match reply.unwrap_or(Err(RequestError::Timeout))? {
            Reply::Ok(response) => Ok(response),
            Reply::Refused { status, retry_after_ms } => {
                Err(RequestError::Refused { status, retry_after: retry_after_ms.map(Duration::from_millis) })
            }
        }
    }

    /// Asks on a stream that lies idle, or else, or if the peer has closed that meanwhile, on a new one.
    async fn exchange<O: Exchange>(
        &self,
        peer: PeerId,
        request: &Frame,
        patience: Duration,
    ) -> Result<Reply<O::Response>, RequestError> {
        while let Some(mut kept) = self.idle.take(peer, O::NAME) {
            match is_quiet(&mut kept.stream) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    self.failed::<O>(peer, error).await;
                    continue;
                }
            }
            match ask::<O>(&mut kept.stream, request, patience).await {
                Err(AskError::Silent(error)) => {
                    tracing::trace!(%peer, %error, "an idle stream was closed");
                    break;
                }
                Err(error) => return Err(self.failed::<O>(peer, error).await),
                Ok(reply) => {
                    self.idle.keep(peer, O::NAME, kept);
                    return Ok(reply);
                }
            }
        }
        let stream = match self.open::<O>(peer).await {
            // It was to be opened on a connection that closed meanwhile. There may be another one, or there will be.
            Err(RequestError::Closed) => self.open::<O>(peer).await?,
            opened => opened?,
        };
        let mut kept = self.idle.adopt(peer, stream);
        match ask::<O>(&mut kept.stream, request, patience).await {
            Err(error) => Err(self.failed::<O>(peer, error).await),
            Ok(reply) => {
                self.idle.keep(peer, O::NAME, kept);
                Ok(reply)
            }
        }
    }

    async fn open<O: Exchange>(&self, peer: PeerId) -> Result<Stream, RequestError> {
        let (answer, opened) = oneshot::channel();
        let name = protocol_name::<O>(&self.network);
        let command: Command = Box::new(move |event_loop| event_loop.open(peer, name, answer));
        self.commands.send(command).await.map_err(|_| RequestError::ShutDown)?;
        // Who would answer goes with the connection.
        let opened = opened.await.unwrap_or(Err(OpenError::Closed));
        opened.map_err(|error| match error {
            OpenError::Unreachable(why) => RequestError::Unreachable { why },
            OpenError::Unsupported => RequestError::Unsupported(O::NAME.to_owned()),
            OpenError::Timeout => RequestError::Timeout,
            OpenError::Closed => RequestError::Closed,
        })
    }

    /// Reports what the peer did, and says what that means.
    async fn failed<O: Exchange>(&self, peer: PeerId, error: AskError) -> RequestError {
        tracing::debug!(%peer, operation = O::NAME, %error, "request failed");
        match error {
            AskError::Timeout => {
                self.report(peer, Conduct::Timeout).await;
                RequestError::Timeout
            }
            AskError::Invalid(error) => {
                self.report(peer, Conduct::Misbehaviour).await;
                RequestError::Invalid(error.to_string())
            }
            AskError::Unsupported => RequestError::Unsupported(O::NAME.to_owned()),
            AskError::Silent(_) | AskError::Closed(_) => RequestError::Closed,
        }
    }

    /// Connects to a peer at one of these addresses or those known of it; does nothing if it is connected.
    ///
    /// # Errors
    /// If no address answers.
    pub async fn connect(&self, peer: PeerId, addresses: Vec<Multiaddr>) -> Result<PeerId, RequestError> {
        let options = DialOpts::peer_id(peer)
            .addresses(addresses)
            .extend_addresses_through_behaviour()
            // A dial that is under way may be of a worse address.
            .condition(PeerCondition::Disconnected);
        self.dial(options.build()).await
    }

    /// Connects to whoever is at an address; if the address ends in `/p2p/...`, to that peer alone.
    ///
    /// # Errors
    /// If nobody answers, or somebody else.
    pub async fn connect_to(&self, address: Multiaddr) -> Result<PeerId, RequestError> {
        match address.iter().last() {
            Some(Protocol::P2p(peer)) => self.connect(peer, vec![address]).await,
            _ => self.dial(DialOpts::from(address)).await,
        }
    }

    async fn dial(&self, options: DialOpts) -> Result<PeerId, RequestError> {
        let dial = self.ask(move |event_loop, answer| event_loop.dial(options, answer));
        match tokio::time::timeout(DIAL_DEADLINE, dial).await {
            Err(_) => Err(RequestError::Timeout),
            Ok(dialed) => dialed?.map_err(|why| RequestError::Unreachable { why }),
        }
    }

    /// Makes addresses of a peer known; see [`Route::addresses`](crate::swarm::routes::Route::addresses) for which.
    pub async fn add_addresses(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        self.tell(move |event_loop| event_loop.add_addresses(peer, addresses)).await;
    }

    /// Where a connected peer is seen.
    pub async fn address_of(&self, peer: PeerId) -> Option<Multiaddr> {
        let address = self.ask(move |event_loop, answer| {
            let _ = answer.send(event_loop.address_of(&peer));
        });
        address.await.ok().flatten()
    }

    /// Where a connected peer is, if it is known by its IP address.
    pub async fn origin(&self, peer: PeerId) -> Option<Origin> {
        let origin = self.ask(move |event_loop, answer| {
            let _ = answer.send(event_loop.origin(&peer));
        });
        origin.await.ok().flatten()
    }

    /// Tells the listeners that a node has introduced itself.
    pub async fn introduced(&self, peer: PeerId) {
        self.tell(move |event_loop| event_loop.introduced(peer)).await;
    }

    /// Keeps a peer away for so long.
    pub async fn ban(&self, peer: PeerId, length: Duration) {
        self.tell(move |event_loop| event_loop.ban(peer, monotonic() + length.min(LONGEST_BAN))).await;
    }

    /// Notes what a peer did.
    pub async fn report(&self, peer: PeerId, conduct: Conduct) {
        self.tell(move |event_loop| event_loop.report(peer, conduct)).await;
    }

    /// Takes part in the gossip of a topic, until [`Handle::unsubscribe`] was called as often as this.
    pub async fn subscribe(&self, topic: Topic) {
        self.tell(move |event_loop| event_loop.subscribe(topic)).await;
    }

    /// Leaves the gossip of a topic, unless others subscribed to it.
    pub async fn unsubscribe(&self, topic: Topic) {
        self.tell(move |event_loop| event_loop.unsubscribe(topic)).await;
    }

    /// Announces news. Says whether any peer listens.
    pub async fn announce(&self, news: News) -> bool {
        self.ask(move |event_loop, answer| {
            let _ = answer.send(event_loop.announce(&news));
        })
        .await
        .unwrap_or(false)
    }

    /// Nodes that pass on the announces of a topic to this one, and it to them.
    pub async fn forwarders(&self, topic: Topic) -> Vec<PeerId> {
        self.ask(move |event_loop, answer| {
            let _ = answer.send(event_loop.forwarders(topic));
        })
        .await
        .unwrap_or_default()
    }

    /// Says what becomes of a held announce.
    pub async fn judge(
        &self,
        message_id: gossipsub::MessageId,
        source: PeerId,
        acceptance: gossipsub::MessageAcceptance,
    ) {
        self.tell(move |event_loop| event_loop.judge(&message_id, &source, acceptance)).await;
    }

    /// Tells the DHT that this node mirrors a table.
    pub async fn provide(&self, table: TableId) {
        self.tell(move |event_loop| event_loop.provide(provider_key(&table))).await;
    }

    /// Tells the DHT no more that this node mirrors a table.
    pub async fn stop_providing(&self, table: TableId) {
        self.tell(move |event_loop| event_loop.stop_providing(&provider_key(&table))).await;
    }

    /// Asks the DHT which nodes mirror a table.
    ///
    /// # Errors
    /// If the swarm is shut down.
    pub async fn mirrors(&self, table: TableId) -> Result<Vec<PeerId>, RequestError> {
        let query =
            self.ask(move |event_loop, answer| event_loop.find_providers(provider_key(&table), answer));
        match tokio::time::timeout(QUERY_DEADLINE, query).await {
            Err(_) => Ok(Vec::new()),
            Ok(found) => found,
        }
    }

    /// Refreshes the DHT's routing table.
    pub async fn refresh_dht(&self) {
        self.tell(EventLoop::refresh_dht).await;
    }

    /// The swarm at a glance.
    ///
    /// # Errors
    /// If the swarm is shut down.
    pub async fn status(&self) -> Result<SwarmStatus, RequestError> {
        self.ask(|event_loop, answer| {
            let _ = answer.send(event_loop.status());
        })
        .await
    }

    /// Connected peers that serve the operations of this network.
    ///
    /// # Errors
    /// If the swarm is shut down.
    pub async fn serving_peers(&self) -> Result<Vec<PeerId>, RequestError> {
        self.ask(|event_loop, answer| {
            let _ = answer.send(event_loop.serving_peers());
        })
        .await
    }

    /// Addresses under which others may reach this node, without peer id: those confirmed, or else those listened on.
    ///
    /// # Errors
    /// If the swarm is shut down.
    pub async fn own_addresses(&self) -> Result<Vec<Multiaddr>, RequestError> {
        self.ask(|event_loop, answer| {
            let _ = answer.send(event_loop.own_addresses());
        })
        .await
    }

    async fn tell(&self, command: impl FnOnce(&mut EventLoop) + Send + 'static) {
        // After shutdown there is nobody left to tell.
        let _ = self.commands.send(Box::new(command)).await;
    }

    async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut EventLoop, oneshot::Sender<T>) + Send + 'static,
    ) -> Result<T, RequestError> {
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |event_loop| command(event_loop, answer));
        self.commands.send(command).await.map_err(|_| RequestError::ShutDown)?;
        answered.await.map_err(|_| RequestError::ShutDown)
    }

    /// The places of a peer for one kind of things, to wait for: who waits for one keeps nobody else waiting.
    pub(crate) fn slot(&self, peer: PeerId, kind: &'static str, places: usize) -> Arc<Semaphore> {
        let mut slots = self.per_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.get_or_insert((peer, kind), || Arc::new(Semaphore::new(places)));
        Arc::clone(slot)
    }
}

/// The DHT key under which nodes provide a table (SPEC 11.2).
fn provider_key(table: &TableId) -> libp2p::kad::RecordKey {
    let hash = Sha256::new().chain_update("p2pdb table v1").chain_update(table.as_bytes()).finalize();
    libp2p::kad::RecordKey::new(&hash)
}
