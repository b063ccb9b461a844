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
/// Streams to one peer: of more, those that lay idle the longest are closed.
pub(super) const MAX_OF_PEER: usize = 64;
/// Streams in all: more are not kept.
const MAX_IN_ALL: usize = 1024;

/// A stream that may be asked on, and of which of the peer's connections it is.
#[derive(Debug)]
pub(crate) struct Kept<S = Stream> {
    pub(crate) stream: S,
    generation: u64,
}

#[derive(Debug)]
struct Peer<S> {
    /// Another one with each connection to the peer: the latest is the best, and streams of others are not kept.
    generation: u64,
    /// Of each operation, the one that was used last at the end.
    idle: HashMap<&'static str, Vec<(Instant, S)>>,
}

impl<S> Peer<S> {
    fn len(&self) -> usize {
        self.idle.values().map(Vec::len).sum()
    }

    /// Gives up the stream that was not used for the longest time.
    fn close_oldest(&mut self) {
        let since = |streams: &Vec<(Instant, S)>| streams.first().map(|(since, _)| *since);
        let with_oldest =
            self.idle.values_mut().filter(|streams| !streams.is_empty()).min_by_key(|streams| since(streams));
        if let Some(streams) = with_oldest {
            streams.remove(0);
        }
    }
}

/// Idle streams by peer and operation. Clones share them.
#[derive(Debug)]
pub(crate) struct Idle<S = Stream>(Arc<Mutex<Inner<S>>>);

#[derive(Debug)]
struct Inner<S> {
    peers: HashMap<PeerId, Peer<S>>,
    count: usize,
    generations: u64,
}

impl<S> Default for Idle<S> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner { peers: HashMap::new(), count: 0, generations: 0 })))
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
        let inner = &mut *inner;
        // Who is not here is not connected any more.
        let Some(of_peer) = inner.peers.get_mut(&peer) else { return };
        if kept.generation != of_peer.generation {
            return;
        }
        if of_peer.len() >= MAX_OF_PEER {
            of_peer.close_oldest();
            inner.count -= 1;
        }
        if inner.count < MAX_IN_ALL {
            of_peer.idle.entry(operation).or_default().push((monotonic(), kept.stream));
            inner.count += 1;
        }
    }

    /// A connection to a peer is there: streams of earlier ones are given up.
    pub(crate) fn connected(&self, peer: PeerId) {
        let mut inner = self.lock();
        inner.generations += 1;
        let latest = Peer { generation: inner.generations, idle: HashMap::new() };
        if let Some(earlier) = inner.peers.insert(peer, latest) {
            inner.count -= earlier.len();
        }
    }

    /// The last connection to a peer is gone.
    pub(crate) fn lost(&self, peer: &PeerId) {
        let mut inner = self.lock();
        if let Some(of_peer) = inner.peers.remove(peer) {
            inner.count -= of_peer.len();
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
        let in_use = idle.adopt(peer, 4);
        idle.lost(&peer);
        keep(&idle, peer, "get", 5);
        idle.connected(peer);
        idle.keep(peer, "get", in_use);
        assert!(idle.take(peer, "get").is_none());
        assert_eq!(idle.lock().count, 0);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for_and_none_for_long() {
        let idle = Idle::default();
        for _ in 0..=MAX_IN_ALL / MAX_OF_PEER {
            let peer = PeerId::random();
            idle.connected(peer);
            keep(&idle, peer, "put", 0);
            (1..=MAX_OF_PEER).for_each(|stream| keep(&idle, peer, "get", u32::try_from(stream).unwrap()));
            assert!(idle.lock().peers.values().all(|of_peer| of_peer.len() <= MAX_OF_PEER));
            assert!(idle.take(peer, "put").is_none(), "the oldest is closed");
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
