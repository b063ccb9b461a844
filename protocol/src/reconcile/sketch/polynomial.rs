//! Polynomials over GF(2^64): their coefficients from the constant one on.

use super::field::{invert, multiply, reduce, square, times_x};

/// A monic polynomial: the coefficients from the constant one on, without the leading 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Polynomial(Vec<u64>);

impl Polynomial {
    /// The monic polynomial with these coefficients before the leading 1.
    pub(super) const fn monic(low: Vec<u64>) -> Self {
        Self(low)
    }

    pub(super) const fn degree(&self) -> usize {
        self.0.len()
    }

    /// The coefficients without the leading 1.
    pub(super) fn low(&self) -> &[u64] {
        &self.0
    }

    /// Divides: what remains of `dividend` are its first coefficients, as many as the degree, and the quotient
    /// follows them.
    fn divide(&self, dividend: &mut [u64]) {
        let low = (self.degree() >= WORTH_LANES).then(|| Multiples::of(&[&self.0]));
        for shift in (0..dividend.len().saturating_sub(self.degree())).rev() {
            let Some((leading, part)) =
                dividend.get_mut(shift..=shift + self.degree()).and_then(|part| part.split_last_mut())
            else {
                return;
            };
            match &low {
                Some(low) => low.add_sum(part, &[*leading]),
                None => add_multiple(part, *leading, &self.0),
            }
        }
    }

    /// The greatest common divisor with another polynomial, and what this one divided by it is.
    pub(super) fn split_by(&self, other: &[u64]) -> (Self, Self) {
        let mut rest = other.to_vec();
        self.divide(&mut rest);
        rest.truncate(self.degree());
        let mut whole = self.0.clone();
        whole.push(1);
        let divisor = Self(greatest_common_divisor(whole.clone(), rest));
        divisor.divide(&mut whole);
        // The leading 1 is where it was.
        whole.pop();
        whole.drain(..divisor.degree());
        (divisor, Self(whole))
    }
}

/// Euclid's algorithm; the result is monic, without its leading 1. `rest` has fewer coefficients than `divisor`, whose last is
/// not 0.
fn greatest_common_divisor(mut divisor: Vec<u64>, mut rest: Vec<u64>) -> Vec<u64> {
    loop {
        while rest.pop_if(|leading| *leading == 0).is_some() {}
        let Some((leading, low)) = rest.split_last() else { break };
        let inverse = invert(*leading);
        while divisor.len() > low.len() {
            let factor = multiply(divisor.pop().unwrap_or_default(), inverse);
            if let Some(start) = divisor.len().checked_sub(low.len())
                && let Some(part) = divisor.get_mut(start..)
            {
                add_multiple(part, factor, low);
            }
        }
        std::mem::swap(&mut divisor, &mut rest);
    }
    let inverse = invert(divisor.pop().unwrap_or_default());
    divisor.iter_mut().for_each(|a| *a = multiply(*a, inverse));
    divisor
}

/// Shorter lists are multiplied by a scalar one by one.
const WORTH_LANES: usize = 5;

/// `sum` += `scalar` · `terms`, as far as both go.
pub(super) fn add_multiple(sum: &mut [u64], scalar: u64, terms: &[u64]) {
    if terms.len() < WORTH_LANES {
        return sum.iter_mut().zip(terms).for_each(|(sum, term)| *sum ^= multiply(scalar, *term));
    }
    for (sum, terms) in sum.chunks_mut(LANES).zip(terms.chunks(LANES)) {
        add_lanes(sum, sum_of_products(&[scalar], &[digit_multiples(terms)]));
    }
}

/// Lists of coefficients of one length, to be multiplied by scalars and added up.
///
/// All multiples of the coefficients by a digit of 4 bits are kept. A sum is made digit by digit from the highest, some coefficients
/// at a time, with all their bits shifted in between and reduced once at the end.
#[derive(Debug)]
pub(super) struct Multiples {
    /// The number of lists.
    rows: usize,
    /// For every [`LANES`] coefficients the multiples of those of each list.
    multiples: Vec<[Lanes; 16]>,
}

/// Coefficients that are computed together: as many as the processor has registers for, and a line of its cache.
const LANES: usize = 8;

#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
struct Lanes([u64; LANES]);

impl Lanes {
    const ZERO: Self = Self([0; LANES]);

