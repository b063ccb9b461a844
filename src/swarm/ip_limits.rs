//! Denies connections to who has enough of them already: an address, a peer, and all that come over QUIC.
//!
//! Peer ids are free, addresses are not: without this one host fills all places.

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
        NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

use crate::swarm::Limits;

/// An IPv4 address, or the /48 of an IPv6 address: what one customer gets. Who comes through a relay has the relay's; if that was
/// dialed by its name, all who come through it are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(Place);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Place {
    Ip(IpAddr),
    Relay(PeerId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Place::Ip(v4 @ IpAddr::V4(_)) => write!(f, "{v4}"),
            Place::Ip(v6) => write!(f, "{v6}/48"),
            Place::Relay(relay) => write!(f, "the relay {relay}"),
        }
    }
}

impl Origin {
    /// The origin of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(Place::Ip(v4)),
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Self(Place::Ip(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))))
            }
        }
    }

    /// The origin of a multiaddr, if it begins with an IP address, or leads through a relay.
    #[must_use]
    pub fn of_multiaddr(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let mut last = match parts.next()? {
            Protocol::Ip4(ip) => return Some(Self::of(ip.into())),
            Protocol::Ip6(ip) => return Some(Self::of(ip.into())),
            first => first,
        };
        for part in parts {
            if let (Protocol::P2p(relay), Protocol::P2pCircuit) = (last, &part) {
                return Some(Self(Place::Relay(relay)));
            }
            last = part;
        }
        None
    }

    /// The origin of who is at the other end of a connection; of who is behind a relay, that of the relay.
    #[must_use]
    pub fn of_connection(local: &Multiaddr, remote: &Multiaddr) -> Option<Self> {
        let is_relayed = local.iter().any(|part| part == Protocol::P2pCircuit);
        Self::of_multiaddr(if is_relayed { local } else { remote })
    }

    /// The origin of who is at the other end of a connection; of who is behind a relay, that of the relay.
    #[must_use]
    pub fn of_endpoint(endpoint: &ConnectedPoint) -> Option<Self> {
        match endpoint {
            ConnectedPoint::Dialer { address, .. } => Self::of_multiaddr(address),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                Self::of_connection(local_addr, send_back_addr)
            }
        }
    }

    /// Whether this is the machine itself, which shares one address among all its users.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        matches!(self.0, Place::Ip(ip) if ip.is_loopback())
    }
}

/// Most established connections per origin.
#[derive(Debug, Clone, Copy)]
pub struct IpLimits {
    /// Per IPv4 address, and per relay that was dialed by its name.
    pub per_ipv4: u32,
    /// Per IPv6 /48.
    pub per_ipv6_48: u32,
}

/// Inbound connections of one origin that are being set up.
const MAX_PENDING: u32 = 4;
/// This part of the places of connections being set up is for QUIC, where anybody can claim any address;
const PENDING_QUIC: u32 = 2;
/// and this part of those that are. What waits for a peer to take it is not bounded over all connections of QUIC.
const QUIC: u32 = 4;
/// This part of the places of connections that this node opens is for names: many of them may be one host.
const NAMED: u32 = 2;

/// Somebody has enough connections already.
#[derive(Debug, thiserror::Error)]
#[error("connection limit exceeded: at most {limit} connections {of} are allowed")]
pub struct Exceeded {
    limit: u32,
    of: Whose,
}

#[derive(Debug, thiserror::Error)]
enum Whose {
    #[error("from {0}")]
    Origin(Origin),
    #[error("with one peer")]
    Peer,
    #[error("over QUIC")]
    Quic,
    #[error("to names")]
    Named,
}

/// Counts of something that are not 0.
#[derive(Debug)]
struct Counts<K>(HashMap<K, u32>);

impl<K: Hash + Eq> Counts<K> {
    fn of(&self, key: &K) -> u32 {
        self.0.get(key).copied().unwrap_or_default()
    }

    fn more(&mut self, key: K) {
        *self.0.entry(key).or_default() += 1;
    }

    fn less(&mut self, key: &K) {
        if let Some(count) = self.0.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(key);
            }
        }
    }
}

