//! From the roots of two sets to the ids by which they differ, in as few steps as their number asks for (SPEC 10.8).
//!
//! The first step is free: a claim carries 16 syndromes, enough for 15 differences. For more, the estimator tells how many groups
//! and syndromes to ask for: groups so small that one holds about 28 differences at most, and syndromes for a few more than that.
//! Groups that hold more are asked for further syndromes, up to 64; those before are not sent again.
//!
//! What is decoded is no more than a suspicion, since syndromes can be forged. It decides what to get; that nothing was left
//! out is told by the root that the peer's set must have, if it is the own set changed by what was decoded.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    id::EntryId,
    message::sync::Claim,
    reconcile::{
        Held, Misbehaviour, Residual,
        sketch::{GROUP_SYNDROMES, Group, MAX_LEVEL, Root, Sid, Summary, Tally, decode},
    },
};

/// Differences beyond which groups are too full to be decoded: then the buckets are listed.
pub const MAX_DECODED: u64 = 100_000;
/// Differences of a group that are aimed at, at most.
const FILLING: u64 = 28;
/// Fewest syndromes asked for; the claim had one less.
const LEAST_SYNDROMES: usize = 17;
/// Answers with groups that one ladder takes: one for each step from 17 syndromes to 64, and some for peers whose set changes in
/// between.
const MAX_ROUNDS: u32 = 8;
/// Groups decoded in one go, so that nobody has to wait for longer than some milliseconds.
const DECODED_AT_ONCE: usize = 16;
/// Fewer groups may all fail without being suspicious.
const SUSPICIOUS: usize = 8;

/// Which syndromes of which groups to ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rung {
    pub(super) level: u8,
    pub(super) groups: Vec<u16>,
    pub(super) syndromes: std::ops::Range<usize>,
}

/// What the claim of a peer leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Start {
    /// These are the differences.
    Decoded(Vec<Sid>),
    /// Groups have to be asked for.
    Climb,
    /// There are too many differences for sketches.
    TooMany,
}

/// What the root says in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// The peer's set is known, id by id.
    Equal,
    /// The peer's set changed meanwhile, or not all of it could be had.
    Inconclusive,
    /// Something was left out or made up.
    Different,
}

#[derive(Debug)]
pub(super) struct Ladder {
    /// The set that is compared: the own one, or what the peer's was expected to be. Changed by what is found, it becomes
    /// the peer's.
    tally: Tally,
    /// Whether the set that is compared is the expected one.
    adjusted: bool,
    residual: Residual,
    /// The peer's root that everything decoded belongs to.
    root: Root,
    /// Whether the peer's set stayed as it was, and all of its ids are accounted for.
    conclusive: bool,
    level: u8,
    capacity: usize,
    /// Whether there are groups to ask for.
    climbs: bool,
    rounds: u32,
    asked: bool,
    own_wanted: bool,
    own: Option<Vec<Group>>,
    answer: Option<Vec<u64>>,
    /// Groups that are not decoded yet.
    open: BTreeMap<u16, Open>,
    to_decode: VecDeque<u16>,
    given_up: bool,
}

#[derive(Debug)]
struct Open {
    own: Box<Group>,
    /// The syndromes of the differences, as far as they have come.
    difference: Vec<u64>,
}

impl Ladder {
    /// Begins with what the peer says of its set and what was remembered of the last session with it.
    pub(super) fn new(own: &Summary, claim: &Claim, residual: Residual) -> (Self, Start) {
        // Either the peer took what it lacked, or it did not: the nearer set is less work.
        let expected = residual.applied_to(own);
        let distance = own.tow().distance(&claim.tow);
        let adjusted = !residual.is_empty() && expected.tow().distance(&claim.tow) < distance;
        let (base, residual) = if adjusted { (&expected, residual) } else { (own, Residual::default()) };
        let distance = base.tow().distance(&claim.tow);
        let difference: Vec<u64> =
            base.syndromes().iter().zip(claim.syndromes).map(|(own, peer)| own ^ peer).collect();
        let (level, capacity) = plan(distance);
        let start = match decode(&difference) {
            Some(sids) if explains(sids.len() as u64, base.len(), claim.n) => Start::Decoded(sids),
            _ if distance > MAX_DECODED => Start::TooMany,
            _ => Start::Climb,
        };
        let climbs = start == Start::Climb;
        let ladder = Self {
            tally: *base.tally(),
            adjusted,
            residual,
            root: claim.root,
            conclusive: true,
            level,
            capacity,
            climbs,
            rounds: 0,
            asked: false,
            own_wanted: climbs,
            own: None,
            answer: None,
            open: BTreeMap::new(),
            to_decode: VecDeque::new(),
            given_up: start == Start::TooMany,
        };
        (ladder, start)
    }