    #[inline]
    #[expect(clippy::indexing_slicing, reason = "both have as many lanes")]
    fn add(&mut self, other: &Self) {
        for lane in 0..LANES {
            self.0[lane] ^= other.0[lane];
        }
    }
}

fn add_lanes(sum: &mut [u64], lanes: Lanes) {
    sum.iter_mut().zip(lanes.0).for_each(|(sum, lane)| *sum ^= lane);
}

impl Multiples {
    pub(super) fn of(rows: &[impl AsRef<[u64]>]) -> Self {
        let length = rows.first().map_or(0, |row| row.as_ref().len());
        let multiples = (0..length).step_by(LANES).flat_map(|start| {
            rows.iter().map(move |row| digit_multiples(row.as_ref().get(start..).unwrap_or_default()))
        });
        Self { rows: rows.len(), multiples: multiples.collect() }
    }

    /// The number of lists.
    pub(super) const fn rows(&self) -> usize {
        self.rows
    }

    /// `sum` += the sum of the scalars times the lists.
    pub(super) fn add_sum(&self, sum: &mut [u64], scalars: &[u64]) {
        for (lanes, multiples) in sum.chunks_mut(LANES).zip(self.multiples.chunks(self.rows.max(1))) {
            add_lanes(lanes, sum_of_products(scalars, multiples));
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "a digit is below 16, and all have as many lanes")]
fn sum_of_products(scalars: &[u64], multiples: &[[Lanes; 16]]) -> Lanes {
    let (mut low, mut high) = (Lanes::ZERO, Lanes::ZERO);
    for place in (0..64).step_by(4).rev() {
        for lane in 0..LANES {
            // So far will it be shifted until the end.
            high.0[lane] ^= low.0[lane] >> 60 << place;
            low.0[lane] <<= 4;
        }
        for (scalar, multiples) in scalars.iter().zip(multiples) {
            low.add(&multiples[(scalar >> place) as usize & 15]);
        }
    }
    Lanes(std::array::from_fn(|lane| reduce(low.0[lane], high.0[lane])))
}

/// The multiples of the first coefficients by all digits of 4 bits.
#[expect(clippy::indexing_slicing, reason = "a digit below 16 with another bit set is too")]
fn digit_multiples(coefficients: &[u64]) -> [Lanes; 16] {
    let mut place = Lanes::ZERO;
    place.0.iter_mut().zip(coefficients).for_each(|(place, a)| *place = *a);
    let mut multiples = [Lanes::ZERO; 16];
    for bit in [1, 2, 4, 8] {
        for digit in 0..bit {
            multiples[bit + digit] = multiples[digit];
            multiples[bit + digit].add(&place);
        }
        place.0 = place.0.map(times_x);
    }
    multiples
}

/// Squaring modulo a polynomial P of degree d.
///
/// The square of a_0 + a_1 x + .. is a_0² + a_1² x² + .., so that what remains is to add a_i² (x^2i mod P) for
/// d / 2 <= i < d.
#[derive(Debug)]
pub(super) struct Squaring {
    degree: usize,
    /// x^2i mod P.
    beyond: Multiples,
}

impl Squaring {
    pub(super) fn modulo(polynomial: &Polynomial) -> Self {
        let degree = polynomial.degree();
        let low = Multiples::of(&[polynomial.low()]);
        let mut rows = Vec::with_capacity(degree / 2);
        // x^d mod P, then by one more x each time.
        let mut power = polynomial.low().to_vec();
        for exponent in degree..(2 * degree).saturating_sub(1) {
            if exponent % 2 == 0 {
                rows.push(power.clone());
            }
            power.rotate_right(1);
            let leading = power.first_mut().map_or(0, std::mem::take);
            low.add_sum(&mut power, &[leading]);
        }
        Self { degree, beyond: Multiples::of(&rows) }
    }

    /// The square of a polynomial of d coefficients.
    pub(super) fn square(&self, polynomial: &[u64]) -> Vec<u64> {
        let squares: Vec<u64> = polynomial.iter().map(|a| square(*a)).collect();
        let (inside, beyond) = squares.split_at(self.degree.div_ceil(2).min(squares.len()));
        let mut result = vec![0; self.degree];
        result.iter_mut().step_by(2).zip(inside).for_each(|(even, square)| *even = *square);
        self.beyond.add_sum(&mut result, beyond);
        result
    }
}
