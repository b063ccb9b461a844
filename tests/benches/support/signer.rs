//! Signing in bulk: a key of many small factors, with which a signature takes a tenth of the usual time.
//!
//! RSA permits more than two factors (RFC 8017, section 3), and the more there are, the less work it is to sign through the
//! remainders by each (section 5.1.2). Here they have 64 bits, so that plain machine words do. Anybody could factor such a
//! modulus: the key is worth nothing but for entries to measure with. Who verifies cannot tell, and has the work that any
//! key of this length makes.

use anyhow::{Context as _, Result};
use p2pdb::protocol::{
    id::TableId,
    keys::{PUBLIC_EXPONENT, PublicKey},
};
use rand_core::{CryptoRng, Rng as _};
use sha2::{Digest as _, Sha256};

use super::random::Random;

/// Length of a hash and of a salt, in bytes (SPEC 3.4).
const HASH_BYTES: usize = 32;
/// Factors lie between this and 2^64: however many are multiplied, up to 64, the product has its highest bit.
const LEAST_FACTOR: u64 = 0xfd70_0000_0000_0000;

/// The key of a table that signs fast, always the same for a length.
#[derive(Debug)]
pub(crate) struct Signer {
    public: PublicKey,
    factors: Vec<Factor>,
}

#[derive(Debug)]
struct Factor {
    prime: u64,
    /// The private exponent modulo `prime - 1`.
    exponent: u64,
    /// The inverse modulo `prime` of the product of the factors before.
    coefficient: u64,
}

impl Signer {
    /// The key of this length, in bits: a multiple of 64.
    pub(crate) fn new(bits: usize) -> Result<Self> {
        let mut random = Random::new(bits as u64);
        let mut factors: Vec<Factor> = Vec::new();
        while factors.len() < bits / 64 {
            let prime = random.next_u64() | LEAST_FACTOR | 1;
            let exponent = u64::from(PUBLIC_EXPONENT);
            if !is_prime(prime) || prime % exponent == 1 || factors.iter().any(|factor| factor.prime == prime)
            {
                continue;
            }
            let before = factors.iter().fold(1, |product, factor| multiply(product, factor.prime, prime));
            // d = (1 + t (p - 1)) / e, with the t that makes it whole.
            let order = u128::from(prime - 1);
            let times = exponent - power((prime - 1) % exponent, exponent - 2, exponent);
            let inverse = (1 + u128::from(times) * order) / u128::from(exponent);
            factors.push(Factor {
                prime,
                exponent: u64::try_from(inverse)?,
                coefficient: power(before, prime - 2, prime),
            });
        }
        let modulus = factors.iter().fold(vec![1], |product, factor| times_plus(product, factor.prime, 0));
        Ok(Self { public: public_key(&to_bytes(&modulus))?, factors })
    }

    pub(crate) const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) fn table_id(&self) -> TableId {
        self.public.table_id()
    }

    /// An RSA-PSS signature (SPEC 3.4).
    pub(crate) fn sign(&self, rng: &mut impl CryptoRng, message: &[u8]) -> Vec<u8> {
        let encoded = pss(rng, message, self.factors.len() * 8);
        let mut digits: Vec<u64> = Vec::with_capacity(self.factors.len());
        for factor in &self.factors {
            let prime = factor.prime;
            let remainder = encoded
                .iter()
                .rev()
                .fold(0, |remainder, limb| reduce(u128::from(remainder) << 64 | u128::from(*limb), prime));
            let signed = power(remainder, factor.exponent, prime);
            // Garner: what the digits so far come to, and what this one has to add.
            let before = (digits.iter().zip(&self.factors).rev()).fold(0, |sum, (digit, factor)| {
                reduce(u128::from(sum) * u128::from(factor.prime) + u128::from(*digit), prime)
            });
            let lacks = reduce(u128::from(signed) + u128::from(prime - before), prime);
            digits.push(multiply(lacks, factor.coefficient, prime));
        }
        let number = (digits.iter().zip(&self.factors).rev())
            .fold(Vec::with_capacity(self.factors.len()), |number, (digit, factor)| {
                times_plus(number, factor.prime, *digit)
            });
        let mut bytes = to_bytes(&number);
        let missing = self.factors.len() * 8 - bytes.len();
        bytes.splice(0..0, std::iter::repeat_n(0, missing));
        bytes
    }
}

