//! What one id adds to a sketch.

use super::{
    GROUP_SYNDROMES, Sid,
    field::{Multiplier, multiply, square},
    tally::Sum,
};
use crate::id::EntryId;

/// What one id adds to every sketch it belongs to; computed once, in less than a microsecond.
#[derive(Debug, Clone)]
pub struct Element {
    pub(super) sum: Sum,
    /// The bits that decide in which direction each counter of the estimator goes.
    pub(super) signs: u64,
    pub(super) powers: [u64; GROUP_SYNDROMES],
}

impl Element {
    /// The element of an id.
    #[must_use]
    pub fn of(id: &EntryId) -> Self {
        let [.., a, b, c, d, e, f, g, h, _, _, _, _, _, _, _, _] = *id.as_bytes();
        Self {
            sum: Sum::of(id),
            signs: u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            powers: odd_powers(Sid::of(id).to_u64()),
        }
    }
}

/// e, e^3, e^5, ... e^127.
///
/// Four chains that do not depend on each other, e^1, e^3, e^5 and e^7 each times powers of e^8, keep the
/// processor busy; each step multiplies by e^8 and e^16 with the same look-ups.
pub(super) fn odd_powers(e: u64) -> [u64; GROUP_SYNDROMES] {
    let e2 = square(e);
    let e4 = square(e2);
    let e8 = square(e4);
    let e3 = multiply(e, e2);
    let by = Multiplier::new([e8, square(e8)]);
    let mut chains = [e, e3, multiply(e, e4), multiply(e3, e4)];
    let mut powers = [0; GROUP_SYNDROMES];
    for eight in powers.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = eight;
        [*a, *b, *c, *d] = chains;
        for (chain, next) in chains.iter_mut().zip([e, f, g, h]) {
            [*next, *chain] = by.times(*chain);
        }
    }
    powers
}
