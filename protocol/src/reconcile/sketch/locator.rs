//! The polynomial whose roots are the elements of a set, from the syndromes of the set.
//!
//! With elements e_1 .. e_d, let L(x) = (1 - e_1 x) .. (1 - e_d x). The power sums s_1, s_2, ... obey the linear recurrence
//! whose coefficients are those of L (Newton's identities), and Berlekamp and Massey's algorithm finds the shortest
//! recurrence of a sequence (Massey, *Shift-register synthesis and BCH decoding*, 1969). It is unique once twice as many
//! members as its length are known: *c* odd power sums, which give 2c with the even ones, determine *c* elements.
//!
//! Since s_2k = s_k², every second discrepancy is 0 (Berlekamp, *Algebraic coding theory*, 1968, section 7.6), and
//! the algorithm takes *c* steps.

use super::{
    field::{invert, multiply, square},
    polynomial::{Polynomial, add_multiple},
};

/// The monic polynomial whose roots the elements would be; none if there are more than syndromes.
///
/// Whether it has as many different roots remains to be seen. The one of no elements is 1.
pub(super) fn locator(odd: &[u64]) -> Option<Polynomial> {
    let sums = power_sums(odd);
    let (mut current, mut length) = (vec![1_u64], 0);
    // What the recurrence was before it last grew, divided by its discrepancy then, times a power of x.
    let mut before = vec![0, 1];
    for step in (0..sums.len()).step_by(2) {
        let known = sums.iter().take(step + 1).rev();
        let discrepancy = current.iter().zip(known).fold(0, |sum, (a, s)| sum ^ multiply(*a, *s));
        if discrepancy != 0 {
            let last = current.clone();
            if current.len() < before.len() {
                current.resize(before.len(), 0);
            }
            add_multiple(&mut current, discrepancy, &before);
            if 2 * length <= step {
                length = step + 1 - length;
                let inverse = invert(discrepancy);
                before = last.iter().map(|a| multiply(*a, inverse)).collect();
            }
        }
        // Two steps on, one of which was not needed.
        before.splice(0..0, [0, 0]);
    }
    while current.last() == Some(&0) {
        current.pop();
    }
    // A shorter polynomial has 0 among the reciprocals of its roots: no set has such a recurrence.
    if length > odd.len() || current.len() != length + 1 {
        return None;
    }
    // 1 comes first: read backwards it is the monic polynomial with the reciprocal roots.
    current.reverse();
    current.pop();
    Some(Polynomial::monic(current))
}

/// s_1, s_2, s_3, ... from s_1, s_3, s_5, ...
fn power_sums(odd: &[u64]) -> Vec<u64> {
    let mut sums = Vec::with_capacity(2 * odd.len());
    for odd in odd {
        sums.push(*odd);
        // Of s_1 .. s_(2k-1), the next is s_2k = s_k².
        let half = sums.len().div_ceil(2) - 1;
        sums.push(square(sums.get(half).copied().unwrap_or_default()));
    }
    sums
}
