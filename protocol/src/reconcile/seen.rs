//! The memory of bucket digests seen (SPEC 10.4).

use std::collections::{BTreeMap, VecDeque};

use crate::{bucket::Digest, id::TableId, limits::MAX_SEEN_DIGESTS, reconcile::KnownBucket};

#[cfg(test)]
mod tests;

/// Digests remembered over all tables and buckets.
///
/// One takes 18 bytes, twice that while its queue has room to grow: 9 MiB as a rule and at most 18 MiB, besides
/// about 100 bytes for each bucket that has any.
pub const MAX_SEEN_TOTAL: usize = 1 << 19;

/// Digests of buckets all of whose ids are Known here, although the own bucket has other ids.
///
/// It is fed only with a [`KnownBucket`], which only a finished list of ids makes: a peer's claim cannot get in. Since
/// Known ids stay Known, a remembered digest stays true. A node that forgets dropped ids within its
/// horizon has to [`forget`](Self::forget) the table.
///
/// Each bucket of a table keeps [`MAX_SEEN_DIGESTS`], the oldest going first. Over all there are at most
/// [`MAX_SEEN_TOTAL`]; past that, the table with the most gives up its oldest, so that a flood in one table does not push
/// out the others. What is forgotten only costs that a bucket is listed once more.
#[derive(Debug)]
pub struct Seen {
    tables: BTreeMap<TableId, TableSeen>,
    total: usize,
    max_total: usize,
}

#[derive(Debug, Default)]
struct TableSeen {
    buckets: BTreeMap<u16, BucketSeen>,
    /// The bucket of every digest, in the order they came. It also holds those that left through the cap of
    /// their bucket: `BucketSeen::left` says how many of its first are such.
    order: VecDeque<u16>,
}

#[derive(Debug, Default)]
struct BucketSeen {
    digests: VecDeque<Digest>,
    left: usize,
}

impl Default for Seen {
    fn default() -> Self {
        Self { tables: BTreeMap::new(), total: 0, max_total: MAX_SEEN_TOTAL }
    }
}

impl Seen {
    /// An empty memory.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether all ids behind this digest of this bucket are Known.
    #[must_use]
    pub fn contains(&self, table: &TableId, bucket: u16, digest: &Digest) -> bool {
        let bucket = self.tables.get(table).and_then(|table| table.buckets.get(&bucket));
        bucket.is_some_and(|bucket| bucket.digests.contains(digest))
    }

    /// Remembers that all ids of a list are Known.
    pub fn remember(&mut self, known: &KnownBucket) {
        let table = self.tables.entry(known.table()).or_default();
        let bucket = table.buckets.entry(known.bucket()).or_default();
        if bucket.digests.contains(&known.digest()) {
            return;
        }
        if bucket.digests.len() >= MAX_SEEN_DIGESTS {
            bucket.digests.pop_front();
            bucket.left += 1;
        }
        bucket.digests.push_back(known.digest());
        table.order.push_back(known.bucket());
        self.total += 1;
        if self.total > self.max_total {
            self.drop_oldest();
        }
    }

    /// Forgets a table that is no longer mirrored.
    pub fn forget(&mut self, table: &TableId) {
        if let Some(table) = self.tables.remove(table) {
            self.total -= table.order.len();
        }
    }

    /// The number of digests held, over all tables.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tables.values().flat_map(|table| table.buckets.values()).map(|bucket| bucket.digests.len()).sum()
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Takes the oldest place of the table that has the most; it may be one that its bucket gave up already.
    fn drop_oldest(&mut self) {
        let Some(table) = self.tables.values_mut().max_by_key(|table| table.order.len()) else { return };
        let Some(number) = table.order.pop_front() else { return };
        self.total -= 1;
        let Some(bucket) = table.buckets.get_mut(&number) else { return };
        if bucket.left > 0 {
            bucket.left -= 1;
            return;
        }
        bucket.digests.pop_front();
        if bucket.digests.is_empty() {
            table.buckets.remove(&number);
        }
    }
}
