//! A bound for each peer on what is shared by all: places, or bytes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;

/// Places of which each peer may take a few at a time. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Shares {
    taken: Arc<Mutex<HashMap<PeerId, usize>>>,
    most: usize,
}

impl Shares {
    /// At most `most` places for each peer.
    pub(super) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// A place for `peer`, until it is dropped; none if the peer has its share already.
    pub(super) fn take(&self, peer: PeerId) -> Option<Share> {
        self.take_many(peer, 1)
    }

    /// Several places at once, or none.
    pub(super) fn take_many(&self, peer: PeerId, places: usize) -> Option<Share> {
        let mut taken = self.lock();
        let before = taken.get(&peer).copied().unwrap_or_default();
        if places > self.most - before {
            return None;
        }
        taken.insert(peer, before + places);
        drop(taken);
        Some(Share { shares: self.clone(), peer, places })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that a peer has taken.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    peer: PeerId,
    places: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= self.places;
            if *count == 0 {
                // Only who has a place is remembered.
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_has_its_share_gets_no_more_until_it_gives_back() {
        let (shares, greedy, modest) = (Shares::new(2), PeerId::random(), PeerId::random());
        let held = [shares.take(greedy), shares.take(greedy)];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take(greedy).is_none());
        assert!(shares.take(modest).is_some());
        drop(held);
        assert!(shares.lock().is_empty());
        assert!(shares.take(greedy).is_some());
    }

    #[test]
    fn several_places_are_taken_together_or_not_at_all() {
        let (shares, peer) = (Shares::new(10), PeerId::random());
        let most = shares.take_many(peer, 7);
        assert!(most.is_some() && shares.take_many(peer, 4).is_none());
        assert!(shares.take_many(peer, usize::MAX).is_none());
        assert!(shares.take_many(peer, 3).is_some());
        drop(most);
        assert!(shares.take_many(peer, 10).is_some());
    }
}
