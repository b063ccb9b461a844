//! Two sets of ids that differ in some of them.

use anyhow::{Result, ensure};
use p2pdb::protocol::id::{EntryId, TableId};

use super::responder::Responder;
use crate::support::random::Random;

/// What all ids are spread over, in seconds: 52 epochs.
pub(super) const SPAN: u64 = 52 * 604_800;
/// What recent differences are spread over, in seconds.
pub(super) const HOUR: u64 = 3_600;

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
pub(super) struct Sets<'r> {
    pub(super) table: TableId,
    /// Ascending, as a store lists them.
    pub(super) requester: Vec<Item>,
    pub(super) responder: &'r [Item],
    /// What the requester lacks, ascending.
    pub(super) missing: Vec<EntryId>,
}

impl<'r> Sets<'r> {
    /// The responder's set and another one; half of the differences, rounded up, are on the responder's side.
    /// Each draw is another choice of them.
    pub(super) fn new(
        responder: &'r Responder,
        differences: usize,
        pattern: Pattern,
        draw: u64,
    ) -> Result<Self> {
        let mut random = Random::new(differences as u64 + (draw << 32));
        let span = if pattern == Pattern::Recent { HOUR } else { SPAN };
        let own = differences / 2;
        let mut pool: Vec<EntryId> =
            responder.items.iter().filter(|(_, created)| SPAN - created <= span).map(|(id, _)| *id).collect();
        let lacked = differences - own;
        ensure!(lacked <= pool.len(), "the responder has {} entries of that time", pool.len());
        for place in 0..lacked {
            let other = place + random.below(pool.len() - place);
            pool.swap(place, other);
        }
        pool.truncate(lacked);
        pool.sort_unstable();
        let missing = pool;
        let is_common = |(id, _): &&Item| missing.binary_search(id).is_err();
        let mut requester: Vec<Item> = responder.items.iter().filter(is_common).copied().collect();
        requester.extend(
            (0..own).map(|_| (EntryId::from_bytes(random.bytes()), SPAN - 1 - random.range(0..span))),
        );
        requester.sort_unstable();
        let table = responder.table;
        Ok(Self { table, requester, responder: &responder.items, missing })
    }
}
