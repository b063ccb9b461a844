//! Proof of work: its price, checking it and finding it (SPEC 5.1-5.4).
//!
//! [`check`] is what a node does for every entry before anything that costs more, [`Solver`] what a client does for
//! half a minute before it posts.

mod hash;
mod solver;

use hash::Block;
pub use hash::benchmark;
use sha2::{Digest, Sha256};
pub use solver::{Cancelled, Progress, Solver, StateError};

use crate::{id::EntryId, network::Network, refusal::Refusal};

/// The length of one nonce, in bytes (SPEC 5.2).
pub const NONCE_BYTES: usize = 8;

/// What an entry costs on this network, in hashes, on average (SPEC 5.1).
///
/// `size` is the length of its header and body together, in bytes.
#[must_use]
pub fn price(network: &Network, size: u64) -> u128 {
    let base = network.work_base_bytes.max(1);
    u128::from(network.work_price) * u128::from(size.max(base)) / u128::from(base)
}

/// The puzzles of one entry (SPEC 5.1, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Puzzle {
    seed: [u8; 32],
    target: u64,
    puzzles: u32,
}

impl Puzzle {
    /// The puzzles of this entry on this network; `size` is the length of its header and body together, in bytes.
    #[must_use]
    pub fn for_entry(network: &Network, id: &EntryId, size: u64) -> Self {
        // A network that passes its check has at most 256 puzzles.
        let puzzles = u32::try_from(network.work_puzzles).unwrap_or(u32::MAX).max(1);
        let price = price(network, size).div_ceil(u128::from(puzzles)).max(1);
        let target = u64::try_from(u128::from(u64::MAX) / price).unwrap_or(u64::MAX);
        let seed = Sha256::new().chain_update("p2pdb work v1").chain_update(id.as_bytes()).finalize().into();
        Self { seed, target, puzzles }
    }

    /// The number of puzzles.
    #[must_use]
    pub const fn puzzles(&self) -> u32 {
        self.puzzles
    }

    /// The greatest value that solves a puzzle (SPEC 5.1).
    #[must_use]
    pub const fn target(&self) -> u64 {
        self.target
    }

    /// The length that the work must have, in bytes (SPEC 5.3).
    #[must_use]
    pub const fn work_bytes(&self) -> usize {
        self.puzzles as usize * NONCE_BYTES
    }
}

/// Checks the work of an entry and returns its effort (SPEC 5.3, 5.4).
///
/// # Errors
///
/// [`Refusal::WorkMalformed`] for a wrong length, before anything is hashed; [`Refusal::WorkInsufficient`] at the first
/// puzzle that is not solved.
pub fn check(puzzle: &Puzzle, work: &[u8]) -> Result<u64, Refusal> {
    // Preparing a block costs as much as hashing two.
    let mut block = Block::new(&puzzle.seed, 0);
    check_by(puzzle, work, |index, nonce| {
        block.turn_to(index);
        block.value(nonce)
    })
}

/// [`check`] with the hash function as an argument, so that a test can count its calls.
fn check_by(puzzle: &Puzzle, work: &[u8], mut value: impl FnMut(u32, u64) -> u64) -> Result<u64, Refusal> {
    if work.len() != puzzle.work_bytes() {
        return Err(Refusal::WorkMalformed);
    }
    let (nonces, _) = work.as_chunks::<NONCE_BYTES>();
    let mut worst = 1;
    for (index, nonce) in (0..puzzle.puzzles).zip(nonces) {
        let value = value(index, u64::from_be_bytes(*nonce));
        if value > puzzle.target {
            return Err(Refusal::WorkInsufficient);
        }
        worst = worst.max(value);
    }
    Ok(u64::from(puzzle.puzzles).saturating_mul(u64::MAX / worst))
}

#[cfg(test)]
mod tests;
