//! What an entry is charged for its space on the disk.
//!
//! `max_disk` is about the file, but redb tells how full its file is only by walking it. So the store counts:
//! every entry is charged the pages its value takes in the worst state that evictions lead to, plus its share
//! of the index pages. `tests/disk.rs` fills stores several times over their limit, with small, middle and
//! large entries, and holds the limit against what the file system says. Measured there and with limits up to
//! 160 MiB, the disk space is 0.7 to 1.04 of the charge once evictions have left their holes; before the first
//! one, entries of less than a page take about 0.6 of it.
//!
//! The file keeps the charges: another formula is another schema.

use p2pdb_protocol::limits::{MAX_ENTRY_BYTES, MAX_RECIPIENTS};

use super::schema::EntryRow;

/// Size of a page, and of the smallest allocation, of redb.
const PAGE: u64 = 4096;

/// Header of a leaf page and the key and offset of a single pair in it, in bytes, rounded up.
const LEAF_OVERHEAD: u64 = 40;

/// The index rows of an entry without its recipients, in leaves that are two thirds full, with their branches.
const INDEX: u64 = 300;

/// One row by recipient, likewise.
const RECIPIENT: u64 = 36;

/// An id that is kept as dropped: two rows of 53 and 44 bytes, likewise.
pub(super) const DROPPED: u64 = 160;

/// The bytes of disk that an entry is charged.
pub(super) const fn of_entry(length: usize, recipients: usize) -> u64 {
    let value = length as u64 + EntryRow::PREFIX as u64 + LEAF_OVERHEAD;
    let value = if value > PAGE {
        // A pair that fills more than a page has its own, of a power of two of pages.
        value.div_ceil(PAGE).next_power_of_two() * PAGE
    } else if value > PAGE / 3 {
        // redb leaves a page alone that is a third full, so that this may be all that is left in one.
        PAGE
    } else {
        // Evictions leave holes all over: pages are half full on average then.
        2 * value
    };
    value + INDEX + RECIPIENT * recipients as u64
}

/// The smallest `max_disk`, in bytes.
pub(super) const LEAST_LIMIT: u64 = crate::config::LEAST_MAX_DISK;

/// The smallest limit of a table, in bytes: with less there would be none for its largest entries.
pub(super) const LEAST_TABLE_LIMIT: u64 = crate::config::LEAST_MAX_DISK_PER_TABLE;

const _: () = assert!(of_entry(MAX_ENTRY_BYTES, MAX_RECIPIENTS) <= LEAST_TABLE_LIMIT);

/// The charge up to which a store may fill, if its file is to stay below `max_disk` bytes.
///
/// The rest is for pages that a transaction writes anew before the old ones are free again, and for what redb
/// notes about free pages.
pub(super) const fn budget(max_disk: u64) -> u64 {
    max_disk - max_disk / 16 - LEAST_LIMIT / 4
}

/// Bytes of entries that one transaction takes, unless a single request has more: the larger, the less is
/// written per entry, but also the more space is needed for pages both old and new.
pub(super) fn batch_bytes(max_disk: Option<u64>) -> usize {
    let share = max_disk.map_or(u64::MAX, |max_disk| max_disk / 64);
    usize::try_from(share.min(16 << 20)).unwrap_or(16 << 20)
}
