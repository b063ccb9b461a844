//! The index of a table: count and digest of every bucket, and the ids of one (SPEC 8.6).
//!
//! The digests of the whole table are kept in the file and computed anew for the buckets that changed, when
//! somebody asks. A scope that leaves out a part of the table (a peer with a shorter horizon asks for it) is
//! computed from the ids once and then kept up to date in memory in the same way, for the last few scopes. So are
//! the digests of buckets that the delta adds ids to, until more come: who asks neither waits for a merge nor makes one.
//!
//! Any peer can ask for a scope that nobody asked for before, and for the ids of a bucket full of those that were
//! dropped. So whoever wants an answer says how many ids it may look at, and the store makes answers that
//! take more than a few one at a time.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use p2pdb_protocol::{
    bucket::{BucketSummary, Digest, Digester, bucket_of, id_range},
    id::{EntryId, TableId},
    network::Network,
};
use redb::{Error, ReadOnlyTable, ReadTransaction};

use super::{
    schema::{self, Bucket, Place},
    view::View,
};

/// Scopes kept in memory, of at most 4,096 buckets of 48 bytes each.
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

type Scope = BTreeMap<u16, Known>;

/// Count and digest of a bucket in a scope.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// The [`Bucket::changed`] that they are of, and the newest entry in the delta; 0 if there is none.
    changed: u64,
    newest: u64,
    count: u64,
    digest: [u8; 16],
}

impl Default for Scopes {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SCOPES)))
    }
}

/// The buckets of the table in the scope from `since` on, and digests to keep in the file; nothing if it takes to look at
/// more than `most` ids.
pub(super) fn buckets(
    view: &View<'_>,
    table: &TableId,
    since: u64,
    most: u64,
) -> Result<Option<Buckets>, Error> {
    let (network, txn) = (&view.settings().network, view.txn);
    let table_no = view.live().number_of(table);
    let Some(table_no) = table_no else { return Ok(Some(Buckets::default())) };
    // The newest entry of the delta in each bucket that it adds ids of the scope to.
    let fresh = view.fresh(table_no).into_iter().filter(|(.., created)| *created >= since);
    let fresh: BTreeMap<_, _> =
        fresh.map(|(id, arrival, _)| (bucket_of(&id, network.bucket_bits), arrival)).collect();
    let rows = txn.open_table(schema::BUCKETS)?;
    let mut merged = BTreeMap::new();
    if is_inhabited(txn, network, table_no, since)? {
        for row in rows.range((table_no, 0)..=(table_no, u16::MAX))? {
            let (key, row) = row?;
            merged.insert(key.value().1, Bucket::from_row(row.value()));
        }
    } else {
        for bucket in fresh.keys() {
            let row = rows.get((table_no, *bucket))?;
            merged.insert(*bucket, row.map(|row| Bucket::from_row(row.value())).unwrap_or_default());
        }
    }
    for bucket in fresh.keys() {
        merged.entry(*bucket).or_default();
    }

    let older = (table_no, 0, 0)..(table_no, network.epoch(since), 0);
    let is_whole = txn.open_table(schema::BY_EPOCH)?.range(older)?.next().is_none();
    let scopes = || view.core.scopes.0.lock().unwrap_or_else(PoisonError::into_inner);
    let known = scopes().get(&(table_no, since)).cloned().unwrap_or_default();
    let (mut scope, mut to_keep, mut looked_at) = (Scope::new(), Vec::new(), 0);
    for (number, bucket) in merged {
        let (key, changed) = ((table_no, number), bucket.changed);
        let newest = fresh.get(&number).copied().unwrap_or(0);
        let is_kept = is_whole && newest == 0;
        let found = match known.get(&number) {
            _ if is_kept && bucket.digested == changed => {
                Known { changed, newest, count: bucket.count, digest: bucket.digest }
            }
            Some(known) if (known.changed, known.newest) == (changed, newest) => *known,
            _ => {
                let (first, last) = id_range(number, network.bucket_bits);
                let fresh =
                    if newest == 0 { BTreeMap::new() } else { view.fresh_places(table_no, first..=last) };
                looked_at += bucket.count + fresh.len() as u64;
                if looked_at > most {
                    return Ok(None);
                }
                let (count, digest) = digest_of(txn, network, key, since, fresh)?;
                if is_kept {
                    to_keep.push(FreshDigest { key, changed, digest });
                }
                Known { changed, newest, count, digest }
            }
        };
        scope.insert(number, found);
    }
    let listed = scope.iter().filter(|(_, known)| known.count > 0);
    let summaries = listed.map(|(bucket, known)| BucketSummary {
        bucket: *bucket,
        count: known.count,
        digest: Digest::from_bytes(known.digest),
    });
    let summaries = summaries.collect();
    if !(is_whole && fresh.is_empty()) {
        scopes().put((table_no, since), Arc::new(scope));
    }
    Ok(Some((summaries, to_keep)))
}

/// Summaries, and digests to keep.
type Buckets = (Vec<BucketSummary>, Vec<FreshDigest>);

/// Whether the table has merged entries in the scope.
fn is_inhabited(txn: &ReadTransaction, network: &Network, table_no: u32, since: u64) -> Result<bool, Error> {
    let scope = (table_no, network.epoch(since), 0)..=(table_no, u64::MAX, u64::MAX);
    Ok(txn.open_table(schema::BY_EPOCH)?.range(scope)?.next().is_some())
}

/// Count and digest of the ids of a bucket created at `since` or later, with those that the delta has of it.
pub(super) fn digest_of(
    txn: &ReadTransaction,
    network: &Network,
    (table_no, bucket): (u32, u16),
    since: u64,
    fresh: BTreeMap<EntryId, Place>,
) -> Result<(u64, [u8; 16]), Error> {
    let (first, last) = id_range(bucket, network.bucket_bits);
    let rows = txn.open_table(schema::BY_ID)?;
    let mut digester = Digester::new();
    let mut count = 0;
    for place in with_fresh(places(&rows, table_no, first..=last)?, fresh) {
        let (id, place) = place?;
        if is_in_scope(place, since) {
            digester.push(&id);
            count += 1;
        }
    }
    Ok((count, *digester.finish().as_bytes()))
}

/// The merged ids of a table in this range, ascending.
fn places(
    by_id: &ReadOnlyTable<(u32, &'static [u8; 32]), (u8, u64, u64)>,
    table_no: u32,
    ids: RangeInclusive<EntryId>,
) -> Result<impl Iterator<Item = Result<(EntryId, Place), Error>>, Error> {
    let (first, last) = ids.into_inner();
    let rows = by_id.range((table_no, first.as_bytes())..=(table_no, last.as_bytes()))?;
    Ok(rows.map(|row| {
        let (key, place) = row?;
        Ok((EntryId::from_bytes(*key.value().1), Place::from_row(place.value())?))
    }))
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
    for place in with_fresh(places(&rows, table_no, start..=last)?, fresh) {
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

const fn is_in_scope(place: Place, since: u64) -> bool {
    matches!(place, Place::Stored { created, .. } if created >= since)
}
