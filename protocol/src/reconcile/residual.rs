//! Ids that two nodes will go on to differ by, remembered to tell that nothing else changed (SPEC 10.10).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    id::{EntryId, TableId},
    reconcile::sketch::{Element, Group, MAX_LEVEL, Sid, Summary, Tally},
};

/// Ids that [`Residuals`] holds for all peers and tables together: 3.2 MB.
pub const MAX_RESIDUAL_IDS: usize = 100_000;

/// By which ids a peer's set differs from the own, as far as nothing is to be fetched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residual {
    /// Stored here, and not there.
    own: BTreeSet<EntryId>,
    /// Stored there, and dropped here on purpose.
    peer: BTreeSet<EntryId>,
}

impl Residual {
    /// The number of ids.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() + self.peer.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.peer.is_empty()
    }

    /// Count and sum of the peer's set as they would be, from those of the own one.
    #[must_use]
    pub fn applied_to_tally(&self, own: &Tally) -> Tally {
        let mut expected = *own;
        self.own.iter().for_each(|id| expected.remove(id));
        self.peer.iter().for_each(|id| expected.insert(id));
        expected
    }

    /// The peer's set as it would be, from the own one.
    #[must_use]
    pub fn applied_to(&self, own: &Summary) -> Summary {
        let mut expected = own.clone();
        self.own.iter().for_each(|id| expected.remove(&Element::of(id)));
        self.peer.iter().for_each(|id| expected.insert(&Element::of(id)));
        expected
    }

    /// The groups of the peer's set as they would be, from all those of a level of the own one.
    pub(super) fn apply_to(&self, groups: &mut [Group], level: u8) {
        debug_assert!(level <= MAX_LEVEL, "there are no groups of level {level}");
        for id in &self.own {
            if let Some(group) = groups.get_mut(usize::from(Sid::of(id).group(level))) {
                group.remove(&Element::of(id));
            }
        }
        for id in &self.peer {
            if let Some(group) = groups.get_mut(usize::from(Sid::of(id).group(level))) {
                group.insert(&Element::of(id));
            }
        }
    }

    /// Notes that the peer lacks an id that is stored here.
    pub(super) fn add_own(&mut self, id: EntryId) {
        self.own.insert(id);
    }

    /// Notes that the peer has an id that was dropped here.
    pub(super) fn add_peer(&mut self, id: EntryId) {
        self.peer.insert(id);
    }

    /// Takes out the ids with this sid: those that the peer has after all, and those it has not.
    pub(super) fn take(&mut self, sid: Sid) -> (Vec<EntryId>, Vec<EntryId>) {
        let (first, last) = sid.range();
        let take = |ids: &mut BTreeSet<EntryId>| -> Vec<EntryId> {
            let found: Vec<EntryId> = ids.range(first..=last).copied().collect();
            found.iter().for_each(|id| {
                ids.remove(id);
            });
            found
        };
        (take(&mut self.own), take(&mut self.peer))
    }
}

/// The residuals of the last sessions with each peer, as many as [`MAX_RESIDUAL_IDS`] permits; those not used for the
/// longest time go first.
#[derive(Debug, Clone)]
pub struct Residuals<P> {
    remembered: BTreeMap<(P, TableId), Remembered>,
    ids: usize,
    uses: u64,
}

#[derive(Debug, Clone)]
struct Remembered {
    since: u64,
    residual: Residual,
    used: u64,
}

impl<P> Default for Residuals<P> {
    fn default() -> Self {
        Self { remembered: BTreeMap::new(), ids: 0, uses: 0 }
    }
}

impl<P: Ord + Clone> Residuals<P> {
    /// What the last session with a peer found of a table in the scope from `since` on, in unix seconds.
    pub fn of(&mut self, peer: &P, table: TableId, since: u64) -> Option<&Residual> {
        let remembered = self.remembered.get_mut(&(peer.clone(), table))?;
        if remembered.since != since {
            return None;
        }
        self.uses += 1;
        remembered.used = self.uses;
        Some(&remembered.residual)
    }

