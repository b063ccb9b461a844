//! Arithmetic in GF(2^64), in safe Rust and without carry-less multiply instructions.
//!
//! An element is a polynomial over GF(2) of degree below 64, bit *i* being the coefficient of x^i, modulo
//! x^64 + x^4 + x^3 + x + 1, which is irreducible (Seroussi, *Table of low-weight binary irreducible polynomials*, HP
//! Laboratories 1998). Addition is exclusive or. What overflows is folded back by x^64 = x^4 + x^3 + x + 1.
//!
//! Nothing here is secret, so that tables may be indexed by data.

/// The field's elements are 64 bits wide.
const BITS: usize = 64;
/// Multiplications work through a factor in digits of 4 bits.
const DIGITS: usize = BITS / 4;

/// `overflow` · x^64, without what of it overflows again: the overflow's 4 highest bits.
const fn fold(overflow: u64) -> u64 {
    overflow ^ (overflow << 1) ^ (overflow << 3) ^ (overflow << 4)
}

/// `a` · x.
pub(super) const fn times_x(a: u64) -> u64 {
    (a << 1) ^ fold(a >> 63)
}

/// `a` · x^4.
pub(super) const fn times_x4(a: u64) -> u64 {
    (a << 4) ^ fold(a >> 60)
}

/// A polynomial of degree below 128 modulo the field's.
const fn reduce(low: u64, high: u64) -> u64 {
    // What of that overflows again.
    let twice = (high >> 63) ^ (high >> 61) ^ (high >> 60);
    low ^ fold(high) ^ fold(twice)
}

/// Spreads 32 bits over the even places of 64.
const fn spread(a: u64) -> u64 {
    let a = (a | (a << 16)) & 0x0000_ffff_0000_ffff;
    let a = (a | (a << 8)) & 0x00ff_00ff_00ff_00ff;
    let a = (a | (a << 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    let a = (a | (a << 2)) & 0x3333_3333_3333_3333;
    (a | (a << 1)) & 0x5555_5555_5555_5555
}

/// `a`²: over GF(2) the mixed terms cancel, and only the bits move apart.
#[must_use]
pub const fn square(a: u64) -> u64 {
    reduce(spread(a & 0xffff_ffff), spread(a >> 32))
}

/// `a` · `b`.
#[must_use]
#[expect(clippy::indexing_slicing, reason = "a digit is below 16")]
pub fn multiply(a: u64, b: u64) -> u64 {
    // The multiples of a by all polynomials of degree below 4.
    let mut multiples = [0_u128; 16];
    let mut place = u128::from(a);
    for bit in [1, 2, 4, 8] {
        for digit in 0..bit {
            multiples[bit + digit] = multiples[digit] ^ place;
        }
        place <<= 1;
    }
    // Both halves of b from their highest digits on; two chains are faster than one twice as long.
    let (mut high, mut low, mut rest) = (0_u128, 0_u128, b);
    for _ in 0..DIGITS / 2 {
        high = (high << 4) ^ multiples[(rest >> 60) as usize];
        low = (low << 4) ^ multiples[(rest >> 28) as usize & 15];
        rest <<= 4;
    }
    let product = (high << 32) ^ low;
    reduce(product as u64, (product >> 64) as u64)
}

/// 1 / `a`, by Fermat: a^(2^64 - 2); 0 for 0.
#[must_use]
pub fn invert(a: u64) -> u64 {
    // a^(2^k - 1) for k = 1, 2, 4, ... 32: then 2^64 - 2 = 2 (2^63 - 1), 63 = 32 + 16 + 8 + 4 + 2 + 1.
    let (mut power, mut result) = (a, a);
    for k in [1, 2, 4, 8, 16] {
        power = multiply(square_times(power, k), power);
        result = multiply(square_times(result, 2 * k), power);
    }
    square(result)
}

/// `a`^(2^`times`).
fn square_times(a: u64, times: u32) -> u64 {
    (0..times).fold(a, |a, _| square(a))
}

/// Multiplication by `N` constants at once: sixteen look-ups for as many products.
#[derive(Debug)]
pub(super) struct Multiplier<const N: usize>([[[u64; N]; 16]; DIGITS]);

impl<const N: usize> Multiplier<N> {
    /// The multiples of the constants by every digit at every place.
    #[expect(
        clippy::indexing_slicing,
        reason = "a digit is below 16, and so is one below it with another bit set"
    )]
    pub(super) fn new(constants: [u64; N]) -> Self {
        let mut tables = [[[0; N]; 16]; DIGITS];
        let mut place = constants;
        for multiples in &mut tables {
            let mut constant = place;
            for bit in [1, 2, 4, 8] {
                for digit in 0..bit {
                    multiples[bit + digit] = add(multiples[digit], constant);
                }
                constant = constant.map(times_x);
            }
            place = place.map(times_x4);
        }
        Self(tables)
    }

    /// `a` times each of the constants.
    #[expect(clippy::indexing_slicing, reason = "a digit is below 16")]
    pub(super) fn times(&self, a: u64) -> [u64; N] {
        let (mut product, mut rest) = ([0; N], a);
        for multiples in &self.0 {
            product = add(product, multiples[rest as usize & 15]);
            rest >>= 4;
        }
        product
    }
}