/// A connection that counts.
#[derive(Debug, Clone, Copy)]
struct Connection {
    peer: PeerId,
    /// Who it is from, unless that is this machine, or nobody knows.
    origin: Option<Origin>,
    is_inbound_quic: bool,
    /// Whether this node dialed a name, of which it does not hear where it leads.
    is_named: bool,
}

#[derive(Debug)]
pub(crate) struct Behaviour {
    limits: Limits,
    connections: HashMap<ConnectionId, Connection>,
    of_origin: Counts<Origin>,
    of_peer: Counts<PeerId>,
    quic: u32,
    named: u32,
    /// Of those that are being set up: where from, and whether over QUIC.
    pending: HashMap<ConnectionId, (Origin, bool)>,
}

impl Behaviour {
    pub(crate) fn new(limits: Limits) -> Self {
        let (of_origin, of_peer) = (Counts(HashMap::new()), Counts(HashMap::new()));
        Self {
            limits,
            connections: HashMap::new(),
            of_origin,
            of_peer,
            quic: 0,
            named: 0,
            pending: HashMap::new(),
        }
    }

    /// An origin that opens connections and never finishes them must not take all places of those that are set up.
    fn knock(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), Exceeded> {
        let Some(origin) = counted(Origin::of_connection(local, remote)) else { return Ok(()) };
        let is_quic = is_quic(remote);
        // As many as there are pending connections, which are few.
        let count = |counts: &dyn Fn(&(Origin, bool)) -> bool| {
            u32::try_from(self.pending.values().filter(|pending| counts(pending)).count()).unwrap_or(u32::MAX)
        };
        // Who claims to be somebody over QUIC does not keep him from TCP.
        at_most(MAX_PENDING, count(&|pending| *pending == (origin, is_quic)), Whose::Origin(origin))?;
        if is_quic {
            let most = (self.limits.pending_incoming / PENDING_QUIC).max(1);
            at_most(most, count(&|(_, is_quic)| *is_quic), Whose::Quic)?;
            at_most(self.most_quic(), self.quic, Whose::Quic)?;
        }
        self.pending.insert(connection, (origin, is_quic));
        Ok(())
    }

    fn most_quic(&self) -> u32 {
        (self.limits.established_incoming / QUIC).max(1)
    }

    fn enter(&mut self, id: ConnectionId, connection: Connection) -> Result<(), Exceeded> {
        let Connection { peer, origin, is_inbound_quic, is_named } = connection;
        if is_inbound_quic {
            at_most(self.most_quic(), self.quic, Whose::Quic)?;
        }
        if is_named {
            at_most((self.limits.established_outgoing / NAMED).max(1), self.named, Whose::Named)?;
        }
        at_most(self.limits.established_per_peer, self.of_peer.of(&peer), Whose::Peer)?;
        if let Some(origin) = origin {
            let per_ip = self.limits.per_ip;
            let limit = if matches!(origin.0, Place::Ip(IpAddr::V6(_))) {
                per_ip.per_ipv6_48
            } else {
                per_ip.per_ipv4
            };
            at_most(limit, self.of_origin.of(&origin), Whose::Origin(origin))?;
            self.of_origin.more(origin);
        }
        self.of_peer.more(peer);
        self.quic += u32::from(is_inbound_quic);
        self.named += u32::from(is_named);
        self.connections.insert(id, connection);
        Ok(())
    }

    fn leave(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.remove(&id) else { return };
        self.of_peer.less(&connection.peer);
        self.quic -= u32::from(connection.is_inbound_quic);
        self.named -= u32::from(connection.is_named);
        if let Some(origin) = connection.origin {
            self.of_origin.less(&origin);
        }
    }
}

const fn at_most(limit: u32, count: u32, of: Whose) -> Result<(), Exceeded> {
    if count < limit { Ok(()) } else { Err(Exceeded { limit, of }) }
}

