//! All that connections say, which is counted.

use libp2p::{
    PeerId,
    swarm::{ConnectionId, NetworkBehaviour, THandlerOutEvent},
};

use crate::{swarm::filter::Filter, transport::pause::Pause};

/// Counts what connections say, so that they pause before it is too much.
#[derive(Debug)]
pub(crate) struct Talk(pub(crate) Pause);

impl<B: NetworkBehaviour> Filter<B> for Talk {
    fn takes(&mut self, _: PeerId, _: ConnectionId, _: &THandlerOutEvent<B>) -> bool {
        self.0.count();
        true
    }
}