    /// The level of which all own groups are needed; asked once.
    pub(super) fn wants_own(&mut self) -> Option<u8> {
        std::mem::take(&mut self.own_wanted).then_some(self.level)
    }

    /// What to ask the peer for, if anything can be asked now.
    pub(super) fn next_rung(&mut self) -> Option<Rung> {
        if !self.climbs || self.asked || self.given_up || self.answer.is_some() || !self.to_decode.is_empty()
        {
            return None;
        }
        let first = self.rounds == 0;
        if !first && self.open.is_empty() {
            return None;
        }
        let groups =
            if first { (0..1_u16 << self.level).collect() } else { self.open.keys().copied().collect() };
        self.asked = true;
        Some(Rung { level: self.level, groups, syndromes: self.have()..self.capacity })
    }

    /// The syndromes that have come of the open groups.
    fn have(&self) -> usize {
        self.open.values().next().map_or(0, |open| open.difference.len())
    }

    /// The request of the last rung failed for good, or the own groups cannot be had.
    pub(super) fn give_up(&mut self) {
        self.given_up = true;
        self.asked = false;
        self.answer = None;
        self.to_decode.clear();
    }

    /// The request of the last rung failed and may be repeated.
    pub(super) const fn ask_again(&mut self) {
        self.asked = false;
    }

    /// All own groups of the level, of one moment.
    pub(super) fn take_own(&mut self, mut groups: Vec<Group>) {
        if groups.len() != 1 << self.level {
            return self.give_up();
        }
        self.residual.apply_to(&mut groups, self.level);
        self.tally = Tally::default();
        groups.iter().for_each(|group| self.tally.merge(group.tally()));
        self.own = Some(groups);
        self.open_groups();
    }

    /// The peer's answer to a rung.
    pub(super) fn take_answer(
        &mut self,
        rung: &Rung,
        root: Root,
        words: Vec<u64>,
    ) -> Result<(), Misbehaviour> {
        let expected = rung.groups.len() * rung.syndromes.len();
        if words.len() != expected {
            return Err(Misbehaviour::WrongSyndromes { expected, got: words.len() });
        }
        self.asked = false;
        if self.given_up {
            return Ok(());
        }
        self.rounds += 1;
        if rung.syndromes.start > 0 && root != self.root {
            // These syndromes do not belong to those that came before: from the beginning.
            self.conclusive = false;
            self.open.values_mut().for_each(|open| open.difference.clear());
            self.root = root;
            self.given_up |= self.rounds >= MAX_ROUNDS;
            return Ok(());
        }
        self.conclusive &= self.rounds == 1 || root == self.root;
        self.root = root;
        self.answer = Some(words);
        self.open_groups();
        Ok(())
    }

    /// Brings the own groups and the peer's answer together, once both are there.
    fn open_groups(&mut self) {
        if let (Some(own), true) = (&mut self.own, self.open.is_empty() && self.answer.is_some()) {
            let own = std::mem::take(own)
                .into_iter()
                .map(|own| Open { own: Box::new(own), difference: Vec::new() });
            self.open = (0..).zip(own).collect();
        }
        if self.own.is_none() {
            return;
        }
        let Some(words) = self.answer.take() else { return };
        let (have, count) = (self.have(), words.len() / self.open.len().max(1));
        for (open, peer) in self.open.values_mut().zip(words.chunks(count.max(1))) {
            let own = open.own.syndromes().iter().skip(have);
            open.difference.extend(own.zip(peer).map(|(own, peer)| own ^ peer));
        }
        self.to_decode = self.open.keys().copied().collect();
    }

    /// Whether there is something to decode.
    pub(super) fn is_decoding(&self) -> bool {
        !self.to_decode.is_empty()
    }

    /// Decodes some groups: the differences found.
    pub(super) fn decode_some(&mut self) -> Vec<Sid> {
        let mut found = Vec::new();
        for _ in 0..DECODED_AT_ONCE {
            let Some(number) = self.to_decode.pop_front() else { return found };
            let Some(open) = self.open.get(&number) else { continue };
            if let Some(sids) = decode(&open.difference)
                && sids.iter().all(|sid| sid.group(self.level) == number)
            {
                self.open.remove(&number);
                found.extend(sids);
            }
            if self.to_decode.is_empty() {
                self.climb();
            }
        }
        found
    }

