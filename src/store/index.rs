//! The index of a table: count and digest of every bucket, and the ids of one (SPEC 8.6).
//!
//! The digests of the whole table are kept in the file and computed anew for the buckets that changed, when
//! somebody asks. A scope that leaves out a part of the table (a peer with a shorter horizon asks for it) is
//! computed from the ids once and then kept up to date in memory in the same way, for the last few scopes. The
//! digests are of what is merged: who asks for those of a table has the delta merged first if something in it is of that
//! table. The ids of a bucket are read through the delta.
//!
//! Any peer can ask for a scope that nobody asked for before, and for the ids of a bucket full of those that were
//! dropped. So whoever wants an answer says how many ids it may look at, and the store makes answers that
//! take more than a few one at a time.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use p2pdb_protocol::{
    bucket::{BucketSummary, Digest, Digester, id_range},
    id::{EntryId, TableId},
    network::Network,
};
use redb::{Error, ReadTransaction};

use super::{
    schema::{self, Bucket, Place, State},
    view::View,
};

/// Scopes kept in memory, of at most 4,096 buckets of 32 bytes each.
const SCOPES: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");
/// Rows of dropped or older ids that one page of ids passes over, once it has found any.
const PASS_OVER: u64 = 100_000;

/// The buckets of a table (SPEC 8.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// The scope: entries created at this time or later, in unix seconds; a multiple of the epoch.
    pub since: u64,
    /// The buckets with entries in the scope, ascending.
    pub buckets: Vec<BucketSummary>,
}

/// A page of the ids of a bucket (SPEC 8.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdPage {
    /// The scope: entries created at this time or later, in unix seconds; a multiple of the epoch.
    pub since: u64,
    /// The ids, ascending.
    pub ids: Vec<EntryId>,
    /// Whether there may be further ones.
    pub more: bool,
}

/// A digest that a reader computed, to be kept by the writer.
#[derive(Debug)]
pub(super) struct FreshDigest {
    pub(super) key: (u32, u16),
    /// The [`Bucket::changed`] it belongs to.
    pub(super) changed: u64,
    pub(super) digest: [u8; 16],
}

/// The scopes in memory, by table number and the start of the scope.
pub(super) struct Scopes(Mutex<LruCache<(u32, u64), Arc<Scope>>>);

struct Scope {
    /// The [`State::change`] that the buckets are of.
    change: u64,
    buckets: BTreeMap<u16, (u64, [u8; 16])>,
}

impl Default for Scopes {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SCOPES)))
    }
}

/// The buckets of the table in the scope from `since` on, and the digests that were computed for the whole table;
/// nothing if it takes to look at more than `most` ids.
pub(super) fn buckets(
    txn: &ReadTransaction,
    network: &Network,
    scopes: &Scopes,
    table: &TableId,
    since: u64,
    most: u64,
) -> Result<Option<Buckets>, Error> {
    let Some(table_no) = number_of(txn, table)? else { return Ok(Some(Buckets::default())) };
    if !is_inhabited(txn, network, table_no, since)? {
        return Ok(Some(Buckets::default()));
    }
    let older = (table_no, 0, 0)..(table_no, network.epoch(since), 0);
    if txn.open_table(schema::BY_EPOCH)?.range(older)?.next().is_none() {
        whole(txn, network, table_no, most)
    } else {
        let summaries = scoped(txn, network, scopes, table_no, since, most)?;
        Ok(summaries.map(|summaries| (summaries, Vec::new())))
    }
}

/// Summaries, and digests to keep.
type Buckets = (Vec<BucketSummary>, Vec<FreshDigest>);

/// Whether the table has entries in the scope.
fn is_inhabited(txn: &ReadTransaction, network: &Network, table_no: u32, since: u64) -> Result<bool, Error> {
    let scope = (table_no, network.epoch(since), 0)..=(table_no, u64::MAX, u64::MAX);
    Ok(txn.open_table(schema::BY_EPOCH)?.range(scope)?.next().is_some())
}

/// The whole table, from the digests in the file.
fn whole(
    txn: &ReadTransaction,
    network: &Network,
    table_no: u32,
    most: u64,
) -> Result<Option<Buckets>, Error> {
    let rows = txn.open_table(schema::BUCKETS)?;
    let (mut summaries, mut fresh, mut looked_at) = (Vec::new(), Vec::new(), 0);
    for row in rows.range((table_no, 0)..=(table_no, u16::MAX))? {
        let (key, row) = row?;
        let (key, bucket) = (key.value(), Bucket::from_row(row.value()));
        let mut digest = bucket.digest;
        if bucket.digested != bucket.changed {
            looked_at += bucket.count;
            if looked_at > most {
                return Ok(None);
            }
            digest = digest_of(txn, network, key, 0)?.1;
            fresh.push(FreshDigest { key, changed: bucket.changed, digest });
        }
        summaries.push(BucketSummary {
            bucket: key.1,
            count: bucket.count,
            digest: Digest::from_bytes(digest),
        });
    }
    Ok(Some((summaries, fresh)))
}

