//! The one task that owns the swarm. It never waits for anything but the swarm and its commands.

use std::{
    collections::HashMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm,
    core::transport::ListenerId,
    gossipsub, identify,
    multiaddr::Protocol,
    ping,
    swarm::{ConnectionId, DialError, SwarmEvent, dial_opts::DialOpts},
};
use p2pdb_protocol::{limits, network::Network};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::monotonic,
    swarm::{
        Conduct, Event,
        address::{self, Scope},
        behaviour::{Behaviour, BehaviourEvent},
        dht::Dht,
        dial::{Dialer, why},
        exchange::{Outlet, answer::Server, ask::is_unsupported, idle::Idle, streams::OpenError},
        filter::{Filtered, Talk},
        gossip::{Announced, Topic, guard::Guard},
        peers::Peer,
        score::{Scores, Verdict},
    },
};

/// Something that the event loop does for somebody else.
pub(super) type Command = Box<dyn FnOnce(&mut EventLoop) + Send>;

/// How often bans and the need of a relay are looked at.
const TICK: Duration = Duration::from_secs(5);
/// Who refused to relay is not asked again for this long: there may be others.
const RELAY_PAUSE: Duration = Duration::from_secs(120);
/// On shutdown peers have this long to take the last answers.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);
/// On shutdown connections have this long to close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);

/// What the event loop shares with those who listen, answer and ask.
pub(super) struct Shared {
    pub(super) announced: Outlet<Announced>,
    pub(super) server: Arc<Server>,
    pub(super) idle: Idle,
    pub(super) guard: Guard,
}

pub(super) struct EventLoop {
    pub(super) swarm: Swarm<Filtered<Behaviour, Talk>>,
    pub(super) announced: Outlet<Announced>,
    pub(super) server: Arc<Server>,
    pub(super) idle: Idle,
    pub(super) network: Network,
    commands: mpsc::Receiver<Command>,
    events: broadcast::Sender<Event>,
    pub(super) peers: HashMap<PeerId, Peer>,
    pub(super) scores: Scores,
    /// Topics by their names, and how many take part in each.
    pub(super) topics: HashMap<gossipsub::TopicHash, (Topic, usize)>,
    pub(super) guard: Guard,
    pub(super) dialing: HashMap<ConnectionId, Dialer>,
    pub(super) dht: Dht,
    /// When to look for a relay, if this node may be behind NAT.
    relay_after: Option<Instant>,
    relay_listener: Option<(ListenerId, PeerId)>,
    /// Who refused to relay, and until when he is not asked again.
    relays_tried: HashMap<PeerId, Instant>,
}

