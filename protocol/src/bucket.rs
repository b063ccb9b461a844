//! Buckets of a table and the digests by which two nodes compare them (SPEC 5.5, 5.6).

use std::fmt;

use md5::{Digest as _, Md5};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{codec::bounded::fixed_bytes, id::EntryId, limits::MAX_BUCKET_BITS};

/// The bucket of an entry: the leading `bits` bits of its id (SPEC 5.5).
#[must_use]
pub fn bucket_of(id: &EntryId, bits: u8) -> u16 {
    let [first, second, ..] = *id.as_bytes();
    // With 0 bits the shift is as wide as the number, and everything is in bucket 0.
    u16::from_be_bytes([first, second]).checked_shr(unused_bits(bits)).unwrap_or(0)
}

/// The least and the greatest id that can lie in `bucket`, both inclusive.
///
/// A number beyond the last bucket counts as the last one.
#[must_use]
pub fn id_range(bucket: u16, bits: u8) -> (EntryId, EntryId) {
    let unused = unused_bits(bits);
    let last = u16::MAX.checked_shr(unused).unwrap_or(0);
    let start = bucket.min(last).checked_shl(unused).unwrap_or(0);
    let end = start | !u16::MAX.checked_shl(unused).unwrap_or(0);
    let id = |[first, second]: [u8; 2], rest: u8| {
        let mut bytes = [rest; 32];
        [bytes[0], bytes[1]] = [first, second];
        EntryId::from_bytes(bytes)
    };
    (id(start.to_be_bytes(), 0), id(end.to_be_bytes(), 0xff))
}

fn unused_bits(bits: u8) -> u32 {
    u32::from(16 - bits.min(MAX_BUCKET_BITS))
}

/// MD5 over the ascending ids of a bucket (SPEC 5.6). It names a set of ids and authenticates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they stand on the wire.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        fixed_bytes(deserializer).map(Self)
    }
}

/// Computes the digest of a bucket from ids that come one by one.
#[derive(Debug, Clone, Default)]
pub struct Digester(Md5);

impl Digester {
    /// The digester of no ids.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an id, which must be greater than all before it.
    pub fn push(&mut self, id: &EntryId) {
        self.0.update(id.as_bytes());
    }

    /// The digest of the ids added.
    #[must_use]
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The digest of a bucket with these ids, which must be ascending.
#[must_use]
pub fn digest<'a>(ids: impl Iterator<Item = &'a EntryId>) -> Digest {
    let mut digester = Digester::new();
    ids.for_each(|id| digester.push(id));
    digester.finish()
}

/// One bucket of a table's index; on the wire the array `[bucket, count, digest]` (SPEC 8.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u16, u64, Digest)", into = "(u16, u64, Digest)")]
pub struct BucketSummary {
    /// The number of the bucket.
    pub bucket: u16,
    /// How many ids it holds, not 0.
    pub count: u64,
    /// The digest of those ids.
    pub digest: Digest,
}

impl From<(u16, u64, Digest)> for BucketSummary {
    fn from((bucket, count, digest): (u16, u64, Digest)) -> Self {
        Self { bucket, count, digest }
    }
}

impl From<BucketSummary> for (u16, u64, Digest) {
    fn from(summary: BucketSummary) -> Self {
        (summary.bucket, summary.count, summary.digest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::codec::lenient;

    fn id(first: u8, second: u8) -> EntryId {
        let mut bytes = [0; 32];
        [bytes[0], bytes[1]] = [first, second];
        EntryId::from_bytes(bytes)
    }

    #[test]
    fn a_bucket_is_the_leading_bits() {
        let id = id(0xab, 0xcd);
        assert_eq!([0, 1, 4, 8, 12].map(|bits| bucket_of(&id, bits)), [0, 1, 0xa, 0xab, 0xabc]);
    }

    #[test]
    fn ranges_touch_without_a_gap() {
        let (start, end) = id_range(0xabc, 12);
        assert_eq!(start, id(0xab, 0xc0));
        assert!(end < id_range(0xabd, 12).0);
        assert_eq!(id_range(0, 0), (EntryId::from_bytes([0; 32]), EntryId::from_bytes([0xff; 32])));
        assert_eq!(id_range(4095, 12).1, EntryId::from_bytes([0xff; 32]));
        assert_eq!(id_range(9999, 12), id_range(4095, 12));
    }

    #[test]
    fn a_digest_is_the_md5_of_the_concatenation() {
        // RFC 1321: MD5 of nothing.
        assert_eq!(Digester::new().finish().to_string(), "d41d8cd98f00b204e9800998ecf8427e");
        let ids = [id(1, 2), id(3, 4)];
        let joined: Vec<u8> = ids.iter().flat_map(|id| *id.as_bytes()).collect();
        assert_eq!(digest(ids.iter()).as_bytes()[..], Md5::digest(joined)[..]);
    }

    #[test]
    fn a_summary_is_an_array() {
        let summary = BucketSummary { bucket: 7, count: 2, digest: Digest([9; 16]) };
        let bytes = lenient::to_vec(&summary).unwrap();
        assert_eq!(bytes, [&[0x83, 0x07, 0x02, 0x50][..], &[9; 16]].concat());
        assert_eq!(lenient::from_slice::<BucketSummary>(&bytes), Ok(summary));
        assert!(lenient::from_slice::<BucketSummary>(&[0x82, 0x07, 0x02]).is_err());
    }

    proptest! {
        #[test]
        fn an_id_lies_in_the_range_of_its_bucket_alone(bytes: [u8; 32], bits in 0u8..=12, other: u16) {
            let id = EntryId::from_bytes(bytes);
            let (start, end) = id_range(bucket_of(&id, bits), bits);
            prop_assert!((start..=end).contains(&id));
            let other = other & ((1 << bits) - 1);
            let (start, end) = id_range(other, bits);
            prop_assert_eq!((start..=end).contains(&id), other == bucket_of(&id, bits));
        }
    }
}