/// A part of the table, from the scope in memory and the buckets that changed since.
fn scoped(
    txn: &ReadTransaction,
    network: &Network,
    scopes: &Scopes,
    table_no: u32,
    since: u64,
    most: u64,
) -> Result<Option<Vec<BucketSummary>>, Error> {
    let change = State::read(&txn.open_table(schema::STATE)?)?.change;
    let lock = || scopes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = lock().get(&(table_no, since)).cloned();
    let (mut buckets, mut looked_at) = (BTreeMap::new(), 0);
    let rows = txn.open_table(schema::BUCKETS)?;
    for row in rows.range((table_no, 0)..=(table_no, u16::MAX))? {
        let (key, row) = row?;
        let (key, Bucket { count, changed, .. }) = (key.value(), Bucket::from_row(row.value()));
        let (count, digest) = match &known {
            // Absent in a scope of this age: nothing of the bucket was in the scope.
            Some(scope) if changed <= scope.change => scope.buckets.get(&key.1).copied().unwrap_or_default(),
            _ => {
                looked_at += count;
                if looked_at > most {
                    return Ok(None);
                }
                digest_of(txn, network, key, since)?
            }
        };
        if count > 0 {
            buckets.insert(key.1, (count, digest));
        }
    }
    let summary = |(bucket, (count, digest)): (&u16, &(u64, [u8; 16]))| BucketSummary {
        bucket: *bucket,
        count: *count,
        digest: Digest::from_bytes(*digest),
    };
    let summaries = buckets.iter().map(summary).collect();
    lock().put((table_no, since), Arc::new(Scope { change, buckets }));
    Ok(Some(summaries))
}

/// Count and digest of the ids of a bucket created at `since` or later.
pub(super) fn digest_of(
    txn: &ReadTransaction,
    network: &Network,
    (table_no, bucket): (u32, u16),
    since: u64,
) -> Result<(u64, [u8; 16]), Error> {
    let (first, last) = id_range(bucket, network.bucket_bits);
    let ids = txn.open_table(schema::BY_ID)?;
    let mut digester = Digester::new();
    let mut count = 0;
    for row in ids.range((table_no, first.as_bytes())..=(table_no, last.as_bytes()))? {
        let (key, place) = row?;
        if is_in_scope(Place::from_row(place.value())?, since) {
            digester.push(&EntryId::from_bytes(*key.value().1));
            count += 1;
        }
    }
    Ok((count, *digester.finish().as_bytes()))
}

/// The ids of a bucket in the scope, after `after`; nothing if it takes to look at more than `most` ids.
///
/// Only a page with ids may say that more follow (SPEC 10.2), so that a bucket in which the next one lies behind
/// very many that were dropped or are older has to be searched on until there is one.
pub(super) fn ids(
    view: &View<'_>,
    table: &TableId,
    since: u64,
    bucket: u16,
    after: Option<EntryId>,
    limit: usize,
    most: u64,
) -> Result<Option<(Vec<EntryId>, bool)>, Error> {
    let (network, table_no) = (&view.settings().network, view.live().number_of(table));
    let Some(table_no) = table_no else { return Ok(Some((Vec::new(), false))) };
    let (first, last) = id_range(bucket, network.bucket_bits);
    let start = after.map_or(first, |after| after.max(first));
    if start > last {
        return Ok(Some((Vec::new(), false)));
    }
    let fresh = view.fresh_places(table_no, start..=last);
    let is_new = fresh.values().any(|place| is_in_scope(*place, since));
    if !is_new && !is_inhabited(view.txn, network, table_no, since)? {
        return Ok(Some((Vec::new(), false)));
    }
    let (mut ids, mut looked_at) = (Vec::new(), 0);
    let rows = view.txn.open_table(schema::BY_ID)?;
    let rows = rows.range((table_no, start.as_bytes())..=(table_no, last.as_bytes()))?.map(|row| {
        let (key, place) = row?;
        Ok((EntryId::from_bytes(*key.value().1), Place::from_row(place.value())?))
    });
    for place in with_fresh(rows, fresh) {
        let (id, place) = place?;
        looked_at += 1;
        if ids.is_empty() && looked_at > most {
            return Ok(None);
        }
        if after.is_some_and(|after| id <= after) || !is_in_scope(place, since) {
            continue;
        }
        if ids.len() == limit || !ids.is_empty() && looked_at > PASS_OVER {
            return Ok(Some((ids, true)));
        }
        if ids.is_empty() {
            looked_at = 0;
        }
        ids.push(id);
    }
    Ok(Some((ids, false)))
}

/// Merges the ids of an index with those of the delta, both ascending; what the delta says of an id is newer.
fn with_fresh(
    rows: impl Iterator<Item = Result<(EntryId, Place), Error>>,
    fresh: BTreeMap<EntryId, Place>,
) -> impl Iterator<Item = Result<(EntryId, Place), Error>> {
    let (mut rows, mut fresh) = (rows.peekable(), fresh.into_iter().peekable());
    std::iter::from_fn(move || match (rows.peek(), fresh.peek()) {
        (Some(Ok((id, _))), Some((newer, _))) if id == newer => {
            rows.next();
            fresh.next().map(Ok)
        }
        (Some(Ok((id, _))), Some((newer, _))) if id > newer => fresh.next().map(Ok),
        (None, Some(_)) => fresh.next().map(Ok),
        _ => rows.next(),
    })
}

/// The number of a table, if the store knows it.
pub(super) fn number_of(txn: &ReadTransaction, table: &TableId) -> Result<Option<u32>, Error> {
    let numbers = txn.open_table(schema::TABLE_NUMBERS)?;
    Ok(numbers.get(table.as_bytes())?.map(|number| number.value()))
}

const fn is_in_scope(place: Place, since: u64) -> bool {
    matches!(place, Place::Stored { created, .. } if created >= since)
}
