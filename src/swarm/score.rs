//! What a peer's conduct costs it: one score, fading with time, and a ban below a floor.

use std::{
    collections::BTreeSet,
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
/// Peers that are banned at the same time.
const MAX_BANNED: usize = 10_000;
/// Timeouts within this time count once.
const TIMEOUT_PAUSE: Duration = Duration::from_secs(30);
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
    timeout_at: Option<Instant>,
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
    /// Who is banned until when; apart from the scores, so that no flood of strangers makes a ban endless.
    banned: BTreeSet<(Instant, PeerId)>,
}

impl Scores {
    pub(crate) fn new() -> Self {
        Self { peers: LruCache::new(MAX_PEERS), banned: BTreeSet::new() }
    }

    pub(crate) fn report(&mut self, peer: PeerId, conduct: Conduct, now: Instant) -> Verdict {
        let new = || Record { score: 0.0, at: now, bans: 0, banned_until: None, timeout_at: None };
        let record = self.peers.get_or_insert_mut(peer, new);
        // What was under way when it was banned does not ban it again.
        if record.banned_until.is_some_and(|until| now < until) {
            return Verdict::Score(record.score);
        }
        if conduct == Conduct::Timeout {
            // A link that hangs lets many requests time out at once: that is one event.
            if record.timeout_at.is_some_and(|last| now < last + TIMEOUT_PAUSE) {
                return Verdict::Score(faded(record, now));
            }
            record.timeout_at = Some(now);
        }
        record.score = (faded(record, now) + conduct.weight()).min(MAX_SCORE);
        record.at = now;
        if record.score > BAN_SCORE {
            return Verdict::Score(record.score);
        }
        let length = FIRST_BAN.saturating_mul(1 << record.bans.min(8)).min(LONGEST_BAN);
        let until = now + length;
        record.bans += 1;
        record.banned_until = Some(until);
        record.score = 0.0;
        self.banned.insert((until, peer));
        Verdict::Ban(until)
    }

    /// The peer's score at `now`; 0 for one that is not remembered.
    pub(crate) fn score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.peers.peek(peer).map_or(0.0, |record| faded(record, now))
    }

    /// Bans a peer by the operator's word.
    pub(crate) fn ban(&mut self, peer: PeerId, until: Instant) {
        self.banned.insert((until, peer));
    }

    /// Takes the peers whose ban is over, and if too many are banned, those whose ban is over soonest.
    pub(crate) fn pardoned(&mut self, now: Instant) -> Vec<PeerId> {
        let mut over = Vec::new();
        while let Some(&(until, peer)) = self.banned.first()
            && (until <= now || self.banned.len() > MAX_BANNED)
        {
            self.banned.pop_first();
            if !self.banned.iter().any(|(_, banned)| *banned == peer) {
                // Its time may not be over.
                if let Some(record) = self.peers.peek_mut(&peer) {
                    record.banned_until = None;
                }
                over.push(peer);
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
    fn what_comes_of_a_peer_after_its_ban_does_not_lengthen_it() {
        let (mut scores, peer, now) = (Scores::new(), PeerId::random(), monotonic());
        let bans = (0..500).filter_map(|_| match scores.report(peer, Conduct::Misbehaviour, now) {
            Verdict::Ban(until) => Some(until),
            Verdict::Score(_) => None,
        });
        assert_eq!(bans.collect::<Vec<_>>(), [now + FIRST_BAN]);
        assert_eq!(scores.banned.len(), 1);
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