/// This machine is shared by all its users.
fn counted(origin: Option<Origin>) -> Option<Origin> {
    origin.filter(|origin| !origin.is_loopback())
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knock(connection, local, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
        let origin = counted(Origin::of_connection(local, remote));
        let is_inbound_quic = origin.is_some() && is_quic(remote);
        let counts = Connection { peer, origin, is_inbound_quic, is_named: false };
        self.enter(connection, counts).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        let origin = Origin::of_multiaddr(address);
        let is_named = !matches!(origin, Some(Origin(Place::Ip(_))));
        let counts = Connection { peer, origin: counted(origin), is_inbound_quic: false, is_named };
        self.enter(connection, counts).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => self.leave(connection_id),
            // A connection that a later behaviour denied never closes: it fails here.
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. })
            | FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.pending.remove(&connection_id);
                self.leave(connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Infallible, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn behaviour(per_ipv4: u32, per_ipv6_48: u32) -> Behaviour {
        Behaviour::new(Limits { per_ip: IpLimits { per_ipv4, per_ipv6_48 }, ..Limits::default() })
    }

    const LOCAL: &str = "/ip4/198.51.100.1/tcp/4711";

    /// Whether another connection, of a peer of its own, is let in.
    fn enters(behaviour: &mut Behaviour, id: usize, local: &str, remote: &str) -> bool {
        let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
        let (id, peer) = (ConnectionId::new_unchecked(id), PeerId::random());
        behaviour.handle_pending_inbound_connection(id, &local, &remote).is_ok()
            && behaviour.handle_established_inbound_connection(id, peer, &local, &remote).is_ok()
    }

    #[test]
    fn an_address_is_full_until_one_of_its_connections_closes() {
        let mut all = behaviour(2, 1);
        let from = "/ip4/192.0.2.1/tcp/1";
        assert!(enters(&mut all, 1, LOCAL, from) && enters(&mut all, 2, LOCAL, from));
        assert!(!enters(&mut all, 3, LOCAL, from));
        all.leave(ConnectionId::new_unchecked(3));
        assert!(!enters(&mut all, 4, LOCAL, from));
        all.leave(ConnectionId::new_unchecked(1));
        assert!(enters(&mut all, 5, LOCAL, from) && enters(&mut all, 6, LOCAL, "/ip4/192.0.2.2/tcp/1"));
        // Where this node connects to counts as well.
        let (id, peer, to) = (ConnectionId::new_unchecked(7), PeerId::random(), from.parse().unwrap());
        let mut dial =
            || all.handle_established_outbound_connection(id, peer, &to, Endpoint::Dialer, PortUse::New);
        assert!(dial().is_err());
        all.leave(ConnectionId::new_unchecked(5));
        let mut dial =
            || all.handle_established_outbound_connection(id, peer, &to, Endpoint::Dialer, PortUse::New);
        assert!(dial().is_ok());
    }

    #[test]
    fn ipv6_counts_by_48_and_loopback_not_at_all() {
        let mut all = behaviour(1, 1);
        assert!(enters(&mut all, 1, LOCAL, "/ip6/2001:db8:1:2::1/tcp/1"));
        assert!(!enters(&mut all, 2, LOCAL, "/ip6/2001:db8:1:9::1/tcp/1"));
        assert!(enters(&mut all, 3, LOCAL, "/ip6/2001:db8:2::1/tcp/1"));
        for number in 10..20 {
            assert!(enters(&mut all, number, LOCAL, "/ip4/127.0.0.1/tcp/1"));
        }
    }

    #[test]
    fn who_is_behind_a_relay_counts_as_the_relay_does() {
        let mut all = behaviour(2, 1);
        let relay = PeerId::random();
        let local = format!("/ip4/192.0.2.1/tcp/1/p2p/{relay}/p2p-circuit");
        let remote = || format!("/p2p/{}", PeerId::random());
        assert!(enters(&mut all, 1, &local, &remote()) && enters(&mut all, 2, LOCAL, "/ip4/192.0.2.1/tcp/9"));
        assert!(!enters(&mut all, 3, &local, &remote()));
        // By its name.
        let local = format!("/dns4/relay.example.org/tcp/1/p2p/{relay}/p2p-circuit");
        assert!(enters(&mut all, 4, &local, &remote()) && enters(&mut all, 5, &local, &remote()));
        assert!(!enters(&mut all, 6, &local, &remote()));
        let other = format!("/dns4/relay.example.org/tcp/1/p2p/{}/p2p-circuit", PeerId::random());
        assert!(enters(&mut all, 7, &other, &remote()));
    }

    #[test]
    fn a_peer_has_few_connections() {
        let mut all = behaviour(8, 8);
        let (peer, address) = (PeerId::random(), "/ip4/127.0.0.1/tcp/1".parse().unwrap());
        let mut enters = |id| {
            let id = ConnectionId::new_unchecked(id);
            all.handle_established_inbound_connection(id, peer, &address, &address).is_ok()
        };
        assert_eq!((0..10).filter(|id| enters(*id)).count(), 3);
        (0..10).for_each(|id| all.leave(ConnectionId::new_unchecked(id)));
        assert!(all.of_peer.0.is_empty(), "who is gone is forgotten");
    }

    #[test]
    fn quic_gets_a_part_of_the_places_and_leaves_the_others() {
        let mut all = behaviour(8, 8);
        let limits = Limits::default();
        let remote = |number: usize, rest: &str| format!("/ip4/192.0.2.{}{rest}", number / 4);
        let knock = |all: &mut Behaviour, number, rest| {
            let (local, remote) = (LOCAL.parse().unwrap(), remote(number, rest).parse().unwrap());
            all.knock(ConnectionId::new_unchecked(number), &local, &remote).is_ok()
        };
        let begun = (0..400).filter(|number| knock(&mut all, *number, "/udp/1/quic-v1")).count();
        assert_eq!(begun, (limits.pending_incoming / PENDING_QUIC) as usize);
        assert!(knock(&mut all, 1000, "/tcp/1"));
        let mut all = behaviour(8, 8);
        let held =
            (0..400).filter(|number| enters(&mut all, *number, LOCAL, &remote(*number, "/udp/1/quic-v1")));
        assert_eq!(held.count(), (limits.established_incoming / QUIC) as usize);
        assert!(enters(&mut all, 1000, LOCAL, &remote(40, "/tcp/1")));
        // Those that began before were also too many.
        let mut all = behaviour(8, 8);
        let local: Multiaddr = LOCAL.parse().unwrap();
        let begun: Vec<Multiaddr> =
            (0..60).map(|number| remote(number, "/udp/1/quic-v1").parse().unwrap()).collect();
        for (number, address) in begun.iter().enumerate() {
            all.knock(ConnectionId::new_unchecked(number), &local, address).unwrap();
        }
        let held = begun.iter().enumerate().filter(|(number, address)| {
            let (id, peer) = (ConnectionId::new_unchecked(*number), PeerId::random());
            all.handle_established_inbound_connection(id, peer, &local, address).is_ok()
        });
        assert_eq!(held.count(), (limits.established_incoming / QUIC) as usize);
    }

    #[test]
    fn who_claims_an_address_over_quic_does_not_keep_it_from_tcp() {
        let mut all = behaviour(8, 8);
        let (local, claimed) = (LOCAL.parse().unwrap(), "/ip4/192.0.2.1/udp/1/quic-v1".parse().unwrap());
        let knocks =
            (0..10).filter(|id| all.knock(ConnectionId::new_unchecked(*id), &local, &claimed).is_ok());
        assert_eq!(knocks.count(), MAX_PENDING as usize);
        assert!(enters(&mut all, 100, LOCAL, "/ip4/192.0.2.1/tcp/1"));
    }

    #[test]
    fn names_get_a_part_of_the_places() {
        let mut all = behaviour(8, 8);
        let mut dials = |number: usize| {
            let to = format!("/dns4/host{number}.example.org/tcp/1").parse().unwrap();
            let (id, peer) = (ConnectionId::new_unchecked(number), PeerId::random());
            all.handle_established_outbound_connection(id, peer, &to, Endpoint::Dialer, PortUse::New).is_ok()
        };
        let dialed = (0..200).filter(|number| dials(*number)).count();
        assert_eq!(dialed, (Limits::default().established_outgoing / NAMED) as usize);
    }
}
