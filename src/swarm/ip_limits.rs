//! Denies connections from an address that has enough of them already.
//!
//! Peer ids are free, addresses are not: without this one host fills all inbound places.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, Ipv6Addr},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler,
        THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
    },
};

/// An IPv4 address, or the /48 of an IPv6 address: what one customer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Origin(IpAddr);

impl Origin {
    /// The origin of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            v4 @ IpAddr::V4(_) => Self(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, ..] = v6.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0)))
            }
        }
    }

    /// The origin of a multiaddr, if it begins with an IP address.
    #[must_use]
    pub fn of_multiaddr(address: &Multiaddr) -> Option<Self> {
        match address.iter().next()? {
            Protocol::Ip4(ip) => Some(Self::of(ip.into())),
            Protocol::Ip6(ip) => Some(Self::of(ip.into())),
            _ => None,
        }
    }

    /// Whether this is the machine itself, which shares one address among all its users.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.0.is_loopback()
    }
}

/// Most established inbound connections per origin.
#[derive(Debug, Clone, Copy)]
pub struct IpLimits {
    /// Per IPv4 address.
    pub per_ipv4: u32,
    /// Per IPv6 /48.
    pub per_ipv6_48: u32,
}

/// Inbound connections of one origin that are being set up.
const MAX_PENDING: u32 = 4;

/// A peer's address has enough connections already.
#[derive(Debug, thiserror::Error)]
#[error("connection limit exceeded: at most {limit} connections from {origin:?} are allowed")]
pub struct Exceeded {
    limit: u32,
    origin: Origin,
}

#[derive(Debug)]
pub(crate) struct Behaviour {
    limits: IpLimits,
    by_connection: HashMap<ConnectionId, Origin>,
    counts: HashMap<Origin, u32>,
    pending: HashMap<ConnectionId, Origin>,
}

impl Behaviour {
    pub(crate) fn new(limits: IpLimits) -> Self {
        Self { limits, by_connection: HashMap::new(), counts: HashMap::new(), pending: HashMap::new() }
    }

    /// An origin that opens connections and never finishes them must not take all places of those that are set up.
    fn knock(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), Exceeded> {
        let Some(origin) = Origin::of_multiaddr(remote).filter(|origin| !origin.is_loopback()) else {
            return Ok(());
        };
        // As many as there are pending connections, which are few.
        if self.pending.values().filter(|pending| **pending == origin).count() >= MAX_PENDING as usize {
            return Err(Exceeded { limit: MAX_PENDING, origin });
        }
        self.pending.insert(connection, origin);
        Ok(())
    }

    fn enter(&mut self, connection: ConnectionId, remote: &Multiaddr) -> Result<(), Exceeded> {
        let Some(origin) = Origin::of_multiaddr(remote).filter(|origin| !origin.is_loopback()) else {
            return Ok(());
        };
        let limit = if origin.0.is_ipv4() { self.limits.per_ipv4 } else { self.limits.per_ipv6_48 };
        let count = self.counts.entry(origin).or_default();
        if *count >= limit {
            return Err(Exceeded { limit, origin });
        }
        *count += 1;
        self.by_connection.insert(connection, origin);
        Ok(())
    }

    fn leave(&mut self, connection: ConnectionId) {
        let Some(origin) = self.by_connection.remove(&connection) else { return };
        if let Some(count) = self.counts.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&origin);
            }
        }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knock(connection, remote).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.pending.remove(&connection);
        self.enter(connection, remote).map_err(ConnectionDenied::new)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => self.leave(connection_id),
            // A connection that a later behaviour denied never closes: it fails here.
            FromSwarm::ListenFailure(failure) => {
                self.pending.remove(&failure.connection_id);
                self.leave(failure.connection_id);
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

    #[test]
    fn an_address_is_full_until_one_of_its_connections_closes() {
        let mut behaviour = Behaviour::new(IpLimits { per_ipv4: 2, per_ipv6_48: 1 });
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let id = ConnectionId::new_unchecked;
        assert!(behaviour.enter(id(1), &address).is_ok());
        assert!(behaviour.enter(id(2), &address).is_ok());
        assert!(behaviour.enter(id(3), &address).is_err());
        behaviour.leave(id(3));
        assert!(behaviour.enter(id(4), &address).is_err());
        behaviour.leave(id(1));
        assert!(behaviour.enter(id(5), &address).is_ok());
        assert!(behaviour.enter(id(6), &"/ip4/192.0.2.2/tcp/1".parse().unwrap()).is_ok());
    }

    #[test]
    fn ipv6_counts_by_48_and_loopback_not_at_all() {
        let mut behaviour = Behaviour::new(IpLimits { per_ipv4: 1, per_ipv6_48: 1 });
        let id = ConnectionId::new_unchecked;
        assert!(behaviour.enter(id(1), &"/ip6/2001:db8:1:2::1/tcp/1".parse().unwrap()).is_ok());
        assert!(behaviour.enter(id(2), &"/ip6/2001:db8:1:9::1/tcp/1".parse().unwrap()).is_err());
        assert!(behaviour.enter(id(3), &"/ip6/2001:db8:2::1/tcp/1".parse().unwrap()).is_ok());
        for n in 10..20 {
            assert!(behaviour.enter(id(n), &"/ip4/127.0.0.1/tcp/1".parse().unwrap()).is_ok());
        }
    }
}
