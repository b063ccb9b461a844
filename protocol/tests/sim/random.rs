//! Random numbers that depend on the seed only; the unit tests of the crate include this file too.

#![allow(dead_code, unreachable_pub, reason = "each crate that includes this file uses another part")]
#![allow(clippy::expect_used, clippy::print_stdout)]

use std::{convert::Infallible, env, ops::Range};

use rand_core::{Rng as _, TryRng};

/// SplitMix64: portable, and good enough for choices in tests.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of a test: `P2PDB_SEED` if it is set, else the given one. It is printed, to repeat a failure.
    pub fn seeded(test: &str, default: u64) -> Self {
        let seed = match env::var("P2PDB_SEED") {
            Ok(text) => text.parse().expect("P2PDB_SEED is a number"),
            Err(_) => default,
        };
        println!("{test}: P2PDB_SEED={seed}");
        Self(seed)
    }

    pub fn range(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next_u64() % (range.end - range.start)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.range(0..end as u64) as usize
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        ((self.next_u64() >> 11) as f64 / (1_u64 << 53) as f64) < probability
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill_bytes(&mut bytes);
        bytes
    }
}

impl TryRng for Random {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|number| (number >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(mixed ^ (mixed >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand_core::utils::fill_bytes_via_next_word(bytes, || self.try_next_u64())
    }
}
