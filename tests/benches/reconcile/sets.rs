//! Two sets of ids that differ in some of them.

use p2pdb::protocol::id::EntryId;

use crate::support::random::Random;

/// What all ids are spread over, in seconds: 52 epochs.
const SPAN: u64 = 52 * 604_800;
/// What recent differences are spread over, in seconds.
const HOUR: u64 = 3_600;

/// Where the differences lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// At any time.
    Scattered,
    /// Within the last hour.
    Recent,
}

impl Pattern {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Pattern::Scattered => "scattered",
            Pattern::Recent => "recent",
        }
    }
}

/// An id and when its entry was created, in seconds.
pub(super) type Item = (EntryId, u64);

#[derive(Debug)]
pub(super) struct Sets {
    pub(super) pattern: Pattern,
    pub(super) differences: usize,
    /// Ascending, as a store lists them.
    pub(super) requester: Vec<Item>,
    pub(super) responder: Vec<Item>,
    /// What the requester lacks, ascending.
    pub(super) missing: Vec<EntryId>,
}

impl Sets {
    /// Two sets of `count` ids; half of the differences, rounded up, are on the responder's side.
    pub(super) fn new(count: usize, differences: usize, pattern: Pattern) -> Self {
        let mut random = Random::new(differences as u64);
        let mut items = |count: usize, span: u64| -> Vec<Item> {
            let mut item = || (EntryId::from_bytes(random.bytes()), SPAN - 1 - random.range(0..span));
            (0..count).map(|_| item()).collect()
        };
        let span = if pattern == Pattern::Recent { HOUR } else { SPAN };
        let own = differences / 2;
        let (only_requester, only_responder) = (items(own, span), items(differences - own, span));
        let common = items(count - only_responder.len(), SPAN);
        let joined = |only: &[Item]| {
            let mut items = [&common, only].concat();
            items.sort_unstable();
            items
        };
        let mut missing: Vec<EntryId> = only_responder.iter().map(|(id, _)| *id).collect();
        missing.sort_unstable();
        Self {
            pattern,
            differences,
            requester: joined(&only_requester),
            responder: joined(&only_responder),
            missing,
        }
    }
}
