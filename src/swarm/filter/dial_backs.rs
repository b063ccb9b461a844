//! Dials that peers ask for, to see whether they can be reached.

use std::collections::HashMap;

use either::Either;
use libp2p::{
    Multiaddr, PeerId,
    autonat::v2::server,
    multiaddr::Protocol,
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, THandlerOutEvent,
        behaviour::ConnectionEstablished,
    },
};

use super::Filter;
use crate::swarm::{address, ip_limits::Origin};

/// Dials of this kind at a time: this node has to dial for itself as well.
const MAX: usize = 4;

/// A dial that a peer asked for and does not get.
#[derive(Debug, thiserror::Error)]
#[error("a peer asked for a dial of {0:?}, where it cannot be")]
struct Refused(Vec<Multiaddr>);

/// One dial at a time for each origin, and few in all: others ask again. It goes to where the peer may be, which is an address of IP on
/// the internet, or in the network in which it is seen; that it is the peer's own shows only when it answers, which is why who asks for
/// another address than it is seen at has to send more than is sent there.
#[derive(Debug, Default)]
pub(crate) struct DialBacks {
    peers: HashMap<PeerId, Multiaddr>,
    asked: HashMap<ConnectionId, PeerId>,
}

impl DialBacks {
    fn has_room(&self, peer: &PeerId) -> bool {
        let origin = |peer| self.peers.get(peer).and_then(Origin::of_multiaddr);
        self.asked.len() < MAX && !self.asked.values().any(|asked| origin(asked) == origin(peer))
    }

    fn leads(&self, peer: &PeerId, addresses: &[Multiaddr]) -> bool {
        let Some(seen_at) = self.peers.get(peer) else { return false };
        addresses.iter().all(|told| is_plain(told) && address::is_reachable_from(told, seen_at))
    }
}

/// Whether the address is one of IP, reached by TCP or QUIC, and nothing else.
fn is_plain(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let is_ip = matches!(parts.next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    let is_port = matches!(parts.next(), Some(Protocol::Tcp(_) | Protocol::Udp(_)));
    is_ip && is_port && parts.all(|part| matches!(part, Protocol::QuicV1 | Protocol::P2p(_)))
}

impl Filter<server::Behaviour> for DialBacks {
    fn hears(&mut self, event: &FromSwarm<'_>) -> bool {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                self.asked.remove(connection_id);
                if !endpoint.is_relayed() || !self.peers.contains_key(peer_id) {
                    self.peers.insert(*peer_id, endpoint.get_remote_address().clone());
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, remaining_established: 0, .. }) => {
                self.peers.remove(peer_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.asked.remove(connection_id);
            }
            _ => {}
        }
        true
    }

    fn takes(&mut self, peer: PeerId, _: ConnectionId, event: &THandlerOutEvent<server::Behaviour>) -> bool {
        // What asks for a dial, and not what came of one. Dropped, it is an error of this node's, and the peer asks another one; refused, the
        // peer would take its address for one that nobody can reach.
        !matches!(event, Either::Right(Either::Left(_))) || self.has_room(&peer)
    }

    fn dials(&mut self, connection: ConnectionId, peer: Option<PeerId>) {
        if let Some(peer) = peer {
            self.asked.insert(connection, peer);
        }
    }

    fn may_dial(
        &mut self,
        connection: ConnectionId,
        addresses: &[Multiaddr],
    ) -> Result<(), ConnectionDenied> {
        match self.asked.get(&connection) {
            Some(peer) if !self.leads(peer, addresses) => {
                Err(ConnectionDenied::new(Refused(addresses.to_vec())))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Whether a dial of the address is begun for the peer.
    fn dials(all: &mut DialBacks, number: usize, peer: PeerId, address: &str) -> bool {
        let connection = ConnectionId::new_unchecked(number);
        let has_room = all.has_room(&peer);
        Filter::dials(all, connection, Some(peer));
        let begun = has_room && all.may_dial(connection, &[address.parse().unwrap()]).is_ok();
        if !begun {
            all.asked.remove(&connection);
        }
        begun
    }

    #[test]
    fn nothing_private_is_dialed_for_a_peer_and_no_names() {
        let (mut all, peer) = (DialBacks::default(), PeerId::random());
        assert!(!dials(&mut all, 0, peer, "/ip4/198.51.100.7/tcp/1"), "it is not connected");
        all.peers.insert(peer, "/ip4/198.51.100.7/tcp/1234".parse().unwrap());
        for refused in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/10.0.0.1/udp/1/quic-v1",
            "/ip4/198.51.100.7/tcp/1/ws",
            "/ip4/198.51.100.7/tcp/1/tls/ws",
            "/dns4/example.org/tcp/1",
        ] {
            assert!(!dials(&mut all, 1, peer, refused), "{refused}");
        }
        assert!(dials(&mut all, 2, peer, "/ip4/198.51.100.7/tcp/1"));
        assert!(!dials(&mut all, 3, peer, "/ip4/198.51.100.7/tcp/1"), "one at a time");
        // What this node dials for itself is not concerned.
        let own = ConnectionId::new_unchecked(4);
        assert!(all.may_dial(own, &["/ip4/127.0.0.1/tcp/1/ws".parse().unwrap()]).is_ok());
    }

    #[test]
    fn all_together_have_few_dials_at_a_time() {
        let mut all = DialBacks::default();
        let begun = (0..10).filter(|number| {
            let (peer, address) = (PeerId::random(), format!("/ip4/198.51.100.{number}/tcp/1"));
            all.peers.insert(peer, address.parse().unwrap());
            dials(&mut all, *number, peer, &address)
        });
        assert_eq!(begun.count(), MAX);
    }
}
