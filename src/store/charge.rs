//! What an entry is charged for its space on the disk.
//!
//! `max_disk` is about the files, but redb tells how full its file is only by walking it, and what is dropped lies in
//! the log until its segment goes. So the store counts: every entry is charged its record with its share of what may lie
//! dead in the log (see [`super::clean`]), and its index rows in half-filled pages, twice, since a merge writes pages anew
//! before the old ones are free. `tests/disk.rs` fills stores several times over their limit, with small, middle and
//! large entries, and holds the limit against what the file system says.

use p2pdb_protocol::limits::{MAX_ENTRY_BYTES, MAX_RECIPIENTS};

use super::record::Facts;

/// The header of a frame of a single entry, and its table.
const FRAME: u64 = 32;

/// The index rows of an entry without its recipients.
const INDEX: u64 = 480;

/// One row by recipient.
const RECIPIENT: u64 = 56;

/// An id that is kept as dropped: two rows of 53 and 44 bytes.
pub(super) const DROPPED: u64 = 240;

/// The bytes of disk that an entry is charged.
pub(super) const fn of_entry(length: usize, recipients: usize) -> u64 {
    let record = (length + Facts::FIXED + 8 * recipients) as u64 + FRAME;
    record + record / 8 + INDEX + RECIPIENT * recipients as u64
}

/// The smallest `max_disk`, in bytes.
pub(super) const LEAST_LIMIT: u64 = crate::config::LEAST_MAX_DISK;

/// The smallest limit of a table, in bytes: with less there would be none for its largest entries.
pub(super) const LEAST_TABLE_LIMIT: u64 = crate::config::LEAST_MAX_DISK_PER_TABLE;

const _: () = assert!(of_entry(MAX_ENTRY_BYTES, MAX_RECIPIENTS) <= LEAST_TABLE_LIMIT);

/// The charge up to which a store may fill, if its files are to stay below `max_disk` bytes.
///
/// The rest is for the segment that is written, the one that is rewritten and what they may leave dead, for pages that a
/// transaction writes anew before the old ones are free again, and for what redb notes about free pages.
pub(super) const fn budget(max_disk: u64) -> u64 {
    max_disk - max_disk / 8 - LEAST_LIMIT / 8
}

/// The part of the disk's limit that may be taken by what goes in one piece, in bytes: a segment, a merge.
pub(super) fn share(max_disk: Option<u64>) -> u64 {
    max_disk.map_or(u64::MAX, |max_disk| max_disk / 64)
}

/// Bytes of entries that one frame takes, unless a single request has more.
pub(super) fn batch_bytes(max_disk: Option<u64>) -> usize {
    usize::try_from(share(max_disk).min(16 << 20)).unwrap_or(16 << 20)
}
