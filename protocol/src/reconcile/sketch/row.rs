//! Reading and writing of rows: big-endian numbers one after another.

use super::{Tally, tally::Sum};

/// Reads a row from its beginning.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    /// The next `N` bytes; zeros where the row has ended, which does not happen to a row of the right length.
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *bytes
    }

    /// The next numbers.
    pub(super) fn words<const N: usize>(&mut self) -> [u64; N] {
        std::array::from_fn(|_| u64::from_be_bytes(self.take()))
    }

    /// Count and sum.
    pub(super) fn tally(&mut self) -> Tally {
        let [n] = self.words();
        Tally { n, sum: Sum::from_bytes(self.take()) }
    }
}

/// Writes a row from its beginning.
pub(super) struct Writer<'a>(pub(super) &'a mut [u8]);

impl Writer<'_> {
    /// Writes bytes; what is beyond the end of the row is left out, which does not happen to a row of the right length.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let row = std::mem::take(&mut self.0);
        let Some((start, rest)) = row.split_at_mut_checked(bytes.len()) else { return };
        start.copy_from_slice(bytes);
        self.0 = rest;
    }

    /// Writes numbers.
    pub(super) fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.put(&word.to_be_bytes()));
    }

    /// Writes count and sum.
    pub(super) fn tally(&mut self, tally: &Tally) {
        self.words(&[tally.n]);
        self.put(&tally.sum.to_bytes());
    }
}
