#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
};

use super::{
    element::odd_powers,
    field::{multiply, square},
    polynomial::{Multiples, Polynomial, add_multiple},
    roots::roots,
    *,
};
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

/// Sums of elements of the subfield of 2^32: the constants from that subfield do not tell them apart.
#[test]
fn late_constants_tell_apart_what_the_others_do_not() {
    let mut random = Random::seeded("late_constants_tell_apart_what_the_others_do_not", 5);
    let conjugate = |a: u64| (0..32).fold(a, |a, _| square(a));
    for count in [3, 20, 63] {
        let base = random.next_u64();
        let numbers: BTreeSet<u64> =
            (0..count).map(|_| random.next_u64()).map(|a| base ^ a ^ conjugate(a)).collect();
        assert_eq!(decoded(group(numbers.iter().copied()).syndromes()), Some(numbers));
    }
}

/// The coefficients of (x - r_1) (x - r_2) .. before the leading 1, by the definition.
fn product(roots: &[u64]) -> Vec<u64> {
    let mut coefficients = vec![1];
    for root in roots {
        let times_root: Vec<u64> = coefficients.iter().map(|a| multiply(*a, *root)).collect();
        coefficients.insert(0, 0);
        coefficients.iter_mut().zip(times_root).for_each(|(a, b)| *a ^= b);
    }
    coefficients.pop();
    coefficients
}

fn value(low: &[u64], x: u64) -> u64 {
    low.iter().rev().fold(1, |sum, a| multiply(sum, x) ^ a)
}

#[test]
fn only_different_roots_in_the_field_are_roots() {
    let mut random = Random::seeded("only_different_roots_in_the_field_are_roots", 6);
    for degree in 1..=GROUP_SYNDROMES {
        let numbers: BTreeSet<u64> = (0..degree).map(|_| random.next_u64()).collect();
        let mut list: Vec<u64> = numbers.iter().copied().collect();
        let found = roots(Polynomial::monic(product(&list))).unwrap();
        assert_eq!((found.len(), found.into_iter().collect()), (degree, numbers));
        if degree > 1 {
            list[0] = list[degree - 1];
            assert_eq!(roots(Polynomial::monic(product(&list))), None, "a double root of {degree}");
        }
        // One in 64! of all polynomials of a high degree has its roots in the field, and half of the quadratic ones.
        let any: Vec<u64> = (0..degree).map(|_| random.next_u64()).collect();
        match roots(Polynomial::monic(any.clone())) {
            Some(found) => assert!(degree < 12 && found.iter().all(|root| value(&any, *root) == 0)),
            None => assert!(degree > 1),
        }
    }
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
    fn sums_of_multiples_are_those_of_the_definition(
        rows in (1_usize..70).prop_flat_map(|length| vec(vec(any::<u64>(), length), 1..5)),
        scalars in vec(any::<u64>(), 5),
    ) {
        let expected: Vec<u64> = (0..rows[0].len())
            .map(|place| rows.iter().zip(&scalars).fold(7, |sum, (row, scalar)| sum ^ multiply(row[place], *scalar)))
            .collect();
        let mut sum = vec![7; rows[0].len()];
        Multiples::of(&rows).add_sum(&mut sum, &scalars[..rows.len()]);
        prop_assert_eq!(&sum, &expected);
        let mut sum = vec![7; rows[0].len()];
        rows.iter().zip(&scalars).for_each(|(row, scalar)| add_multiple(&mut sum, *scalar, row));
        prop_assert_eq!(sum, expected);
    }

    #[test]
    fn a_polynomial_is_split_into_the_common_divisor_and_the_rest(
        common in btree_set(any::<u64>(), 0..20),
        own in btree_set(any::<u64>(), 0..20),
        other in vec(any::<u64>(), 0..40),
    ) {
        let own: Vec<u64> = own.difference(&common).copied().collect();
        let common: Vec<u64> = common.into_iter().collect();
        let other: Vec<u64> = other.into_iter().filter(|root| !own.contains(root)).collect();
        let mut multiple = product(&[common.clone(), other].concat());
        multiple.push(1);
        let whole = Polynomial::monic(product(&[common.clone(), own.clone()].concat()));
        let parts = whole.split_by(&multiple);
        prop_assert_eq!(parts, (Polynomial::monic(product(&common)), Polynomial::monic(product(&own))));
        let nothing = (whole.clone(), Polynomial::monic(Vec::new()));
        prop_assert_eq!(whole.split_by(&[]), nothing);
    }

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
    fn whatever_is_decoded_has_the_syndromes(syndromes in vec(0_u64..4, 0..8)) {
        if let Some(sids) = decode(&syndromes) {
            let mut sums = vec![0; syndromes.len()];
            for sid in sids {
                sums.iter_mut().zip(odd_powers(sid.to_u64())).for_each(|(sum, power)| *sum ^= power);
            }
            prop_assert_eq!(sums, syndromes);
        }
    }
}
