//! Monic polynomials over GF(2^64).

use super::field::{Multiplier, invert, multiply, square, times_x, times_x4};

/// Shorter lists are multiplied by a scalar without the scalar's table.
const WORTH_A_TABLE: usize = 12;

/// A monic polynomial: the coefficients from the constant one on, without the leading 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Polynomial(Vec<u64>);

impl Polynomial {
    /// The monic polynomial with these coefficients before the leading 1.
    pub(super) const fn monic(low: Vec<u64>) -> Self {
        Self(low)
    }

    /// The polynomial divided by its leading coefficient; none for 0. `coefficients` may end in zeros.
    fn made_monic(mut coefficients: Vec<u64>) -> Option<Self> {
        while let Some(leading) = coefficients.pop() {
            if leading != 0 {
                let mut low = vec![0; coefficients.len()];
                add_multiple(&mut low, invert(leading), &coefficients);
                return Some(Self(low));
            }
        }
        None
    }

    pub(super) const fn degree(&self) -> usize {
        self.0.len()
    }

    /// The coefficients without the leading 1.
    pub(super) fn low(&self) -> &[u64] {
        &self.0
    }

    /// Divides: `dividend` becomes the remainder, and the quotient is returned.
    fn divide(&self, dividend: &mut Vec<u64>) -> Vec<u64> {
        let mut quotient = Vec::new();
        while dividend.len() > self.degree() {
            let leading = dividend.pop().unwrap_or_default();
            let shift = dividend.len() - self.degree();
            if let Some(part) = dividend.get_mut(shift..) {
                add_multiple(part, leading, &self.0);
            }
            quotient.push(leading);
        }
        quotient.reverse();
        quotient
    }

    /// The greatest common divisor with another polynomial, and what this one divided by it is.
    pub(super) fn split_by(&self, other: Vec<u64>) -> (Self, Self) {
        let (mut divisor, mut rest) = (self.clone(), other);
        // Euclid's algorithm; each round the degree sinks.
        while let Some(smaller) = Self::made_monic(rest) {
            rest = divisor.0;
            rest.push(1);
            smaller.divide(&mut rest);
            divisor = smaller;
        }
        let mut dividend = self.0.clone();
        dividend.push(1);
        let mut quotient = divisor.divide(&mut dividend);
        quotient.pop();
        (divisor, Self(quotient))
    }
}

/// `sum` += `scalar` · `terms`, as far as both go.
pub(super) fn add_multiple(sum: &mut [u64], scalar: u64, terms: &[u64]) {
    if scalar == 0 {
        return;
    }
    let pairs = sum.iter_mut().zip(terms);
    if terms.len() < WORTH_A_TABLE {
        pairs.for_each(|(sum, term)| *sum ^= multiply(scalar, *term));
    } else {
        let by = Multiplier::new([scalar]);
        for (sum, term) in pairs {
            let [product] = by.times(*term);
            *sum ^= product;
        }
    }
}

/// Squaring modulo a polynomial P of degree d.
///
/// The square of a_0 + a_1 x + .. is a_0² + a_1² x² + .., so that what remains is to add a_i² (x^2i mod P) for
/// d / 2 <= i < d. Of these x^2i mod P all multiples by a digit of 4 bits are kept, and the sum is made digit by digit
/// from the highest, shifting the d coefficients in between, all in straight loops over them.
#[derive(Debug)]
pub(super) struct Squaring {
    degree: usize,
    /// For i = ceil(d / 2), .. d - 1: 16 times d coefficients.
    multiples: Vec<Vec<u64>>,
}

impl Squaring {
    pub(super) fn modulo(polynomial: &Polynomial) -> Self {
        let (degree, low) = (polynomial.degree(), polynomial.low());
        let mut multiples = Vec::with_capacity(degree / 2);
        // x^d mod P, then by one more x each time.
        let mut power = low.to_vec();
        for exponent in degree..(2 * degree).saturating_sub(1) {
            if exponent % 2 == 0 {
                multiples.push(digit_multiples(&power));
            }
            let leading = power.pop().unwrap_or_default();
            power.insert(0, 0);
            add_multiple(&mut power, leading, low);
        }
        Self { degree, multiples }
    }

    /// The square of a polynomial of d coefficients.
    pub(super) fn square(&self, polynomial: &[u64]) -> Vec<u64> {
        let (inside, beyond) = polynomial.split_at(self.degree.div_ceil(2).min(polynomial.len()));
        let mut result = vec![0; self.degree];
        let beyond: Vec<u64> = beyond.iter().map(|a| square(*a)).collect();
        for shift in (0..64).step_by(4).rev() {
            result.iter_mut().for_each(|a| *a = times_x4(*a));
            for (square, multiples) in beyond.iter().zip(&self.multiples) {
                let digit = (square >> shift) as usize & 15;
                let terms = multiples.get(digit * self.degree..).unwrap_or_default();
                result.iter_mut().zip(terms).for_each(|(a, term)| *a ^= term);
            }
        }
        for (a, even) in inside.iter().zip(result.iter_mut().step_by(2)) {
            *even ^= square(*a);
        }
        result
    }
}

/// The multiples of a list of coefficients by all digits of 4 bits, one list after another.
fn digit_multiples(coefficients: &[u64]) -> Vec<u64> {
    let mut multiples = vec![0; 16 * coefficients.len()];
    let mut place = coefficients.to_vec();
    for bit in [1, 2, 4, 8] {
        let (lower, upper) = multiples.split_at_mut(bit * coefficients.len());
        for ((upper, lower), place) in upper.iter_mut().zip(lower).zip(place.iter().cycle()) {
            *upper = *lower ^ place;
        }
        place.iter_mut().for_each(|a| *a = times_x(*a));
    }
    multiples
}
