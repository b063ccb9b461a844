//! Count and sum of a set of ids, and the digest of both.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use crate::{codec::bounded::fixed_bytes, id::EntryId};

/// Count and sum of a set of ids: what its [`Root`] is made of, and cheap to change by one id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    pub(super) n: u64,
    pub(super) sum: Sum,
}

impl Tally {
    /// The number of ids.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Adds an id, which must not be in the set.
    pub fn insert(&mut self, id: &EntryId) {
        self.insert_sum(Sum::of(id));
    }

    /// Takes an id out, which must be in the set.
    pub fn remove(&mut self, id: &EntryId) {
        self.remove_sum(Sum::of(id));
    }

    /// Adds the ids of a set that has none in common with this one.
    pub fn merge(&mut self, other: &Self) {
        self.n = self.n.wrapping_add(other.n);
        self.sum.add(other.sum);
    }

    pub(super) fn insert_sum(&mut self, sum: Sum) {
        self.n = self.n.wrapping_add(1);
        self.sum.add(sum);
    }

    pub(super) fn remove_sum(&mut self, sum: Sum) {
        self.n = self.n.wrapping_sub(1);
        self.sum.subtract(sum);
    }

    /// The digest of the set (SPEC 10.6).
    #[must_use]
    pub fn root(&self) -> Root {
        let mut hash = Sha256::new();
        hash.update(b"p2pdb root v1");
        hash.update(self.sum.to_bytes());
        hash.update(self.n.to_be_bytes());
        Root::of(hash)
    }
}

/// The digest of a set of ids, by which two nodes see whether they have the same (SPEC 10.6).
///
/// The hash makes it useless to look for sets whose syndromes are alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root([u8; 16]);

impl Root {
    /// The root with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The first half of a hash.
    pub(in crate::reconcile) fn of(hash: Sha256) -> Self {
        let mut root = [0; 16];
        root.iter_mut().zip(hash.finalize()).for_each(|(byte, of)| *byte = of);
        Self(root)
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// The sum of ids as big-endian numbers, modulo 2^256; the least significant word first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum([u64; 4]);

impl Sum {
    pub(super) fn of(id: &EntryId) -> Self {
        Self::from_bytes(*id.as_bytes())
    }

    pub(super) fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().rev().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*bytes);
        }
        Self(words)
    }

    pub(super) fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (bytes, word) in bytes.as_chunks_mut().0.iter_mut().zip(self.0.iter().rev()) {
            *bytes = word.to_be_bytes();
        }
        bytes
    }

    pub(super) fn add(&mut self, other: Self) {
        let mut carry = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (sum, first) = word.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*word, carry) = (sum, first | second);
        }
    }

    pub(super) fn subtract(&mut self, other: Self) {
        let mut borrow = false;
        for (word, other) in self.0.iter_mut().zip(other.0) {
            let (difference, first) = word.overflowing_sub(other);
            let (difference, second) = difference.overflowing_sub(u64::from(borrow));
            (*word, borrow) = (difference, first | second);
        }
    }
}
