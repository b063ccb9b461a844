//! How much a peer, and an address, may ask of this node in a minute.
//!
//! Peer ids are free, so that each quota is kept twice: by peer id, and with a multiple of it by address.

use std::{
    hash::Hash,
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
};

use governor::{Quota, RateLimiter, clock::DefaultClock, state::keyed::HashMapStateStore};
use libp2p::PeerId;

use crate::swarm::ip_limits::Origin;

/// Forgotten keys are dropped after so many checks.
const CLEAN_EVERY: u32 = 4096;

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// What one peer may ask for in a minute; 0: no limit.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Introductions.
    pub hellos: u32,
    /// Indexes of whole tables.
    pub indexes: u32,
    /// Pages of ids of a bucket, or of tables.
    pub index_pages: u32,
    /// Gets.
    pub gets: u32,
    /// Bytes of entries that gets were answered with.
    pub get_bytes: u32,
    /// Entries put.
    pub puts: u32,
    /// Ids announced.
    pub announced: u32,
    /// How many times that one address may ask for: several people live behind one.
    pub per_address: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            hellos: 12,
            indexes: 60,
            index_pages: 12_000,
            gets: 600,
            get_bytes: 256 << 20,
            puts: 600,
            announced: 600,
            per_address: 4,
        }
    }
}

/// A quota of one kind; none if it is unlimited.
#[derive(Debug)]
pub struct Limiter(Option<Limited>);

#[derive(Debug)]
struct Limited {
    by_peer: Keyed<PeerId>,
    by_origin: Keyed<Origin>,
    burst: NonZeroU32,
    checks: AtomicU32,
}

/// The quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

impl Limiter {
    /// So many items a minute for a peer, and at most as many at once; `per_address` times that for an address. No
    /// limit if `items` is 0.
    #[must_use]
    pub fn per_minute(items: u32, per_address: u32) -> Self {
        let Some(burst) = NonZeroU32::new(items) else { return Self(None) };
        let origin = burst.saturating_mul(NonZeroU32::new(per_address).unwrap_or(NonZeroU32::MIN));
        Self(Some(Limited {
            by_peer: RateLimiter::hashmap(Quota::per_minute(burst)),
            by_origin: RateLimiter::hashmap(Quota::per_minute(origin)),
            burst,
            checks: AtomicU32::new(0),
        }))
    }

    /// Charges a peer for so many items. More than the whole quota at once counts as the whole quota.
    ///
    /// # Errors
    /// If its quota, or that of its address, does not hold so many.
    pub fn charge(&self, peer: PeerId, origin: Option<Origin>, items: usize) -> Result<(), Exceeded> {
        let Some(limited) = &self.0 else { return Ok(()) };
        if limited.checks.fetch_add(1, Ordering::Relaxed) % CLEAN_EVERY == CLEAN_EVERY - 1 {
            limited.by_peer.retain_recent();
            limited.by_origin.retain_recent();
        }
        let items = u32::try_from(items).unwrap_or(u32::MAX).min(limited.burst.get());
        let Some(items) = NonZeroU32::new(items) else { return Ok(()) };
        charge(&limited.by_peer, &peer, items)?;
        match origin.filter(|origin| !origin.is_loopback()) {
            Some(origin) => charge(&limited.by_origin, &origin, items),
            None => Ok(()),
        }
    }
}

fn charge<K: Hash + Eq + Clone>(limiter: &Keyed<K>, key: &K, items: NonZeroU32) -> Result<(), Exceeded> {
    match limiter.check_key_n(key, items) {
        Ok(Ok(())) => Ok(()),
        _ => Err(Exceeded),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_peer_and_an_address_run_out() {
        let limiter = Limiter::per_minute(10, 4);
        let peer = PeerId::random();
        assert_eq!(limiter.charge(peer, None, 10), Ok(()));
        assert_eq!(limiter.charge(peer, None, 1), Err(Exceeded));
        assert_eq!(limiter.charge(PeerId::random(), None, 1_000_000), Ok(()));
        assert_eq!(Limiter::per_minute(0, 4).charge(peer, None, 1_000_000), Ok(()));
        let origin = Origin::of("192.0.2.1".parse().unwrap());
        for _ in 0..4 {
            assert_eq!(limiter.charge(PeerId::random(), Some(origin), 10), Ok(()));
        }
        assert_eq!(limiter.charge(PeerId::random(), Some(origin), 10), Err(Exceeded));
    }
}
