//! An id in 64 bits.

use std::num::NonZeroU64;

use crate::id::EntryId;

/// The first 8 bytes of an [`EntryId`] as a big-endian number, 0 being mapped to 1: an element of the field that
/// is not 0 (SPEC 10.6).
///
/// Several ids may have one sid; [`Sid::range`] holds them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid(NonZeroU64);

impl Sid {
    /// The sid of an id.
    #[must_use]
    pub const fn of(id: &EntryId) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *id.as_bytes();
        match Self::from_u64(u64::from_be_bytes([a, b, c, d, e, f, g, h])) {
            Some(sid) => sid,
            None => Self(NonZeroU64::MIN),
        }
    }

    /// The sid that is this number; none for 0.
    #[must_use]
    pub const fn from_u64(number: u64) -> Option<Self> {
        match NonZeroU64::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The sid as a number.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        self.0.get()
    }

    /// The least and the greatest id with this sid, both inclusive.
    #[must_use]
    pub fn range(self) -> (EntryId, EntryId) {
        let number = self.to_u64();
        let id = |number: u64, rest: u8| {
            let mut bytes = [rest; 32];
            bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, of)| *byte = of);
            EntryId::from_bytes(bytes)
        };
        (id(if number == 1 { 0 } else { number }, 0), id(number, 0xff))
    }

    /// The group of this sid: its leading `level` bits (SPEC 10.6).
    #[must_use]
    pub const fn group(self, level: u8) -> u16 {
        // With level 0 the shift is as wide as the number, and everything is in group 0.
        let level = if level > MAX_LEVEL { MAX_LEVEL } else { level };
        match self.to_u64().checked_shr(64 - level as u32) {
            Some(group) => group as u16,
            None => 0,
        }
    }
}

/// The deepest level of groups: 4,096 of them.
pub const MAX_LEVEL: u8 = 12;
