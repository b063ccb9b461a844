//! Arithmetic in GF(2^64), in safe Rust and without carry-less multiply instructions.
//!
//! An element is a polynomial over GF(2) of degree below 64, bit *i* being the coefficient of x^i, modulo
//! x^64 + x^4 + x^3 + x + 1, which is irreducible (Seroussi, *Table of low-weight binary irreducible polynomials*, HP
//! Laboratories 1998). Addition is exclusive or. What overflows is folded back by x^64 = x^4 + x^3 + x + 1.
//!
//! Nothing here is secret, so that tables may be indexed by data.

/// The field's elements are 64 bits wide.
const BITS: usize = 64;
/// Linear maps are tabulated for digits of 4 bits.
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
const fn times_x4(a: u64) -> u64 {
    (a << 4) ^ fold(a >> 60)
}

/// A polynomial of degree below 128 modulo the field's.
pub(super) const fn reduce(low: u64, high: u64) -> u64 {
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
///
/// The processor's own multiplication does it (Pornin's way, in BearSSL): of either factor every fourth bit is taken at a time, so
/// that a product has three free bits above each of its own, into which the carries go. They hold a sum of up to 15
/// ones. Since 16 can meet, the 4 highest bits of `b` are left to shifts.
#[must_use]
#[inline]
pub const fn multiply(a: u64, b: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    const PLACES: u128 = 0x1111_1111_1111_1111_1111_1111_1111_1111;
    let (a0, b0) = (a & EVERY_FOURTH, b & (EVERY_FOURTH >> 4));
    let (a1, b1) = (a & (EVERY_FOURTH << 1), b & (EVERY_FOURTH >> 4 << 1));
    let (a2, b2) = (a & (EVERY_FOURTH << 2), b & (EVERY_FOURTH >> 4 << 2));
    let (a3, b3) = (a & (EVERY_FOURTH << 3), b & (EVERY_FOURTH >> 4 << 3));
    let p0 = wide(a0, b0) ^ wide(a1, b3) ^ wide(a2, b2) ^ wide(a3, b1);
    let p1 = wide(a0, b1) ^ wide(a1, b0) ^ wide(a2, b3) ^ wide(a3, b2);
    let p2 = wide(a0, b2) ^ wide(a1, b1) ^ wide(a2, b0) ^ wide(a3, b3);
    let p3 = wide(a0, b3) ^ wide(a1, b2) ^ wide(a2, b1) ^ wide(a3, b0);
    let low = p0 & PLACES | p1 & (PLACES << 1) | p2 & (PLACES << 2) | p3 & (PLACES << 3);
    let top = [b >> 60 & 1, b >> 61 & 1, b >> 62 & 1, b >> 63];
    let a = a as u128;
    let [t0, t1, t2, t3] = top;
    let high = a & (t0 as u128).wrapping_neg()
        ^ (a & (t1 as u128).wrapping_neg()) << 1
        ^ (a & (t2 as u128).wrapping_neg()) << 2
        ^ (a & (t3 as u128).wrapping_neg()) << 3;
    let product = low ^ high << 60;
    reduce(product as u64, (product >> 64) as u64)
}

/// The product of two numbers.
const fn wide(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}

/// 1 / `a`, by Fermat: a^(2^64 - 2); 0 for 0.
///
/// Itoh and Tsujii's way: with p(k) = a^(2^k - 1), p(j + k) = p(j)^(2^k) p(k), for k = 1, 2, 3, 6, 9, 18, 27, 54, 63.
#[must_use]
pub fn invert(a: u64) -> u64 {
    let p2 = multiply(square(a), a);
    let p3 = multiply(square(p2), a);
    let p6 = multiply(SQUARE_3_TIMES.of(p3), p3);
    let p9 = multiply(SQUARE_3_TIMES.of(p6), p3);
    let p18 = multiply(SQUARE_9_TIMES.of(p9), p9);
    let p27 = multiply(SQUARE_9_TIMES.of(p18), p9);
    let p54 = multiply(SQUARE_27_TIMES.of(p27), p27);
    let p63 = multiply(SQUARE_9_TIMES.of(p54), p9);
    square(p63)
}

static SQUARE_3_TIMES: Linear<1> = Linear::squaring(3);
static SQUARE_9_TIMES: Linear<1> = Linear::squaring(9);
static SQUARE_27_TIMES: Linear<1> = Linear::squaring(27);

/// `N` maps of the field that are linear over GF(2), at once: sixteen look-ups for as many images.
#[derive(Debug)]
pub(super) struct Linear<const N: usize>([[[u64; N]; 16]; DIGITS]);

impl<const N: usize> Linear<N> {
    /// The maps with these images of 1, x, x², ...
    #[expect(
        clippy::indexing_slicing,
        reason = "a digit is below 16, and so is one below it with another bit set"
    )]
    const fn with_images(images: &[[u64; N]; BITS]) -> Self {
        let mut tables = [[[0; N]; 16]; DIGITS];
        let mut place = 0;
        while place < BITS {
            let sums = &mut tables[place / 4];
            let bit = 1 << (place % 4);
            let mut digit = 0;
            while digit < bit {
                sums[bit + digit] = add(sums[digit], images[place]);
                digit += 1;
            }
            place += 1;
        }
        Self(tables)
    }

    /// Multiplication by each of the constants.
    #[expect(
        clippy::indexing_slicing,
        reason = "a digit is below 16, and so is one below it with another bit set"
    )]
    pub(super) fn multiplication(constants: [u64; N]) -> Self {
        let mut tables = [[[0; N]; 16]; DIGITS];
        let mut place = constants;
        for sums in &mut tables {
            let mut image = place;
            for bit in [1, 2, 4, 8] {
                for digit in 0..bit {
                    sums[bit + digit] = add(sums[digit], image);
                }
                image = image.map(times_x);
            }
            // Not from the image before, so that nothing waits for it.
            place = place.map(times_x4);
        }
        Self(tables)
    }

    /// The images of `a`.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "a digit is below 16")]
    pub(super) fn all_of(&self, a: u64) -> [u64; N] {
        let (mut sum, mut rest) = ([0; N], a);
        for sums in &self.0 {
            sum = add(sum, sums[rest as usize & 15]);
            rest >>= 4;
        }
        sum
    }
}

