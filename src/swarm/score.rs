//! What a peer's conduct costs it: one score, fading with time, and a ban below a floor.

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use lru::LruCache;

/// Half of a score is forgotten after this time.
const HALF_LIFE: Duration = Duration::from_secs(600);
/// At this score a peer is banned.
const BAN_SCORE: f64 = -50.0;
/// No peer earns more than this: a long good life must not pay for an attack.
const MAX_SCORE: f64 = 10.0;
const FIRST_BAN: Duration = Duration::from_secs(3600);
const LONGEST_BAN: Duration = Duration::from_secs(12 * 3600);
/// Peers that are remembered.
const MAX_PEERS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Something a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conduct {
    /// Brought an entry that was new here and valid.
    FreshEntry,
    /// Did not answer in time.
    Timeout,
    /// Sent what breaks the protocol, or an entry that no honest node passes on.
    Misbehaviour,
    /// Promised what it does not have.
    EmptyPromise,
}

impl Conduct {
    const fn weight(self) -> f64 {
        match self {
            Conduct::FreshEntry => 0.5,
            Conduct::Timeout => -2.0,
            Conduct::EmptyPromise => -5.0,
            Conduct::Misbehaviour => -20.0,
        }
    }
}

#[derive(Debug)]
struct Record {
    score: f64,
    at: Instant,
    bans: u32,
    banned_until: Option<Instant>,
}

/// What follows from a peer's conduct.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Verdict {
    /// The peer's score now.
    Score(f64),
    /// The peer is out until then.
    Ban(Instant),
}

/// The scores of the peers that did something lately.
#[derive(Debug)]
pub(crate) struct Scores {
    peers: LruCache<PeerId, Record>,
}

impl Scores {
    pub(crate) fn new() -> Self {
        Self { peers: LruCache::new(MAX_PEERS) }
    }

    pub(crate) fn report(&mut self, peer: PeerId, conduct: Conduct, now: Instant) -> Verdict {
        let record = self.peers.get_or_insert_mut(peer, || Record {
            score: 0.0,
            at: now,
            bans: 0,
            banned_until: None,
        });
        record.score = (faded(record, now) + conduct.weight()).min(MAX_SCORE);
        record.at = now;
        if record.score > BAN_SCORE {
            return Verdict::Score(record.score);
        }
        let length = FIRST_BAN.saturating_mul(1 << record.bans.min(8)).min(LONGEST_BAN);
        let until = now + length;
        record.bans += 1;
        record.score = 0.0;
        record.banned_until = Some(until);
        Verdict::Ban(until)
    }

    /// The peer's score at `now`; 0 for one that is not remembered.
    pub(crate) fn score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.peers.peek(peer).map_or(0.0, |record| faded(record, now))
    }

    /// Bans a peer by the operator's word.
    pub(crate) fn ban(&mut self, peer: PeerId, until: Instant, now: Instant) {
        self.peers.put(peer, Record { score: 0.0, at: now, bans: 1, banned_until: Some(until) });
    }

    /// Takes the peers whose ban is over.
    pub(crate) fn pardoned(&mut self, now: Instant) -> Vec<PeerId> {
        let mut over = Vec::new();
        for (peer, record) in &mut self.peers {
            if record.banned_until.is_some_and(|until| until <= now) {
                record.banned_until = None;
                over.push(*peer);
            }
        }
        over
    }
}

fn faded(record: &Record, now: Instant) -> f64 {
    let age = now.saturating_duration_since(record.at).as_secs_f64();
    record.score * 0.5_f64.powf(age / HALF_LIFE.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::monotonic;

    #[test]
    fn misbehaviour_bans_and_bans_grow() {
        let (mut scores, peer) = (Scores::new(), PeerId::random());
        let mut now = monotonic();
        let mut lengths = Vec::new();
        while lengths.len() < 6 {
            if let Verdict::Ban(until) = scores.report(peer, Conduct::Misbehaviour, now) {
                lengths.push((until - now).as_secs() / 3600);
                assert!(scores.pardoned(now).is_empty());
                now = until;
                assert_eq!(scores.pardoned(now), [peer]);
            }
        }
        assert_eq!(lengths, [1, 2, 4, 8, 12, 12]);
    }

    #[test]
    fn scores_fade_and_good_conduct_is_capped() {
        let (mut scores, peer, now) = (Scores::new(), PeerId::random(), monotonic());
        scores.report(peer, Conduct::Misbehaviour, now);
        assert!((scores.score(&peer, now + HALF_LIFE) + 10.0).abs() < 1e-9);
        for _ in 0..1000 {
            scores.report(peer, Conduct::FreshEntry, now);
        }
        assert!(scores.score(&peer, now) <= MAX_SCORE);
    }
}
