//! How much a peer, and an address, may ask of this node in a minute.
//!
//! Peer ids are free, so that each quota is kept twice: by peer id, and with a multiple of it by address.

use std::{
    hash::Hash,
    num::{NonZeroU32, NonZeroUsize},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::PeerId;
use lru::LruCache;

use crate::{clock::monotonic, swarm::ip_limits::Origin};

/// Peers, and addresses, that a limiter remembers: those that asked last.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// The time in which a used-up quota comes back.
const PERIOD: Duration = Duration::from_secs(60);

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
    /// Comparisons of roots.
    pub syncs: u32,
    /// Bytes of syndromes.
    pub sync_bytes: u32,
    /// What they take, as [`Store::groups_work`](crate::store::Store::groups_work) counts it.
    pub sync_work: u32,
    /// Ids announced.
    pub announced: u32,
    /// How many times that one address may ask for: several people live behind one.
    pub per_address: u32,
}

impl Default for Rates {
    /// For who starts a node from Rust. A node of the command line has those of its configuration, [`config::Rates`]: less of
    /// what strangers get and put, and more indexes.
    ///
    /// [`config::Rates`]: crate::config::Rates
    fn default() -> Self {
        Self {
            hellos: 12,
            indexes: 60,
            index_pages: 12_000,
            gets: 600,
            get_bytes: 256 << 20,
            puts: 600,
            syncs: 120,
            sync_bytes: 8 << 20,
            sync_work: 32 << 20,
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
    by_peer: Mutex<Quotas<PeerId>>,
    by_origin: Mutex<Quotas<Origin>>,
}

/// The quota is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exceeded;

impl Limiter {
    /// So many items a minute for a peer, and at most as many at once; `per_address` times that for an address. No
    /// limit if `items` is 0.
    #[must_use]
    pub fn per_minute(items: u32, per_address: u32) -> Self {
        let Some(items) = NonZeroU32::new(items) else { return Self(None) };
        let origin = items.saturating_mul(NonZeroU32::new(per_address).unwrap_or(NonZeroU32::MIN));
        Self(Some(Limited {
            by_peer: Mutex::new(Quotas::new(items)),
            by_origin: Mutex::new(Quotas::new(origin)),
        }))
    }

    /// Charges a peer for so many items. More than the whole quota at once counts as the whole quota.
    ///
    /// # Errors
    /// If its quota, or that of its address, does not hold so many.
    pub fn charge(&self, peer: PeerId, origin: Option<Origin>, items: usize) -> Result<(), Exceeded> {
        self.charge_at(monotonic(), peer, origin, items)
    }

    fn charge_at(
        &self,
        now: Instant,
        peer: PeerId,
        origin: Option<Origin>,
        items: usize,
    ) -> Result<(), Exceeded> {
        let Some(limited) = &self.0 else { return Ok(()) };
        let mut by_peer = limited.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let items = by_peer.at_most(items);
        let peer_after = by_peer.after(&peer, items, now).ok_or(Exceeded)?;
        if let Some(origin) = origin.filter(|origin| !origin.is_loopback()) {
            let mut by_origin = limited.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
            let origin_after = by_origin.after(&origin, items, now).ok_or(Exceeded)?;
            by_origin.full_at.put(origin, origin_after);
        }
        by_peer.full_at.put(peer, peer_after);
        Ok(())
    }

    /// Puts a charge right that was an estimate of what is known now.
    pub fn correct(&self, peer: PeerId, origin: Option<Origin>, charged: usize, used: usize) {
        let Some(limited) = &self.0 else { return };
        let mut by_peer = limited.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let (charged, used) = (by_peer.at_most(charged), by_peer.at_most(used));
        by_peer.correct(&peer, charged, used);
        drop(by_peer);
        if let Some(origin) = origin.filter(|origin| !origin.is_loopback()) {
            let mut by_origin = limited.by_origin.lock().unwrap_or_else(PoisonError::into_inner);
            by_origin.correct(&origin, charged, used);
        }
    }
}

/// When the quota of each will be full again: as far ahead as it has been used.
#[derive(Debug)]
struct Quotas<K: Hash + Eq> {
    full_at: LruCache<K, Instant>,
    items: NonZeroU32,
}

impl<K: Hash + Eq> Quotas<K> {
    fn new(items: NonZeroU32) -> Self {
        Self { full_at: LruCache::new(MAX_KEYS), items }
    }

    fn at_most(&self, items: usize) -> u32 {
        u32::try_from(items).unwrap_or(u32::MAX).min(self.items.get())
    }

    /// The time in which so many items come back.
    fn time_of(&self, items: u32) -> Duration {
        let nanos = PERIOD.as_nanos() * u128::from(items) / u128::from(self.items.get());
        // At most `PERIOD`, since no more than a whole quota is charged at once.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// When the quota would be full again after so many more items; none if it does not hold them.
    fn after(&self, key: &K, items: u32, now: Instant) -> Option<Instant> {
        let full_at = self.full_at.peek(key).copied().unwrap_or(now).max(now);
        let after = full_at + self.time_of(items);
        (after.saturating_duration_since(now) <= PERIOD).then_some(after)
    }

    fn correct(&mut self, key: &K, charged: u32, used: u32) {
        let (charged, used) = (self.time_of(charged), self.time_of(used));
        if let Some(full_at) = self.full_at.get_mut(key) {
            *full_at = full_at.checked_sub(charged).map_or(*full_at, |before| before + used);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_peer_and_an_address_run_out_and_come_back() {
        let (limiter, peer, now) = (Limiter::per_minute(10, 4), PeerId::random(), monotonic());
        assert_eq!(limiter.charge_at(now, peer, None, 10), Ok(()));
        assert_eq!(limiter.charge_at(now, peer, None, 1), Err(Exceeded));
        assert_eq!(limiter.charge_at(now + PERIOD / 10, peer, None, 2), Err(Exceeded));
        assert_eq!(limiter.charge_at(now + PERIOD / 10, peer, None, 1), Ok(()));
        assert_eq!(limiter.charge_at(now, PeerId::random(), None, 1_000_000), Ok(()));
        assert_eq!(Limiter::per_minute(0, 4).charge_at(now, peer, None, 1_000_000), Ok(()));
        let origin = Origin::of("192.0.2.1".parse().unwrap());
        for _ in 0..4 {
            assert_eq!(limiter.charge_at(now, PeerId::random(), Some(origin), 10), Ok(()));
        }
        let stranger = PeerId::random();
        assert_eq!(limiter.charge_at(now, stranger, Some(origin), 10), Err(Exceeded));
        assert_eq!(limiter.charge_at(now, stranger, None, 10), Ok(()), "what was refused costs nothing");
    }

    #[test]
    fn what_was_charged_by_estimate_is_put_right() {
        let (limiter, peer, now) = (Limiter::per_minute(100, 1), PeerId::random(), monotonic());
        let origin = Some(Origin::of("192.0.2.1".parse().unwrap()));
        assert_eq!(limiter.charge_at(now, peer, origin, 1_000), Ok(()));
        assert_eq!(limiter.charge_at(now, peer, origin, 1), Err(Exceeded));
        limiter.correct(peer, origin, 1_000, 30);
        assert_eq!(limiter.charge_at(now, peer, origin, 71), Err(Exceeded));
        assert_eq!(limiter.charge_at(now, peer, origin, 70), Ok(()));
        assert_eq!(limiter.charge_at(now, PeerId::random(), origin, 1), Err(Exceeded), "the address too");
    }
}
