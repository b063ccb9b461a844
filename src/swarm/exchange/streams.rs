//! The behaviour that opens streams of operations and takes those that peers open. What is said on them is none of its
//! business: who opened one speaks on it without a further word to the event loop.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol,
    core::{
        Endpoint,
        transport::PortUse,
        upgrade::{InboundUpgrade, ReadyUpgrade, UpgradeInfo},
    },
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId,
        DialError, DialFailure, FromSwarm, NetworkBehaviour, NotifyHandler, PeerAddresses,
        StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
        dial_opts::DialOpts,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::swarm::{dial::why, ip_limits::Origin};

/// Streams of all operations that a peer may have open on one connection: those that it asks on, those that it keeps, and some that
/// are just closing. The connection has 512 of yamux for both directions, or 256 of QUIC for each, and other protocols need some.
const MAX_INBOUND: usize = super::MAX_ASKING + super::idle::MAX_OF_PEER + 32;
/// Streams to one peer that wait until it is connected.
const MAX_WAITING: usize = 256;

/// Why a stream is not there.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// The peer cannot be reached, for this reason.
    Unreachable(String),
    /// The peer does not speak the operation.
    Unsupported,
    /// The peer took too long to say so.
    Timeout,
    /// The connection broke.
    Closed,
}

/// A stream that somebody waits for.
#[derive(Debug)]
pub(crate) struct Opening {
    name: StreamProtocol,
    answer: oneshot::Sender<Result<Stream, OpenError>>,
}

impl Opening {
    fn fail(self, error: OpenError) {
        // Who waited may have gone.
        let _ = self.answer.send(Err(error));
    }
}

/// Who opened a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    pub(crate) peer: PeerId,
    /// Where the peer is, if it is known by its IP address.
    pub(crate) origin: Option<Origin>,
}

/// Takes the streams that peers open: the number of the operation among those listened for, and the stream's place among
/// those of the connection.
pub(crate) trait Accept: std::fmt::Debug + Send + Sync {
    fn accept(self: Arc<Self>, operation: usize, asker: Asker, stream: Stream, place: OwnedSemaphorePermit);
}

/// Opens and takes streams.
#[derive(Debug)]
pub(crate) struct Behaviour {
    listens: Arc<[Name]>,
    accept: Arc<dyn Accept>,
    /// The connections of each peer, the best one last.
    connections: HashMap<PeerId, Vec<ConnectionId>>,
    /// What waits for a connection.
    waiting: HashMap<PeerId, Vec<Opening>>,
    addresses: PeerAddresses,
    events: VecDeque<ToSwarm<Infallible, Opening>>,
}

impl Behaviour {
    /// Takes streams of these protocols; none, if it only asks.
    pub(crate) fn new(listens: Vec<StreamProtocol>, accept: Arc<dyn Accept>) -> Self {
        Self {
            listens: listens.into_iter().enumerate().map(|(number, name)| Name { number, name }).collect(),
            accept,
            connections: HashMap::new(),
            waiting: HashMap::new(),
            addresses: PeerAddresses::default(),
            events: VecDeque::new(),
        }
    }

    /// Opens a stream to a peer, over the latest of its connections that is not relayed, if there is one; dials the peer if it is
    /// not connected.
    pub(crate) fn open(
        &mut self,
        peer: PeerId,
        name: StreamProtocol,
        answer: oneshot::Sender<Result<Stream, OpenError>>,
    ) {
        let opening = Opening { name, answer };
        if let Some(connection) = self.connections.get(&peer).and_then(|all| all.last()) {
            return self.assign(peer, *connection, opening);
        }
        let waiting = self.waiting.entry(peer).or_default();
        // Who has given up takes no place.
        waiting.retain(|opening| !opening.answer.is_closed());
        if waiting.len() >= MAX_WAITING {
            return opening.fail(OpenError::Unreachable("too many requests wait for it".to_owned()));
        }
        waiting.push(opening);
        let opts = DialOpts::peer_id(peer).build();
        self.events.push_back(ToSwarm::Dial { opts });
    }

    fn assign(&mut self, peer_id: PeerId, connection: ConnectionId, event: Opening) {
        let handler = NotifyHandler::One(connection);
        self.events.push_back(ToSwarm::NotifyHandler { peer_id, handler, event });
    }

