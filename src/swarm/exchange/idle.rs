//! Streams that nothing is asked on just now. The next request takes one instead of opening its own, which costs both sides
//! more than a small request does.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{PeerId, Stream};

use crate::clock::monotonic;

/// A stream is closed when nothing was asked on it for so long; before that the peer should not do so (SPEC 8.1).
const PATIENCE: Duration = Duration::from_secs(60);
/// Streams of one operation to one peer, and in all. More are not kept.
const MAX_OF_PEER: usize = super::super::INBOX_PER_PEER;
const MAX_IN_ALL: usize = 1024;

/// A stream that may be asked on, and of which of the peer's connections it is.
#[derive(Debug)]
pub(crate) struct Kept<S = Stream> {
    pub(crate) stream: S,
    generation: u64,
}

#[derive(Debug)]
struct Peer<S> {
    /// Grows with each connection to the peer: the latest is the best, and streams of others are not kept.
    generation: u64,
    idle: HashMap<&'static str, Vec<(Instant, S)>>,
}

/// Idle streams by peer and operation. Clones share them.
#[derive(Debug)]
pub(crate) struct Idle<S = Stream>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    peers: HashMap<PeerId, Peer<S>>,
    count: usize,
}

impl<S> Default for Idle<S> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { peers: HashMap::new(), count: 0 })))
    }
}

impl<S> Clone for Idle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> Idle<S> {
    /// The stream that was used last.
    pub(crate) fn take(&self, peer: PeerId, operation: &'static str) -> Option<Kept<S>> {
        let mut inner = self.lock();
        let of_peer = inner.peers.get_mut(&peer)?;
        let (_, stream) = of_peer.idle.get_mut(operation)?.pop()?;
        let generation = of_peer.generation;
        inner.count -= 1;
        Some(Kept { stream, generation })
    }

    /// A stream that was opened just now, to be kept later.
    pub(crate) fn adopt(&self, peer: PeerId, stream: S) -> Kept<S> {
        let generation = self.lock().peers.get(&peer).map_or(0, |of_peer| of_peer.generation);
        Kept { stream, generation }
    }

    /// Keeps a stream on which everything that was asked is answered.
    pub(crate) fn keep(&self, peer: PeerId, operation: &'static str, kept: Kept<S>) {
        let mut inner = self.lock();
        let has_room = inner.count < MAX_IN_ALL;
        // Who is not here is not connected any more.
        let Some(of_peer) = inner.peers.get_mut(&peer) else { return };
        let streams = of_peer.idle.entry(operation).or_default();
        if has_room && streams.len() < MAX_OF_PEER && kept.generation == of_peer.generation {
            streams.push((monotonic(), kept.stream));
            inner.count += 1;
        }
    }

    /// A connection to a peer is there: streams of earlier ones are given up.
    pub(crate) fn connected(&self, peer: PeerId) {
        let mut inner = self.lock();
        let new = || Peer { generation: 0, idle: HashMap::new() };
        let of_peer = inner.peers.entry(peer).or_insert_with(new);
        of_peer.generation += 1;
        let given_up: usize = of_peer.idle.drain().map(|(_, streams)| streams.len()).sum();
        inner.count -= given_up;
    }

    /// The last connection to a peer is gone.
    pub(crate) fn lost(&self, peer: &PeerId) {
        let mut inner = self.lock();
        if let Some(of_peer) = inner.peers.remove(peer) {
            inner.count -= of_peer.idle.values().map(Vec::len).sum::<usize>();
        }
    }

    /// Closes what was not used for long.
    pub(crate) fn tidy(&self, now: Instant) {
        let mut inner = self.lock();
        let mut left = 0;
        for of_peer in inner.peers.values_mut() {
            of_peer.idle.retain(|_, streams| {
                streams.retain(|(since, _)| now.saturating_duration_since(*since) < PATIENCE);
                left += streams.len();
                !streams.is_empty()
            });
        }
        inner.count = left;
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn keep(idle: &Idle<u32>, peer: PeerId, operation: &'static str, stream: u32) {
        idle.keep(peer, operation, idle.adopt(peer, stream));
    }

    #[test]
    fn the_stream_that_was_used_last_is_taken_first_and_each_once() {
        let (idle, peer) = (Idle::default(), PeerId::random());
        idle.connected(peer);
        keep(&idle, peer, "get", 1);
        keep(&idle, peer, "get", 2);
        keep(&idle, peer, "put", 3);
        assert_eq!(idle.take(peer, "get").unwrap().stream, 2);
        assert_eq!(idle.take(peer, "get").unwrap().stream, 1);
        assert!(idle.take(peer, "get").is_none() && idle.take(PeerId::random(), "put").is_none());
        assert_eq!(idle.lock().count, 1);
    }

    #[test]
    fn streams_of_an_earlier_connection_are_not_kept() {
        let (idle, peer) = (Idle::default(), PeerId::random());
        idle.connected(peer);
        keep(&idle, peer, "get", 1);
        let in_use = idle.adopt(peer, 2);
        idle.connected(peer);
        assert!(idle.take(peer, "get").is_none());
        idle.keep(peer, "get", in_use);
        assert!(idle.take(peer, "get").is_none());
        keep(&idle, peer, "get", 3);
        idle.lost(&peer);
        keep(&idle, peer, "get", 4);
        assert!(idle.take(peer, "get").is_none());
        assert_eq!(idle.lock().count, 0);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for_and_none_for_long() {
        let idle = Idle::default();
        for _ in 0..=MAX_IN_ALL / MAX_OF_PEER {
            let peer = PeerId::random();
            idle.connected(peer);
            (0..=MAX_OF_PEER).for_each(|stream| keep(&idle, peer, "get", u32::try_from(stream).unwrap()));
        }
        assert_eq!(idle.lock().count, MAX_IN_ALL);
        let last = monotonic();
        idle.tidy(last);
        assert_eq!(idle.lock().count, MAX_IN_ALL);
        idle.tidy(last + PATIENCE);
        assert_eq!(idle.lock().count, 0);
        assert!(idle.lock().peers.values().all(|of_peer| of_peer.idle.is_empty()));
    }
}
