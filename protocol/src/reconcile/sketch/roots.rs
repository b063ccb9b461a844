//! The roots of a polynomial that is a product of different linear factors.
//!
//! Berlekamp's trace algorithm (*Factoring polynomials over large finite fields*, 1970): the trace Tr(a), the sum of
//! a^(2^j) for j = 0 .. 63, is 0 or 1 for every element of the field. For a constant b, the greatest common divisor of P(x) and
//! Tr(b x) mod P(x) has the roots r of P with Tr(b r) = 0. Since Tr is linear and not 0 everywhere, two different
//! roots are told apart by one of the constants 1, x, .. x^63 of a basis. So every part of P is split with one after the other
//! of them, until the parts are linear.
//!
//! That P has only roots in the field, and each once, is equivalent to x^(2^64) = x modulo P. The powers x^(2^j) mod
//! P are needed for all the traces too; they are computed once for each part.

use super::{
    field::{invert, multiply, solve_quadratic, square},
    polynomial::{Polynomial, Squaring, add_multiple},
};

/// The roots of a polynomial, in no order; none if one of them is multiple or outside the field.
pub(super) fn roots(polynomial: Polynomial) -> Option<Vec<u64>> {
    let mut roots = Vec::with_capacity(polynomial.degree());
    // Parts of the polynomial, and the first of the constants that may tell their roots apart.
    let mut parts = vec![(polynomial, 0)];
    while let Some((part, first)) = parts.pop() {
        match part.low() {
            [] => {}
            [root] => roots.push(*root),
            [product, sum] => roots.extend(quadratic(*product, *sum)?),
            _ => {
                let conjugates = conjugates(&part)?;
                let (next, zeros, ones) = split(&part, &conjugates, first)?;
                parts.extend([(zeros, next), (ones, next)]);
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

/// x^(2^j) mod P for j = 0 .. 63; none if it is not x for j = 64.
fn conjugates(polynomial: &Polynomial) -> Option<Vec<Vec<u64>>> {
    let squaring = Squaring::modulo(polynomial);
    let mut x = vec![0; polynomial.degree()];
    *x.get_mut(1)? = 1;
    let mut conjugates = Vec::with_capacity(64);
    let mut power = x.clone();
    for _ in 0..64 {
        let next = squaring.square(&power);
        conjugates.push(power);
        power = next;
    }
    (power == x).then_some(conjugates)
}

/// Two parts with the product P, neither of which is 1, and the number of the constant to go on with.
fn split(
    polynomial: &Polynomial,
    conjugates: &[Vec<u64>],
    first: u32,
) -> Option<(u32, Polynomial, Polynomial)> {
    for number in first..64 {
        let mut constant = 1_u64 << number;
        let mut trace = vec![0; polynomial.degree()];
        for conjugate in conjugates {
            add_multiple(&mut trace, constant, conjugate);
            constant = square(constant);
        }
        let (zeros, ones) = polynomial.split_by(trace);
        if zeros.degree() > 0 && ones.degree() > 0 {
            return Some((number + 1, zeros, ones));
        }
    }
    None
}