    fn handler(&self, peer: PeerId, origin: Option<Origin>) -> Handler {
        Handler {
            asker: Asker { peer, origin },
            listens: Arc::clone(&self.listens),
            places: Arc::new(Semaphore::new(MAX_INBOUND)),
            accept: Arc::clone(&self.accept),
            openings: VecDeque::new(),
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, Origin::of_connection(local, remote)))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        Ok(peer.map(|peer| self.addresses.get(&peer).collect()).unwrap_or_default())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(peer, Origin::of_multiaddr(remote)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.addresses.on_swarm_event(&event);
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint,
                ..
            }) => {
                let connections = self.connections.entry(peer).or_default();
                // A relay takes little, and for a short time.
                let place = if endpoint.is_relayed() { 0 } else { connections.len() };
                connections.insert(place, connection_id);
                for opening in self.waiting.remove(&peer).unwrap_or_default() {
                    self.assign(peer, connection_id, opening);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. }) => {
                if let Some(connections) = self.connections.get_mut(&peer_id) {
                    connections.retain(|connection| *connection != connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            // Another dial is under way already.
            FromSwarm::DialFailure(DialFailure { error: DialError::DialPeerConditionFalse(_), .. }) => {}
            FromSwarm::DialFailure(DialFailure { peer_id: Some(peer), error, .. }) => {
                for opening in self.waiting.remove(&peer).unwrap_or_default() {
                    opening.fail(OpenError::Unreachable(why(error)));
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The side of one connection. When the connection goes, so do those who wait here, who see their channels close.
#[derive(Debug)]
pub(crate) struct Handler {
    asker: Asker,
    listens: Arc<[Name]>,
    places: Arc<Semaphore>,
    accept: Arc<dyn Accept>,
    openings: VecDeque<Opening>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Opening;
    type ToBehaviour = Infallible;
    type InboundProtocol = Names;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Opening;

    fn listen_protocol(&self) -> SubstreamProtocol<Names> {
        SubstreamProtocol::new(Names(Arc::clone(&self.listens)), ())
    }

    fn on_behaviour_event(&mut self, opening: Opening) {
        self.openings.push_back(opening);
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<ReadyUpgrade<StreamProtocol>, Opening, Infallible>> {
        while let Some(opening) = self.openings.pop_front() {
            if !opening.answer.is_closed() {
                let protocol = SubstreamProtocol::new(ReadyUpgrade::new(opening.name.clone()), opening);
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
        }
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<'_, Names, ReadyUpgrade<StreamProtocol>, (), Opening>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, number),
                ..
            }) => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(place) => Arc::clone(&self.accept).accept(number, self.asker, stream, place),
                Err(_) => tracing::debug!(peer = %self.asker.peer, "a peer opens too many streams"),
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                // Who waited may have gone.
                let _ = info.answer.send(Ok(protocol));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                info.fail(match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Timeout => OpenError::Timeout,
                    StreamUpgradeError::Apply(_) | StreamUpgradeError::Io(_) => OpenError::Closed,
                });
            }
            _ => {}
        }
    }
}

/// The name of a protocol and its number among those listened for.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    number: usize,
    name: StreamProtocol,
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.name.as_ref()
    }
}

/// Takes a stream of any of these protocols.
#[derive(Debug, Clone)]
pub(crate) struct Names(Arc<[Name]>);

impl UpgradeInfo for Names {
    type Info = Name;
    type InfoIter = NamesIter;

    fn protocol_info(&self) -> Self::InfoIter {
        NamesIter { names: Arc::clone(&self.0), next: 0 }
    }
}

/// One name after the other. A connection goes through them each time that it has done something.
#[derive(Debug)]
pub(crate) struct NamesIter {
    names: Arc<[Name]>,
    next: usize,
}

impl Iterator for NamesIter {
    type Item = Name;

    fn next(&mut self) -> Option<Name> {
        let name = self.names.get(self.next)?;
        self.next += 1;
        Some(name.clone())
    }
}

impl InboundUpgrade<Stream> for Names {
    type Output = (Stream, usize);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, name: Name) -> Self::Future {
        ready(Ok((stream, name.number)))
    }
}

#[cfg(test)]
mod tests;