    /// Remembers what a session found, instead of what was remembered of that peer and table.
    pub fn remember(&mut self, peer: &P, table: TableId, since: u64, residual: Residual) {
        self.forget(peer, table);
        if residual.is_empty() || residual.len() > MAX_RESIDUAL_IDS {
            return;
        }
        self.ids += residual.len();
        self.uses += 1;
        let remembered = Remembered { since, residual, used: self.uses };
        self.remembered.insert((peer.clone(), table), remembered);
        while self.ids > MAX_RESIDUAL_IDS {
            let oldest = self.remembered.iter().min_by_key(|(_, remembered)| remembered.used);
            let Some((peer, table)) = oldest.map(|(key, _)| key.clone()) else { break };
            self.forget(&peer, table);
        }
    }

    /// Forgets what was found of a table of a peer.
    pub fn forget(&mut self, peer: &P, table: TableId) {
        if let Some(forgotten) = self.remembered.remove(&(peer.clone(), table)) {
            self.ids -= forgotten.residual.len();
        }
    }

    /// The ids remembered.
    #[must_use]
    pub const fn ids(&self) -> usize {
        self.ids
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TABLE: TableId = TableId::from_bytes([1; 32]);

    fn id(number: u64) -> EntryId {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        EntryId::from_bytes(bytes)
    }

    fn residual(own: std::ops::Range<u64>, peer: std::ops::Range<u64>) -> Residual {
        Residual { own: own.map(id).collect(), peer: peer.map(id).collect() }
    }

    fn summary(numbers: std::ops::Range<u64>) -> Summary {
        let mut summary = Summary::default();
        numbers.for_each(|number| summary.insert(&Element::of(&id(number))));
        summary
    }

    #[test]
    fn a_residual_leads_from_one_set_to_the_other() {
        let residual = residual(5..10, 10..20);
        let mut expected = summary(0..5);
        expected.merge(&summary(10..20));
        assert_eq!(residual.applied_to(&summary(0..10)), expected);
        assert_eq!(residual.applied_to_tally(summary(0..10).tally()), *expected.tally());
        let mut groups = vec![Group::default(); 2];
        (0..10).for_each(|number| groups[0].insert(&Element::of(&id(number))));
        residual.apply_to(&mut groups, 1);
        assert_eq!(groups[0].tally(), expected.tally());
    }

    #[test]
    fn what_changed_is_taken_out() {
        let mut residual = residual(5..10, 10..20);
        assert_eq!(residual.take(Sid::of(&id(7))), (vec![id(7)], vec![]));
        assert_eq!(residual.take(Sid::of(&id(12))), (vec![], vec![id(12)]));
        assert_eq!(residual.take(Sid::of(&id(99))), (vec![], vec![]));
        assert_eq!(residual.len(), 13);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_what_was_not_used() {
        let mut memory = Residuals::default();
        let third = MAX_RESIDUAL_IDS as u64 / 3;
        for peer in 0..3 {
            memory.remember(&peer, TABLE, 0, residual(0..third, 0..0));
        }
        assert!(memory.of(&0, TABLE, 0).is_some());
        assert!(memory.of(&0, TABLE, 3600).is_none());
        memory.remember(&3, TABLE, 0, residual(0..0, 0..third));
        assert!(memory.ids() <= MAX_RESIDUAL_IDS);
        let left: Vec<u32> = (0..4).filter(|peer| memory.of(peer, TABLE, 0).is_some()).collect();
        assert_eq!(left, [0, 2, 3]);
        memory.remember(&2, TABLE, 0, Residual::default());
        assert!(memory.of(&2, TABLE, 0).is_none());
        memory.remember(&3, TABLE, 0, residual(0..MAX_RESIDUAL_IDS as u64 + 1, 0..0));
        assert_eq!(memory.ids(), third as usize);
    }
}