#[expect(clippy::indexing_slicing, reason = "both have as many elements")]
const fn add<const N: usize>(mut a: [u64; N], b: [u64; N]) -> [u64; N] {
    let mut i = 0;
    while i < N {
        a[i] ^= b[i];
        i += 1;
    }
    a
}

/// A solution of y² + y = `c`; the other one is it plus 1. None if there is none.
///
/// The map y -> y² + y is linear over GF(2), so that its solutions are read off its reduced matrix.
pub(super) fn solve_quadratic(mut c: u64) -> Option<u64> {
    let mut y = 0;
    for (bit, (image, preimage)) in HALVES.iter().enumerate().rev() {
        if c >> bit & 1 == 1 {
            c ^= image;
            y ^= preimage;
        }
    }
    (c == 0).then_some(y)
}

/// For each highest bit an image of y -> y² + y with its preimage; (0, 0) for the one bit that no image has as its
/// highest.
const HALVES: [(u64, u64); BITS] = halves();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn halves() -> [(u64, u64); BITS] {
    let mut rows = [(0, 0); BITS];
    let mut i = 0;
    while i < BITS {
        let mut preimage = 1_u64 << i;
        let mut image = square(preimage) ^ preimage;
        while image != 0 {
            let bit = BITS - 1 - image.leading_zeros() as usize;
            if rows[bit].0 == 0 {
                rows[bit] = (image, preimage);
                break;
            }
            image ^= rows[bit].0;
            preimage ^= rows[bit].1;
        }
        i += 1;
    }
    rows
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, from the definition.
    fn slow_multiply(a: u64, b: u64) -> u64 {
        (0..64).rev().fold(0, |product: u64, bit| {
            let doubled = (product << 1) ^ if product >> 63 == 1 { 0x1b } else { 0 };
            doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
        })
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(a: u64, b: u64, c: u64) {
            prop_assert_eq!(multiply(a, b), slow_multiply(a, b));
            prop_assert_eq!(square(a), slow_multiply(a, a));
            prop_assert_eq!(times_x(a), slow_multiply(a, 2));
            prop_assert_eq!(times_x4(a), slow_multiply(a, 16));
            prop_assert_eq!(Multiplier::new([b, c]).times(a), [slow_multiply(a, b), slow_multiply(a, c)]);
        }

        #[test]
        fn an_inverse_undoes_a_product(a in 1_u64..) {
            prop_assert_eq!(multiply(a, invert(a)), 1);
        }

        #[test]
        fn quadratic_equations_are_solved(y: u64, c: u64) {
            let solution = solve_quadratic(square(y) ^ y);
            prop_assert!(solution == Some(y) || solution == Some(y ^ 1));
            // Half of all equations have no solution: those whose constant has the trace 1.
            let trace = (0..64).fold((c, 0), |(power, sum), _| (square(power), sum ^ power)).1;
            prop_assert_eq!(solve_quadratic(c).is_some(), trace == 0);
        }
    }

    #[test]
    fn squaring_64_times_is_the_identity() {
        // Together with the next test this proves the polynomial irreducible.
        assert_eq!(square_times(2, 64), 2);
        assert_ne!(square_times(2, 32), 2);
        assert_eq!(invert(0), 0);
    }

    #[test]
    fn the_greatest_factors_overflow_twice() {
        for a in [u64::MAX, 1 << 63, 0xf << 60] {
            assert_eq!(square(a), slow_multiply(a, a));
            assert_eq!(multiply(a, u64::MAX), slow_multiply(a, u64::MAX));
        }
    }
}
