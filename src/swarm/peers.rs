//! The peers that the swarm is connected with, and what they say of themselves.

use std::collections::HashSet;

use libp2p::{Multiaddr, PeerId, StreamProtocol, core::ConnectedPoint, identify, swarm::ConnectionId};
use p2pdb_protocol::message::hello::Hello;

use crate::{
    clock::monotonic,
    swarm::{Event, PeerStatus, SwarmStatus, event_loop::EventLoop, ip_limits::Origin},
    wire,
};

/// What a peer speaks that relays for others.
const RELAY_PROTOCOL: StreamProtocol = libp2p::relay::HOP_PROTOCOL_NAME;

/// A connected peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: Multiaddr,
    pub(super) origin: Option<Origin>,
    /// Whether it is reached through a relay alone.
    is_relayed: bool,
    inbound: bool,
    connections: HashSet<ConnectionId>,
    agent: String,
    identified: bool,
    pub(super) serves: bool,
    pub(super) relays: bool,
    /// Messages of gossip lately.
    pub(super) told: usize,
}

impl EventLoop {
    pub(super) fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let known = self.peers.entry(peer).or_insert_with(|| Peer {
            address: endpoint.get_remote_address().clone(),
            origin: Origin::of_endpoint(endpoint),
            is_relayed: endpoint.is_relayed(),
            inbound: endpoint.is_listener(),
            connections: HashSet::new(),
            agent: String::new(),
            identified: false,
            serves: false,
            relays: false,
            told: 0,
        });
        known.connections.insert(connection);
        if known.is_relayed && !endpoint.is_relayed() {
            known.address = endpoint.get_remote_address().clone();
            known.origin = Origin::of_endpoint(endpoint);
            known.is_relayed = false;
        }
        let is_first = known.connections.len() == 1;
        if is_first || !endpoint.is_relayed() {
            self.idle.connected(peer);
        }
        if !is_first {
            self.emit(Event::Reconnected { peer });
        }
        if let Some(dialer) = self.dialing.remove(&connection) {
            let _ = dialer.send(Ok(peer));
        }
    }

    /// Forgets a connection; `was_last` if none is left with the peer.
    pub(super) fn on_disconnected(&mut self, peer: PeerId, connection: ConnectionId, was_last: bool) {
        if let Some(known) = self.peers.get_mut(&peer) {
            known.connections.remove(&connection);
        }
        if was_last {
            self.peers.remove(&peer);
            self.idle.lost(&peer);
            self.listens_only(&peer, false);
            self.emit(Event::Lost { peer });
        }
    }

    pub(super) fn on_identified(&mut self, peer: PeerId, info: identify::Info) {
        let serves = info.protocols.contains(&wire::protocol_name::<Hello>(&self.network));
        let in_dht = info.protocols.contains(&wire::kad_protocol_name(&self.network));
        let Some(known) = self.peers.get_mut(&peer) else { return };
        known.agent = info.agent_version.chars().filter(|c| !c.is_control()).take(64).collect();
        let first = !std::mem::replace(&mut known.identified, true);
        known.serves |= serves;
        known.relays = info.protocols.contains(&RELAY_PROTOCOL);
        let seen_at = known.address.clone();
        if in_dht {
            self.route(peer, info.listen_addrs, &seen_at);
        }
        if first {
            let same_network = info.protocol_version == wire::identify_protocol_version(&self.network);
            if same_network {
                self.listens_only(&peer, !serves);
                self.emit(Event::Met { peer, serves });
            } else {
                tracing::debug!(%peer, got = info.protocol_version, "a peer of another network");
            }
        }
    }

    pub(super) fn origin(&self, peer: &PeerId) -> Option<Origin> {
        self.peers.get(peer)?.origin
    }

    pub(super) fn address_of(&self, peer: &PeerId) -> Option<Multiaddr> {
        Some(self.peers.get(peer)?.address.clone())
    }

    pub(super) fn introduced(&mut self, peer: PeerId) {
        // Its answer shows that it serves, even if identify has not said so yet.
        if let Some(known) = self.peers.get_mut(&peer) {
            known.serves = true;
            self.listens_only(&peer, false);
            self.emit(Event::Introduced { peer });
        }
    }

    pub(super) fn serving_peers(&self) -> Vec<PeerId> {
        self.peers.iter().filter(|(_, peer)| peer.serves).map(|(id, _)| *id).collect()
    }

    pub(super) fn status(&mut self) -> SwarmStatus {
        let now = monotonic();
        let peers = self.peers.iter().map(|(id, peer)| PeerStatus {
            peer: id.to_string(),
            address: peer.address.to_string(),
            inbound: peer.inbound,
            agent: peer.agent.clone(),
            serves: peer.serves,
            score: self.scores.score(id, now),
        });
        let mut status = SwarmStatus {
            listening: self.swarm.listeners().map(ToString::to_string).collect(),
            external: self.swarm.external_addresses().map(ToString::to_string).collect(),
            peers: peers.collect(),
            topics: self.topics.len(),
            streams: self.server.streams(),
            dht_peers: 0,
            banned: 0,
        };
        let behaviour = self.swarm.behaviour_mut();
        status.dht_peers = behaviour.kad.kbuckets().map(|bucket| bucket.num_entries()).sum();
        status.banned = behaviour.blocked.blocked_peers().len();
        status
    }
}
