//! The elements of a small set from its syndromes.

use super::{GROUP_SYNDROMES, Sid, locator::locator, roots::roots};

/// The elements of a set from its syndromes; none if it has as many elements as there are syndromes, or more.
///
/// One syndrome more than elements is asked for, as a check: of all lists of *c* syndromes, one in 2^64 (c - 1)! is that
/// of a set of fewer than *c* elements, so that sets too large do not seem small by accident. By design they can (the
/// syndromes are linear): whoever uses the result checks it by a [`Root`](super::Root).
///
/// The work is bounded whatever the syndromes are: less than a millisecond for honest ones. More than
/// [`GROUP_SYNDROMES`] are refused.
#[must_use]
pub fn decode(syndromes: &[u64]) -> Option<Vec<Sid>> {
    if syndromes.len() > GROUP_SYNDROMES {
        return None;
    }
    let polynomial = locator(syndromes)?;
    if polynomial.degree() >= syndromes.len() {
        return None;
    }
    roots(polynomial)?.into_iter().map(Sid::from_u64).collect()
}