/// EMSA-PSS (RFC 8017, 9.1.1) as a number of so many bytes, its lowest limb first.
fn pss(rng: &mut impl CryptoRng, message: &[u8], bytes: usize) -> Vec<u64> {
    let mut salt = [0; HASH_BYTES];
    rng.fill_bytes(&mut salt);
    let hash = Sha256::new()
        .chain_update([0; 8])
        .chain_update(Sha256::digest(message))
        .chain_update(salt)
        .finalize();
    let mut encoded = vec![0; bytes - 2 * HASH_BYTES - 2];
    encoded.push(1);
    encoded.extend(salt);
    for (counter, block) in encoded.chunks_mut(HASH_BYTES).enumerate() {
        let mask = Sha256::new().chain_update(hash).chain_update((counter as u32).to_be_bytes()).finalize();
        block.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
    // The encoded message has one bit less than the modulus.
    encoded.iter_mut().take(1).for_each(|byte| *byte &= 0x7f);
    encoded.extend(hash);
    encoded.push(0xbc);
    encoded.rchunks(8).map(|limb| limb.iter().fold(0, |limb, byte| limb << 8 | u64::from(*byte))).collect()
}

/// `number * factor + term`; limbs of 64 bits, the lowest first.
fn times_plus(mut number: Vec<u64>, factor: u64, term: u64) -> Vec<u64> {
    let mut carry = term;
    for limb in &mut number {
        let wide = u128::from(*limb) * u128::from(factor) + u128::from(carry);
        (*limb, carry) = (wide as u64, (wide >> 64) as u64);
    }
    if carry > 0 {
        number.push(carry);
    }
    number
}

/// The bytes of a number, the highest first.
fn to_bytes(number: &[u64]) -> Vec<u8> {
    number.iter().rev().flat_map(|limb| limb.to_be_bytes()).collect()
}

/// The key with this modulus, which has a whole number of bytes.
fn public_key(modulus: &[u8]) -> Result<PublicKey> {
    // SubjectPublicKeyInfo: the algorithm, and a bit string of a sequence of two numbers.
    const ALGORITHM: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let exponent = PUBLIC_EXPONENT.to_be_bytes();
    let exponent = exponent.get(1..).context("an exponent of three bytes")?;
    let numbers = [der(2, &[&[0], modulus].concat())?, der(2, exponent)?].concat();
    let bits = der(3, &[vec![0], der(0x30, &numbers)?].concat())?;
    Ok(PublicKey::from_der(&der(0x30, &[ALGORITHM, &bits].concat())?)?)
}

fn der(tag: u8, content: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(content.len())?;
    let length = match length {
        ..128 => vec![length as u8],
        128..256 => vec![0x81, length as u8],
        _ => [vec![0x82], length.to_be_bytes().to_vec()].concat(),
    };
    Ok([vec![tag], length, content.to_vec()].concat())
}

fn reduce(number: u128, modulus: u64) -> u64 {
    (number % u128::from(modulus)) as u64
}

fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    reduce(u128::from(a) * u128::from(b), modulus)
}

fn power(base: u64, exponent: u64, modulus: u64) -> u64 {
    (0..u64::BITS - exponent.leading_zeros()).rev().fold(1, |result, bit| {
        let square = multiply(result, result, modulus);
        if exponent >> bit & 1 == 1 { multiply(square, base, modulus) } else { square }
    })
}

/// Miller and Rabin; these bases leave no doubt below 2^64.
fn is_prime(number: u64) -> bool {
    let halvings = (number - 1).trailing_zeros();
    [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37].into_iter().all(|base| {
        let mut value = power(base, (number - 1) >> halvings, number);
        if value == 1 || value == number - 1 {
            return true;
        }
        (1..halvings).any(|_| {
            value = multiply(value, value, number);
            value == number - 1
        })
    })
}
