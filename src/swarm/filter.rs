//! Behaviours of libp2p that remember, or do, whatever a peer wants, behind filters of what reaches them and of what they may do.

mod candidates;
mod dial_backs;
mod pushes;
mod talk;

use std::{
    ops::{Deref, DerefMut},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

pub(crate) use self::{candidates::Candidates, dial_backs::DialBacks, pushes::Pushes, talk::Talk};

/// What reaches a behaviour, and what it may do.
pub(crate) trait Filter<B: NetworkBehaviour>: 'static {
    /// Whether it hears of this.
    fn hears(&mut self, _: &FromSwarm<'_>) -> bool {
        true
    }

    /// Whether it hears what comes of a peer on a connection.
    fn takes(&mut self, _: PeerId, _: ConnectionId, _: &THandlerOutEvent<B>) -> bool {
        true
    }

    /// It wants to dial.
    fn dials(&mut self, _: ConnectionId, _: Option<PeerId>) {}

    /// Whether somebody may dial these addresses; `connection` says who wanted it.
    fn may_dial(&mut self, _connection: ConnectionId, _: &[Multiaddr]) -> Result<(), ConnectionDenied> {
        Ok(())
    }
}

/// A behaviour behind a filter.
#[derive(Debug)]
pub(crate) struct Filtered<B, F> {
    behaviour: B,
    filter: F,
}

impl<B, F> Filtered<B, F> {
    pub(crate) const fn new(behaviour: B, filter: F) -> Self {
        Self { behaviour, filter }
    }
}

impl<B, F> Deref for Filtered<B, F> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.behaviour
    }
}

impl<B, F> DerefMut for Filtered<B, F> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.behaviour
    }
}

impl<B: NetworkBehaviour, F: Filter<B>> NetworkBehaviour for Filtered<B, F> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.behaviour.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.behaviour.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.filter.may_dial(connection, addresses)?;
        self.behaviour.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.behaviour.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if self.filter.hears(&event) {
            self.behaviour.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        if self.filter.takes(peer, connection, &event) {
            self.behaviour.on_connection_handler_event(peer, connection, event);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let next = self.behaviour.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &next {
            self.filter.dials(opts.connection_id(), opts.get_peer_id());
        }
        next
    }
}