    /// Decides how to go on with the groups that could not be decoded.
    fn climb(&mut self) {
        let failed = self.open.len();
        let all = 1_usize << self.level;
        // An estimate that is too low fails many at first, and again each time the same sets are compared.
        let suspicious = self.rounds > 2 && failed >= SUSPICIOUS && 2 * failed > all;
        let highest = self.capacity == GROUP_SYNDROMES;
        if failed > 0 && (suspicious || highest || self.rounds >= MAX_ROUNDS) {
            self.given_up = true;
        }
        self.capacity = (self.capacity + self.capacity.div_ceil(2)).min(GROUP_SYNDROMES);
    }

    /// Takes up a difference that was found, with the ids of that sid that are Known here; says whether to get
    /// it.
    pub(super) fn resolve(&mut self, sid: Sid, held: &[Held]) -> bool {
        if self.adjusted {
            let (own, peer) = self.residual.take(sid);
            // The peer has them after all, and it has them not.
            own.iter().for_each(|id| self.tally.insert(id));
            peer.iter().for_each(|id| self.tally.remove(id));
            if !own.is_empty() || !peer.is_empty() {
                return false;
            }
        }
        let stored = held.iter().any(|held| held.stored);
        for held in held.iter().filter(|held| held.stored == stored) {
            if stored {
                self.tally.remove(&held.id);
                self.residual.add_own(held.id);
            } else {
                self.tally.insert(&held.id);
                self.residual.add_peer(held.id);
            }
        }
        held.is_empty()
    }

    /// The peer has this id, which was not stored here; `dropped` says whether it will not be.
    pub(super) fn has(&mut self, id: EntryId, dropped: bool) {
        self.tally.insert(&id);
        if dropped {
            self.residual.add_peer(id);
        }
    }

    /// The peer did not serve what it seemed to have.
    pub(super) const fn lacks(&mut self) {
        self.conclusive = false;
    }

    /// Whether nothing is left to ask for or to decode.
    pub(super) fn is_over(&self) -> bool {
        self.given_up
            || !self.climbs
            || self.rounds > 0
                && !self.asked
                && self.answer.is_none()
                && self.to_decode.is_empty()
                && self.open.is_empty()
    }

    /// Whether part of the differences could not be decoded.
    pub(super) const fn has_given_up(&self) -> bool {
        self.given_up
    }

    /// What the root says, and by what the sets go on to differ.
    pub(super) fn finish(self) -> (Proof, Residual) {
        let proof = match self.tally.root() == self.root {
            true => Proof::Equal,
            false if self.conclusive => Proof::Different,
            false => Proof::Inconclusive,
        };
        (proof, self.residual)
    }
}

/// Whether so many differences lead from a set of so many ids to one of so many: the difference of the counts is no greater,
/// and as even.
const fn explains(differences: u64, own: u64, peer: u64) -> bool {
    let more = own.abs_diff(peer);
    more <= differences && more % 2 == differences % 2
}

/// Level of the groups and number of their syndromes, for so many differences as the estimator says.
fn plan(distance: u64) -> (u8, usize) {
    // A tenth more: too few syndromes cost a round trip, too many a few bytes.
    let expected = distance.min(MAX_DECODED).saturating_mul(11).div_ceil(10);
    let filling = |level: u8| expected.div_ceil(1 << level);
    let level = (0..MAX_LEVEL).find(|level| filling(*level) <= FILLING).unwrap_or(MAX_LEVEL);
    let filling = filling(level);
    let capacity = filling as usize + 2 * filling.isqrt() as usize + 3;
    (level, capacity.clamp(LEAST_SYNDROMES, GROUP_SYNDROMES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_follows_the_estimate() {
        assert_eq!(plan(1), (0, 17));
        assert_eq!(plan(25), (0, 41));
        assert_eq!(plan(30), (1, 17 + 8 + 3));
        assert_eq!(plan(MAX_DECODED), (12, 27 + 10 + 3));
        assert_eq!(plan(u64::MAX), plan(MAX_DECODED));
        for distance in 1..MAX_DECODED {
            let (level, capacity) = plan(distance);
            assert!(
                level == 0 || (distance * 11).div_ceil(10) > FILLING << (level - 1),
                "{distance}: level {level}"
            );
            assert!((LEAST_SYNDROMES..=GROUP_SYNDROMES).contains(&capacity));
        }
    }

    #[test]
    fn counts_must_fit_the_differences() {
        assert!(explains(3, 10, 11) && explains(0, 5, 5) && explains(2, 5, 5));
        assert!(!explains(3, 10, 12) && !explains(1, 5, 5) && !explains(2, 5, 9));
    }
}
