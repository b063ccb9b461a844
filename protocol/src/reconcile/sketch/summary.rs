//! The sketch of a whole table.

use super::{
    Element, Root, SUMMARY_SYNDROMES, TOW_COUNTERS, Tally,
    row::{Reader, Writer},
};

/// Count, sum, estimator and 16 syndromes of a set of ids: what tells sets apart, and small differences between
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    tally: Tally,
    tow: Tow,
    syndromes: [u64; SUMMARY_SYNDROMES],
}

impl Summary {
    /// Length of a row, in bytes.
    pub const ROW_BYTES: usize = 8 + 32 + Tow::BYTES + 8 * SUMMARY_SYNDROMES;

    /// Count and sum.
    #[must_use]
    pub const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The number of ids.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.tally.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tally.is_empty()
    }

    /// The counters of the estimator.
    #[must_use]
    pub const fn tow(&self) -> &Tow {
        &self.tow
    }

    /// The syndromes, as those of a [`Group`](super::Group).
    #[must_use]
    pub const fn syndromes(&self) -> &[u64; SUMMARY_SYNDROMES] {
        &self.syndromes
    }

    /// The digest of the set (SPEC 10.6).
    #[must_use]
    pub fn root(&self) -> Root {
        self.tally.root()
    }

    /// Adds an id, which must not be in the set.
    pub fn insert(&mut self, element: &Element) {
        self.tally.insert_sum(element.sum);
        self.tow.count(element.signs, 1);
        self.flip(&element.powers);
    }

    /// Takes an id out, which must be in the set.
    pub fn remove(&mut self, element: &Element) {
        self.tally.remove_sum(element.sum);
        self.tow.count(element.signs, u16::MAX);
        self.flip(&element.powers);
    }

    /// Adds the ids of a summary that has none in common with this one.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.tow.0.iter_mut().zip(&other.tow.0).for_each(|(own, other)| *own = own.wrapping_add(*other));
        self.flip(&other.syndromes);
    }

    fn flip(&mut self, syndromes: &[u64]) {
        self.syndromes.iter_mut().zip(syndromes).for_each(|(own, other)| *own ^= other);
    }

    /// The row of the summary: count, sum, counters, syndromes; all big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ROW_BYTES] {
        let mut row = [0; Self::ROW_BYTES];
        let mut writer = Writer(&mut row);
        writer.tally(&self.tally);
        writer.put(&self.tow.to_bytes());
        writer.words(&self.syndromes);
        row
    }

    /// The summary of a row.
    #[must_use]
    pub fn from_bytes(row: &[u8; Self::ROW_BYTES]) -> Self {
        let mut reader = Reader(row);
        let tally = reader.tally();
        let tow = Tow::from_bytes(&reader.take());
        Self { tally, tow, syndromes: reader.words() }
    }
}

/// The tug-of-war estimator (Alon, Matias, Szegedy, *The space complexity of approximating the frequency moments*, 1996).
///
/// Every id pulls each of 64 counters up or down, by bits of its own. What both sets have cancels in the difference of
/// their counters; of the rest, each counter's difference is a random walk of as many steps as ids differ, so that its
/// square is on average their number.
///
/// The counters are kept modulo 2^16. A walk that leaves 16 bits takes more than ten million steps, and what it
/// then leads to is still an estimate too great for sketches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tow([u16; TOW_COUNTERS]);

impl Default for Tow {
    /// The counters of no ids.
    fn default() -> Self {
        Self([0; TOW_COUNTERS])
    }
}

impl Tow {
    /// Length in bytes.
    pub const BYTES: usize = 2 * TOW_COUNTERS;

    /// The counters one after another, big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let pairs = bytes.as_chunks_mut().0.iter_mut();
        pairs.zip(self.0).for_each(|(bytes, counter)| *bytes = counter.to_be_bytes());
        bytes
    }

    /// The counters that [`to_bytes`](Self::to_bytes) wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let mut reader = Reader(bytes);
        Self(std::array::from_fn(|_| u16::from_be_bytes(reader.take())))
    }

    /// How many ids only one of two sets has, by their counters: exact for 0, otherwise with a standard deviation
    /// of 18 %.
    #[must_use]
    pub fn distance(&self, other: &Self) -> u64 {
        let squares = self.0.iter().zip(other.0).map(|(own, other)| {
            let difference = i64::from(own.wrapping_sub(other).cast_signed());
            difference.unsigned_abs().pow(2)
        });
        squares.sum::<u64>().div_ceil(TOW_COUNTERS as u64)
    }

    /// Lets an id pull: up where its bit is set, from the most significant one.
    fn count(&mut self, signs: u64, up: u16) {
        for (bit, counter) in (0..TOW_COUNTERS).rev().zip(&mut self.0) {
            let step = if signs >> bit & 1 == 1 { up } else { up.wrapping_neg() };
            *counter = counter.wrapping_add(step);
        }
    }
}
