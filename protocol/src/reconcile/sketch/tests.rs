#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proptest::{collection::btree_set, prelude::*};

use super::{element::odd_powers, field::multiply, *};
use crate::{id::EntryId, reconcile::random::Random};

fn id(number: u64) -> EntryId {
    // Whatever the sid, the rest of an id is its own.
    let mut bytes = Random::new(number).bytes::<32>();
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

fn group(numbers: impl IntoIterator<Item = u64>) -> Group {
    let mut group = Group::default();
    numbers.into_iter().for_each(|number| group.insert(&Element::of(&id(number))));
    group
}

fn summary(numbers: impl IntoIterator<Item = u64>) -> Summary {
    let mut summary = Summary::default();
    numbers.into_iter().for_each(|number| summary.insert(&Element::of(&id(number))));
    summary
}

fn differing(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

fn decoded(syndromes: &[u64]) -> Option<BTreeSet<u64>> {
    let sids = decode(syndromes)?;
    let set: BTreeSet<u64> = sids.iter().map(|sid| sid.to_u64()).collect();
    assert_eq!(set.len(), sids.len(), "an element came out twice");
    Some(set)
}

#[test]
fn a_sid_is_the_beginning_of_an_id() {
    let zero = EntryId::from_bytes([0; 32]);
    assert_eq!(Sid::of(&zero).to_u64(), 1);
    assert_eq!(Sid::of(&id(0x0123_4567_89ab_cdef)).to_u64(), 0x0123_4567_89ab_cdef);
    assert_eq!(Sid::from_u64(0), None);
    let (first, last) = Sid::from_u64(1).unwrap().range();
    assert!(first == zero && last >= id(1) && last < id(2));
    let (first, last) = Sid::from_u64(2).unwrap().range();
    assert!(first > id(1) && first <= id(2) && id(2) <= last && last < id(3));
    let sid = Sid::from_u64(0xabcd << 48).unwrap();
    assert_eq!([0, 1, 4, 12, 200].map(|level| sid.group(level)), [0, 1, 0xa, 0xabc, 0xabc]);
}

#[test]
fn the_powers_are_those_of_the_definition() {
    let e = 0x0123_4567_89ab_cdef;
    let mut expected = e;
    for power in odd_powers(e) {
        assert_eq!(power, expected);
        expected = multiply(multiply(expected, e), e);
    }
}

#[test]
fn every_capacity_decodes_one_less_than_its_syndromes() {
    let mut random = Random::seeded("every_capacity_decodes_one_less_than_its_syndromes", 1);
    for capacity in 1..=GROUP_SYNDROMES {
        let numbers: BTreeSet<u64> = (1..capacity).map(|_| random.next_u64()).collect();
        let group = group(numbers.iter().copied());
        assert_eq!(decoded(&group.syndromes()[..capacity]), Some(numbers));
    }
}

#[test]
fn sets_too_large_and_garbage_are_refused() {
    let mut random = Random::seeded("sets_too_large_and_garbage_are_refused", 2);
    for capacity in [1, 2, 3, 4, 8, 16, 31, 64] {
        for _ in 0..40 {
            let count = capacity + random.below(2 * capacity);
            let group = group((0..count).map(|_| random.next_u64()));
            assert_eq!(decoded(&group.syndromes()[..capacity]), None);
            let garbage: Vec<u64> = (0..capacity).map(|_| random.next_u64()).collect();
            assert_eq!(decoded(&garbage), None);
        }
    }
    assert_eq!(decode(&[0; 65]), None);
    assert_eq!(decode(&[]), None);
}

/// All that a liar can choose freely: power sums of a polynomial whose roots are multiple, 0, or not in the field.
#[test]
fn polynomials_without_enough_roots_are_refused() {
    // The sum of the odd powers of an element with itself is 0: nothing is left of a double element.
    let one = group([7]);
    let mut twice = one.clone();
    twice.merge(&one);
    assert_eq!(decoded(twice.syndromes()), Some(BTreeSet::new()));
    // s_1 = 0 and s_3 = 1 ask for a pair with the sum 0.
    assert_eq!(decoded(&[0, 1, 0]), None);
    let mut random = Random::seeded("polynomials_without_enough_roots_are_refused", 3);
    for _ in 0..200 {
        // Short recurrences over the whole length: geometric sums with multiples that are not 1.
        let (e, factor) = (random.next_u64(), random.next_u64());
        let syndromes: Vec<u64> = odd_powers(e)[..16].iter().map(|p| multiply(*p, factor)).collect();
        assert_eq!(decoded(&syndromes), None);
    }
}

#[test]
fn neighbours_are_told_apart() {
    // Roots that differ in few bits need late constants of the basis.
    let numbers: BTreeSet<u64> = (0..63).map(|bit| 1_u64 << bit).collect();
    assert_eq!(decoded(group(numbers.iter().copied()).syndromes()), Some(numbers));
    let numbers: BTreeSet<u64> = (1..=63).collect();
    assert_eq!(decoded(group(numbers.iter().copied()).syndromes()), Some(numbers));
}

#[test]
fn the_estimate_is_near() {
    let mut random = Random::seeded("the_estimate_is_near", 4);
    let common: Vec<u64> = (0..500).map(|_| random.next_u64()).collect();
    let base = summary(common.iter().copied());
    assert_eq!(base.tow().distance(base.tow()), 0);
    for d in [1_u64, 10, 100, 1000] {
        let mut other = base.clone();
        other.merge(&summary((0..d).map(|_| random.next_u64())));
        let estimate = base.tow().distance(other.tow());
        // Six standard deviations.
        assert!(estimate >= d / 3 && estimate <= 2 * d + 2, "{estimate} instead of {d}");
        assert_eq!(other.tow().distance(base.tow()), estimate);
    }
}

proptest! {
    #[test]
    fn symmetric_differences_come_out(
        common in btree_set(1_u64.., 0..200),
        own in btree_set(1_u64.., 0..40),
        other in btree_set(1_u64.., 0..40),
    ) {
        let (own, other): (BTreeSet<u64>, BTreeSet<u64>) = (&own | &common, &other | &common);
        let (a, b) = (group(own.iter().copied()), group(other.iter().copied()));
        let expected = &own ^ &other;
        let syndromes = differing(a.syndromes(), b.syndromes());
        let expected = (expected.len() < syndromes.len()).then_some(expected);
        prop_assert_eq!(decoded(&syndromes), expected.clone());
        let (a, b) = (summary(own), summary(other));
        let syndromes = differing(a.syndromes(), b.syndromes());
        let expected = expected.filter(|expected| expected.len() < syndromes.len());
        prop_assert_eq!(decoded(&syndromes), expected);
    }

    #[test]
    fn sketches_are_linear_and_their_rows_round_trip(
        left in btree_set(any::<u64>(), 0..50),
        right in btree_set(any::<u64>(), 0..50),
    ) {
        let right: BTreeSet<u64> = &right - &left;
        let union: Vec<u64> = left.union(&right).copied().collect();
        let (mut a, mut b) = (group(left.iter().copied()), summary(left.iter().copied()));
        a.merge(&group(right.iter().copied()));
        b.merge(&summary(right.iter().copied()));
        prop_assert_eq!(&a, &group(union.iter().copied()));
        prop_assert_eq!(&b, &summary(union.iter().copied()));
        prop_assert_eq!(a.len(), union.len() as u64);
        prop_assert_eq!(Group::from_bytes(&a.to_bytes()), a.clone());
        prop_assert_eq!(Summary::from_bytes(&b.to_bytes()), b.clone());
        prop_assert_eq!(&Tow::from_bytes(&b.tow().to_bytes()), b.tow());
        for number in &right {
            a.remove(&Element::of(&id(*number)));
            b.remove(&Element::of(&id(*number)));
        }
        prop_assert_eq!(a, group(left.iter().copied()));
        prop_assert_eq!(b.root() == summary(union).root(), right.is_empty());
        prop_assert_eq!(b, summary(left));
    }

    #[test]
    fn the_sum_is_that_of_large_numbers(a: [u8; 32], b: [u8; 32]) {
        let number = |bytes: [u8; 32]| {
            let half = |range: std::ops::Range<usize>| u128::from_be_bytes(bytes[range].try_into().unwrap());
            (half(0..16), half(16..32))
        };
        let ((a_high, a_low), (b_high, b_low)) = (number(a), number(b));
        let (low, carry) = a_low.overflowing_add(b_low);
        let high = a_high.wrapping_add(b_high).wrapping_add(u128::from(carry));
        let mut sum = super::tally::Sum::from_bytes(a);
        sum.add(super::tally::Sum::from_bytes(b));
        prop_assert_eq!(number(sum.to_bytes()), (high, low));
        sum.subtract(super::tally::Sum::from_bytes(b));
        prop_assert_eq!(sum.to_bytes(), a);
    }

    #[test]
    fn whatever_is_decoded_has_the_syndromes(syndromes in proptest::collection::vec(0_u64..4, 0..8)) {
        if let Some(sids) = decode(&syndromes) {
            let mut sums = vec![0; syndromes.len()];
            for sid in sids {
                sums.iter_mut().zip(odd_powers(sid.to_u64())).for_each(|(sum, power)| *sum ^= power);
            }
            prop_assert_eq!(sums, syndromes);
        }
    }
}
