//! The sketch of a group of ids.

use super::{
    Element, GROUP_SYNDROMES, Tally,
    row::{Reader, Writer},
};

/// Count, sum and 64 syndromes of a set of ids.
///
/// The syndromes are the sums of the first, third, fifth, ... power of the sids in GF(2^64); since (a + b)² = a² + b², they
/// determine those of the even powers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    tally: Tally,
    syndromes: [u64; GROUP_SYNDROMES],
}

impl Default for Group {
    /// The group of no ids.
    fn default() -> Self {
        Self { tally: Tally::default(), syndromes: [0; GROUP_SYNDROMES] }
    }
}

impl Group {
    /// Length of a row, in bytes.
    pub const ROW_BYTES: usize = 8 + 32 + 8 * GROUP_SYNDROMES;

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

    /// The syndromes.
    #[must_use]
    pub const fn syndromes(&self) -> &[u64; GROUP_SYNDROMES] {
        &self.syndromes
    }

    /// Adds an id, which must not be in the set.
    pub fn insert(&mut self, element: &Element) {
        self.tally.insert_sum(element.sum);
        self.flip(&element.powers);
    }

    /// Takes an id out, which must be in the set.
    pub fn remove(&mut self, element: &Element) {
        self.tally.remove_sum(element.sum);
        self.flip(&element.powers);
    }

    /// Adds the ids of a group that has none in common with this one.
    pub fn merge(&mut self, other: &Self) {
        self.tally.merge(&other.tally);
        self.flip(&other.syndromes);
    }

    fn flip(&mut self, syndromes: &[u64; GROUP_SYNDROMES]) {
        self.syndromes.iter_mut().zip(syndromes).for_each(|(own, other)| *own ^= other);
    }

    /// The row of the group: count, sum, syndromes; all big-endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::ROW_BYTES] {
        let mut row = [0; Self::ROW_BYTES];
        let mut writer = Writer(&mut row);
        writer.tally(&self.tally);
        writer.words(&self.syndromes);
        row
    }

    /// The group of a row.
    #[must_use]
    pub fn from_bytes(row: &[u8; Self::ROW_BYTES]) -> Self {
        let mut reader = Reader(row);
        let tally = reader.tally();
        Self { tally, syndromes: reader.words() }
    }
}
