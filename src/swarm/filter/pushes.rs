//! What peers say of themselves, again and again.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use libp2p::{
    PeerId,
    swarm::{ConnectionClosed, ConnectionId, FromSwarm, NetworkBehaviour, THandlerOutEvent},
};

use super::Filter;
use crate::clock::monotonic;

/// What is taken of a connection in [`PERIOD`], what this node said of itself included: each says who it is when it connects, when its
/// addresses or protocols change, and every five minutes.
const MAX: u32 = 8;
const PERIOD: Duration = Duration::from_secs(240);

/// A few of them in a while of each connection; of further ones nobody hears.
#[derive(Debug, Default)]
pub(crate) struct Pushes(HashMap<ConnectionId, (Instant, u32)>);

impl Pushes {
    fn takes_at(&mut self, connection: ConnectionId, now: Instant) -> bool {
        let (since, count) = self.0.entry(connection).or_insert((now, 0));
        if now.saturating_duration_since(*since) >= PERIOD {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= MAX
    }
}

impl<B: NetworkBehaviour> Filter<B> for Pushes {
    fn hears(&mut self, event: &FromSwarm<'_>) -> bool {
        if let FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) = event {
            self.0.remove(connection_id);
        }
        true
    }

    fn takes(&mut self, _: PeerId, connection: ConnectionId, _: &THandlerOutEvent<B>) -> bool {
        self.takes_at(connection, monotonic())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_says_a_few_things_in_a_while() {
        let (mut pushes, now) = (Pushes::default(), monotonic());
        let (one, other) = (ConnectionId::new_unchecked(1), ConnectionId::new_unchecked(2));
        let mut taken = |connection, at| (0..100).filter(|_| pushes.takes_at(connection, at)).count();
        assert_eq!(taken(one, now), MAX as usize);
        assert_eq!(taken(other, now), MAX as usize);
        assert_eq!(taken(one, now + PERIOD / 2), 0);
        assert_eq!(taken(one, now + PERIOD), MAX as usize);
    }
}
