//! The hash function of the puzzles: SHA-256 of a message that fits one block.

use sha2::block_api::compress256;

/// The initial state of SHA-256 (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
/// Seed, puzzle number and nonce, in bytes (SPEC 5.2).
const MESSAGE_BYTES: usize = 32 + 4 + 8;

/// The one block of the messages of one entry: padded once, after which only the number of the puzzle and the nonce change.
///
/// That is what makes it twice as fast as a general hasher, which buffers and pads anew for every nonce.
pub(super) struct Block([u8; 64]);

impl Block {
    /// The block of a puzzle.
    pub(super) fn new(seed: &[u8; 32], index: u32) -> Self {
        let bits = (MESSAGE_BYTES as u64 * 8).to_be_bytes();
        let message = seed.iter().copied().chain([0; 4 + 8]);
        let padded = message.chain([0x80]).chain([0; 11]).chain(bits);
        let mut block = [0; 64];
        for (place, byte) in block.iter_mut().zip(padded) {
            *place = byte;
        }
        let mut block = Self(block);
        block.turn_to(index);
        block
    }

    /// Goes on with another puzzle of the same entry.
    pub(super) fn turn_to(&mut self, index: u32) {
        if let Some(place) = self.0.get_mut(32..32 + 4) {
            place.copy_from_slice(&index.to_be_bytes());
        }
    }

    /// The first 64 bits of the hash with this nonce.
    #[inline]
    pub(super) fn value(&mut self, nonce: u64) -> u64 {
        if let Some(place) = self.0.get_mut(MESSAGE_BYTES - 8..MESSAGE_BYTES) {
            place.copy_from_slice(&nonce.to_be_bytes());
        }
        let mut state = INITIAL;
        compress256(&mut state, std::slice::from_ref(&self.0));
        let [high, low, ..] = state;
        u64::from(high) << 32 | u64::from(low)
    }

    /// The first of `count` nonces from `start` on whose value is at most `target`.
    pub(super) fn search(&mut self, start: u64, count: u64, target: u64) -> Option<u64> {
        (0..count).map(|step| start.wrapping_add(step)).find(|nonce| self.value(*nonce) <= target)
    }
}

/// Does this many hashes on the calling thread and returns how many were done, so that the caller can time it and
/// tell a user how long the work of an entry will take.
#[must_use]
pub fn benchmark(hashes: u64) -> u64 {
    let mut block = Block::new(&[0x5a; 32], 0);
    for nonce in 0..hashes {
        std::hint::black_box(block.value(nonce));
    }
    hashes
}
