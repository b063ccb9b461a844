//! The roots of a polynomial that is a product of different linear factors.
//!
//! Berlekamp's trace algorithm (*Factoring polynomials over large finite fields*, 1970): the trace Tr(a), the sum of
//! a^(2^j) for j = 0 .. 63, is 0 or 1 for every element of the field. For a constant b, the greatest common divisor of P(x) and
//! Tr(b x) mod P(x) has the roots r of P with Tr(b r) = 0. Since Tr is linear and not 0 everywhere, two different
//! roots are told apart by one of the constants of a basis. So every part of P is split with one after the other
//! of them, until the parts are linear, or quadratic, which is solved at once.
//!
//! That P has only roots in the field, and each once, is equivalent to x^(2^64) = x modulo P. The powers x^(2^j) mod
//! P are needed for all the traces too. They are most of the work, and are computed once: a trace mod P is one
//! modulo every part of P.
//!
//! The basis is Cantor's (*On arithmetical algorithms over finite fields*, 1989): b_0 = 1, b_(k+1)² + b_(k+1) = b_k. Its first 2, 4,
//! 8, .. constants are in the subfields of 2^2, 2^4, 2^8, .. elements. In the subfield of 2^p elements b^(2^j)
//! repeats itself with the period p, so that Tr(b x) is a sum of p products by constants only; and the 8 or 16
//! constants that are mostly enough have short periods.

use super::{
    field::{invert, multiply, solve_quadratic, square},
    polynomial::{Multiples, Polynomial, Squaring},
};

/// The roots of a polynomial, in no order; none if one of them is multiple or outside the field.
pub(super) fn roots(polynomial: Polynomial) -> Option<Vec<u64>> {
    let mut roots = Vec::with_capacity(polynomial.degree());
    let mut traces = match polynomial.degree() {
        ..=2 => None,
        _ => Some(Traces::modulo(&polynomial)?),
    };
    // Parts of the polynomial, and the first of the constants that may tell their roots apart.
    let mut parts = vec![(polynomial, 0)];
    while let Some((part, number)) = parts.pop() {
        match part.low() {
            [] => {}
            [root] => roots.push(*root),
            [product, sum] => roots.extend(quadratic(*product, *sum)?),
            _ => {
                let (zeros, ones) = part.split_by(traces.as_mut()?.get(number)?);
                parts.extend([(zeros, number + 1), (ones, number + 1)]);
            }
        }
    }
    Some(roots)
}

/// The roots of x² + `sum` x + `product`: with x = `sum` y it is y² + y = `product` / `sum`².
fn quadratic(product: u64, sum: u64) -> Option<[u64; 2]> {
    if sum == 0 {
        return None;
    }
    let root = multiply(sum, solve_quadratic(multiply(product, square(invert(sum))))?);
    Some([root, root ^ sum])
}

/// The traces Tr(b_k x) mod P for k = 0, 1, 2, ..., as far as they were needed.
#[derive(Debug)]
struct Traces {
    traces: Vec<Vec<u64>>,
    /// The constant of the next one; none after the last.
    constant: Option<u64>,
    /// For p = 64, 32, .. 1: the sums of x^(2^j) mod P over all j that are equal modulo p. Those of periods that are
    /// done with are taken off.
    sums: Vec<Vec<Vec<u64>>>,
    /// The multiples of the last of these.
    multiples: Multiples,
    degree: usize,
}

impl Traces {
    /// None if the roots of P are not different elements of the field.
    fn modulo(polynomial: &Polynomial) -> Option<Self> {
        let mut last = conjugates(polynomial)?;
        let mut sums = Vec::new();
        while last.len() > 1 {
            let (first, second) = last.split_at(last.len() / 2);
            let next = first.iter().zip(second).map(|(a, b)| a.iter().zip(b).map(|(a, b)| a ^ b).collect());
            let next = next.collect();
            sums.push(std::mem::replace(&mut last, next));
        }
        Some(Self {
            traces: Vec::new(),
            constant: Some(1),
            multiples: Multiples::of(&last),
            degree: polynomial.degree(),
            sums,
        })
    }

    /// The trace of a number; none after the last.
    fn get(&mut self, number: usize) -> Option<&[u64]> {
        while self.traces.len() <= number {
            let constant = self.constant?;
            self.constant = solve_quadratic(constant);
            // From 1, 2, 4, .. on the constants are in the next subfield.
            if self.traces.len().is_power_of_two() {
                self.multiples = Multiples::of(&self.sums.pop()?);
            }
            let conjugates: Vec<u64> = std::iter::successors(Some(constant), |b| Some(square(*b)))
                .take(self.multiples.rows())
                .collect();
            let mut trace = vec![0; self.degree];
            self.multiples.add_sum(&mut trace, &conjugates);
            self.traces.push(trace);
        }
        self.traces.get(number).map(Vec::as_slice)
    }
}

/// x^(2^j) mod P for j = 0 .. 63; none if it is not x for j = 64.
fn conjugates(polynomial: &Polynomial) -> Option<Vec<Vec<u64>>> {
    let degree = polynomial.degree();
    let squaring = Squaring::modulo(polynomial);
    let mut conjugates: Vec<Vec<u64>> = Vec::with_capacity(65);
    for number in 0..=64 {
        let next = match 1_usize.checked_shl(number).filter(|exponent| *exponent < degree) {
            Some(exponent) => (0..degree).map(|place| u64::from(place == exponent)).collect(),
            None => squaring.square(conjugates.last()?),
        };
        conjugates.push(next);
    }
    let last = conjugates.pop()?;
    (conjugates.first() == Some(&last)).then_some(conjugates)
}