impl Linear<1> {
    /// a -> a^(2^`times`).
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    const fn squaring(times: u32) -> Self {
        let mut images = [[0]; BITS];
        let mut place = 0;
        while place < BITS {
            let (mut image, mut done) = (1 << place, 0);
            while done < times {
                image = square(image);
                done += 1;
            }
            images[place] = [image];
            place += 1;
        }
        Self::with_images(&images)
    }

    /// The image of `a`.
    #[inline]
    pub(super) fn of(&self, a: u64) -> u64 {
        let [image] = self.all_of(a);
        image
    }
}

#[inline]
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
pub(super) fn solve_quadratic(c: u64) -> Option<u64> {
    let y = HALVES.of(c);
    (square(y) ^ y == c).then_some(y)
}

/// Inverts y -> y² + y, which is linear over GF(2), wherever it can be inverted.
static HALVES: Linear<1> = Linear::with_images(&halves());

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn halves() -> [[u64; 1]; BITS] {
    // For each highest bit an image with its preimage; (0, 0) for the one bit that no image has as its highest.
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
    // Reducing by these rows is linear, whatever the remainder: so are the sums of the preimages.
    let mut halves = [[0]; BITS];
    let mut i = 0;
    while i < BITS {
        let mut rest = 1_u64 << i;
        let mut bit = BITS;
        while bit > 0 {
            bit -= 1;
            if rest >> bit & 1 == 1 {
                rest ^= rows[bit].0;
                halves[i][0] ^= rows[bit].1;
            }
        }
        i += 1;
    }
    halves
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

    /// `a`^(2^`times`).
    fn square_times(a: u64, times: u32) -> u64 {
        (0..times).fold(a, |a, _| square(a))
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(a: u64, b: u64, c: u64) {
            prop_assert_eq!(multiply(a, b), slow_multiply(a, b));
            prop_assert_eq!(square(a), slow_multiply(a, a));
            prop_assert_eq!(times_x(a), slow_multiply(a, 2));
            let both = Linear::multiplication([b, c]).all_of(a);
            prop_assert_eq!(both, [slow_multiply(a, b), slow_multiply(a, c)]);
            prop_assert_eq!(SQUARE_27_TIMES.of(a), square_times(a, 27));
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