impl EventLoop {
    pub(super) fn new(
        swarm: Swarm<Filtered<Behaviour, Talk>>,
        network: Network,
        relay_patience: Option<Duration>,
        commands: mpsc::Receiver<Command>,
        events: broadcast::Sender<Event>,
        Shared { announced, server, idle, guard }: Shared,
    ) -> Self {
        Self {
            swarm,
            announced,
            server,
            idle,
            network,
            commands,
            events,
            peers: HashMap::new(),
            scores: Scores::new(),
            topics: HashMap::new(),
            guard,
            dialing: HashMap::new(),
            dht: Dht::default(),
            relay_after: relay_patience.map(|patience| monotonic() + patience),
            relay_listener: None,
            relays_tried: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            // Commands come first: they must not wait behind a flood of events.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(command) = self.commands.recv() => command(&mut self),
                _ = tick.tick() => {
                    self.pardon();
                    self.seek_relay();
                    self.count_gossip();
                    self.idle.tidy(monotonic());
                }
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.close().await;
    }

    async fn close(mut self) {
        self.commands.close();
        while let Ok(command) = self.commands.try_recv() {
            command(&mut self);
        }
        // What was answered has to reach the peers before the connections go.
        let server = Arc::clone(&self.server);
        let flushed = async {
            let stopped = server.stop();
            tokio::pin!(stopped);
            loop {
                tokio::select! {
                    () = &mut stopped => break,
                    event = self.swarm.select_next_some() => self.on_event(event),
                }
            }
        };
        if tokio::time::timeout(FLUSH_DEADLINE, flushed).await.is_err() {
            tracing::debug!("some peers did not take their answers before the swarm stopped");
        }
        for peer in self.peers.keys().copied().collect::<Vec<_>>() {
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            while self.swarm.network_info().num_peers() > 0 {
                let _ = self.swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(CLOSE_DEADLINE, closed).await.is_err() {
            tracing::debug!("connections were still open when the swarm stopped");
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::NewListenAddr { address, .. } => {
                tracing::info!(%address, "listening");
                self.emit(Event::Listening { address });
            }
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.on_connected(peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, .. } => {
                self.on_disconnected(peer_id, connection_id, num_established == 0);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(peer = ?peer_id, %error, "dial failed");
                if let Some(dialer) = self.dialing.remove(&connection_id) {
                    let _ = dialer.send(Err(why(&error)));
                }
            }
            SwarmEvent::IncomingConnectionError { error, .. } => {
                tracing::debug!(%error, "incoming connection failed");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed"),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                if let Some((_, relay)) = self.relay_listener.take_if(|(id, _)| *id == listener_id) {
                    tracing::debug!(%relay, ?reason, "no listening through a relay any more");
                    // Without a reason it was the connection that went.
                    if reason.is_err() {
                        self.relays_tried.insert(relay, monotonic() + RELAY_PAUSE);
                    }
                } else if let Err(error) = reason {
                    tracing::warn!(?addresses, %error, "listener closed");
                }
            }
            SwarmEvent::ExternalAddrConfirmed { address } => {
                tracing::info!(%address, "reachable from outside");
                self.emit(Event::Listening { address });
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Identify(identify::Event::Received { peer_id, info, .. }) => {
                self.on_identified(peer_id, info);
            }
            BehaviourEvent::Kad(event) => self.on_dht(event),
            // Said from the second failure in a row on, and left to us: a connection to a host that is gone without a word
            // would stay open for as long as TCP tries. Who does not speak it may have other ways.
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) })
                if !is_unspoken(&error) =>
            {
                tracing::debug!(%peer, %error, "a connection is dead");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, message_id, &message);
            }
            _ => {}
        }
    }

    pub(super) fn emit(&self, event: Event) {
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// Opens a stream of an operation to a peer.
    pub(super) fn open(
        &mut self,
        peer: PeerId,
        name: StreamProtocol,
        answer: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        self.swarm.behaviour_mut().exchange.open(peer, name, answer);
    }

    pub(super) fn dial(&mut self, options: DialOpts, answer: Dialer) {
        let peer = options.get_peer_id();
        let connection = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dialing.insert(connection, answer);
            }
            // Connected already is as good as connected.
            Err(DialError::DialPeerConditionFalse(_)) => {
                let connected = peer.filter(|peer| self.swarm.is_connected(peer));
                let _ = answer.send(connected.ok_or_else(|| "it is being dialed already".to_owned()));
            }
            Err(error) => {
                tracing::debug!(?peer, %error, "dial failed");
                let _ = answer.send(Err(why(&error)));
            }
        }
    }

    pub(super) fn add_addresses(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        for address in addresses.into_iter().take(limits::MAX_RECORD_ADDRESSES) {
            self.swarm.add_peer_address(peer, address);
        }
    }

    pub(super) fn report(&mut self, peer: PeerId, conduct: Conduct) {
        match self.scores.report(peer, conduct, monotonic()) {
            Verdict::Score(score) => {
                self.swarm.behaviour_mut().gossip.set_application_score(&peer, score);
            }
            Verdict::Ban(until) => {
                tracing::warn!(%peer, ?conduct, "banned for its conduct");
                self.block(peer, until);
            }
        }
    }

    pub(super) fn ban(&mut self, peer: PeerId, until: Instant) {
        self.scores.ban(peer, until);
        self.block(peer, until);
    }

    fn block(&mut self, peer: PeerId, until: Instant) {
        tracing::debug!(%peer, seconds = until.saturating_duration_since(monotonic()).as_secs(), "blocked");
        self.swarm.behaviour_mut().blocked.block_peer(peer);
        self.swarm.behaviour_mut().kad.remove_peer(&peer);
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn pardon(&mut self) {
        let now = monotonic();
        for peer in self.scores.pardoned(now) {
            self.swarm.behaviour_mut().blocked.unblock_peer(peer);
        }
        // Gossip has to forget as the scores do.
        for peer in self.peers.keys() {
            let score = self.scores.score(peer, now);
            self.swarm.behaviour_mut().gossip.set_application_score(peer, score);
        }
    }

    /// Asks a peer to relay for this node, if nobody found it reachable so far.
    fn seek_relay(&mut self) {
        let due = self.relay_after.is_some_and(|after| after <= monotonic());
        if !due || self.relay_listener.is_some() || self.swarm.external_addresses().next().is_some() {
            return;
        }
        let now = monotonic();
        self.relays_tried.retain(|_, until| *until > now);
        // Through a relay there is no way to a further relay.
        let direct = |peer: &Peer| peer.relays && !peer.address.iter().any(|p| p == Protocol::P2pCircuit);
        let mut relays =
            self.peers.iter().filter(|(id, peer)| direct(peer) && !self.relays_tried.contains_key(*id));
        let Some((id, relay)) = relays.next() else { return };
        let (id, address) = (*id, relay.address.clone().with_p2p(*id));
        let listening = address.map(|address| self.swarm.listen_on(address.with(Protocol::P2pCircuit)));
        if let Ok(Ok(listener)) = listening {
            self.relay_listener = Some((listener, id));
        } else {
            self.relays_tried.insert(id, now + RELAY_PAUSE);
        }
    }

    /// Confirmed addresses and those listened on, the widest first; loopback only if there is nothing else.
    pub(super) fn own_addresses(&self) -> Vec<Multiaddr> {
        let all = self.swarm.external_addresses().chain(self.swarm.listeners());
        let mut scoped: Vec<_> =
            all.filter_map(|address| Some((address::scope(address)?, address))).collect();
        scoped.sort_by_key(|(scope, _)| std::cmp::Reverse(*scope));
        if scoped.first().is_some_and(|(widest, _)| *widest > Scope::Machine) {
            scoped.retain(|(scope, _)| *scope > Scope::Machine);
        }
        let mut addresses: Vec<Multiaddr> = Vec::new();
        for (_, address) in scoped {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}

/// Whether a heartbeat failed for want of the protocol.
fn is_unspoken(error: &ping::Failure) -> bool {
    match error {
        ping::Failure::Unsupported => true,
        ping::Failure::Timeout => false,
        ping::Failure::Other { error } => error.downcast_ref::<io::Error>().is_some_and(is_unsupported),
    }
}
