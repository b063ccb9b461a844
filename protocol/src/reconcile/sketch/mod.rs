//! Sketches of sets of ids: what two nodes exchange to learn how their sets differ (SPEC 10.6).
//!
//! A sketch is linear: that of a union of disjoint sets is the sum of theirs, so that a store keeps it for small parts
//! of a table, changes it with every entry, and answers for any table, level of groups and range of epochs by adding
//! rows up. And the sum (which is also the difference, for syndromes) of the sketches of two overlapping sets is the sketch of
//! the elements that only one of them has: those come out of [`decode`].
//!
//! - [`Sid`]: an id in 64 bits, an element of the field.
//! - [`field`]: arithmetic in GF(2^64).
//! - [`Element`]: all that one id adds to a sketch, computed once.
//! - [`Group`]: count, sum and 64 syndromes of the ids of a group. [`Summary`]: of a whole table, count, sum, 16 syndromes and
//!   the counters that estimate how many ids differ. [`Tally`]: count and sum alone; [`Root`]: their digest.
//! - [`decode`]: the elements of a small set from its syndromes: first the polynomial whose roots they are
//!   (`locator`), then its roots (`roots`).
//!
//! The algorithm is PinSketch (Dodis, Ostrovsky, Reyzin, Smith, *Fuzzy extractors*, 2008, section 6.3), as in Pieter Wuille's
//! minisketch, that is, decoding of a binary BCH code. Nothing is taken from the code of either.

mod decode;
mod element;
pub mod field;
mod group;
mod locator;
mod polynomial;
mod roots;
mod row;
mod sid;
mod summary;
mod tally;
#[cfg(test)]
mod tests;

pub use self::{
    decode::decode,
    element::Element,
    group::Group,
    sid::{MAX_LEVEL, Sid},
    summary::{Summary, Tow},
    tally::{Root, Tally},
};

/// Syndromes of a [`Group`], and the most that [`decode`] takes.
pub const GROUP_SYNDROMES: usize = 64;
/// Syndromes of a [`Summary`].
pub const SUMMARY_SYNDROMES: usize = 16;
/// Counters of a [`Tow`].
pub const TOW_COUNTERS: usize = 64;
