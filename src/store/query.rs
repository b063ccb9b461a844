//! get: the entries that match a filter, in the order in which they arrived (SPEC 8.5).
//!
//! A query walks the arrival numbers of one index and looks at each entry with all conditions. It ends early,
//! with a cursor behind what it looked at, when it reaches its [`Bounds`]: no
//! filter makes a node search its whole store for one request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use bytes::Bytes;
use p2pdb_protocol::{
    bucket::{bucket_of, id_range},
    filter::{Cursor, Filter},
    id::TableId,
    limits::MAX_GET_TABLES,
};
use redb::{Error, ReadOnlyTable, ReadTransaction, ReadableTable, StorageError};

use super::{
    Settings,
    index::number_of,
    schema::{self, Bucket, EntryRow, Place, State, damaged, parse_table, recipient_prefix},
};

/// How far one query goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Entries that it looks at.
    pub(super) rows: usize,
    /// Bytes of entries that it looks at.
    pub(super) bytes: usize,
    /// Ids that it looks up: an id without its table has to be looked up in every table. Of more ids, the
    /// smallest are looked up and the others not found; who asks for many names their table.
    pub(super) lookups: usize,
    /// Ids of a bucket that it sorts by arrival before it rather walks another index.
    pub(super) sorted: u64,
    /// Ids that an index looks at without waiting for its turn.
    pub(super) listed: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { rows: 10_000, bytes: 32 << 20, lookups: 1 << 16, sorted: 1 << 14, listed: 100_000 }
    }
}

/// A page of entries (SPEC 8.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Arrival number and encoding of each entry, ascending.
    pub entries: Vec<(u64, Bytes)>,
    /// The SPKI DER of each of their tables, once.
    pub keys: Vec<Bytes>,
    /// Continues behind everything that was looked at.
    pub next: Cursor,
    /// Whether there may be a further page already.
    pub more: bool,
}

type Arrivals<'t> = Box<dyn Iterator<Item = Result<u64, StorageError>> + 't>;

struct Query<'t> {
    txn: &'t ReadTransaction,
    settings: &'t Settings,
    filter: &'t Filter,
    /// Tables to which the answer is confined, if it is; those the store knows.
    tables: Option<BTreeMap<u32, TableId>>,
    received_from: u64,
    /// The arrival numbers looked at: greater than the first and at most the second.
    after: u64,
    newest: u64,
}

/// The entries matching `filter` of the tables in `allowed`, at most `most_bytes` but at least one.
pub(super) fn get(
    txn: &ReadTransaction,
    settings: &Settings,
    filter: &Filter,
    allowed: Option<&BTreeSet<TableId>>,
    now: u64,
    most_bytes: usize,
) -> Result<Page, Error> {
    let newest = State::read(&txn.open_table(schema::STATE)?)?.newest();
    // The cursor of another store says nothing here: then it is as if there were none.
    let cursor = filter.cursor.filter(|cursor| cursor.store == settings.store_id);
    let after = cursor.map_or(0, |cursor| cursor.arrival.min(newest));
    let received_from = filter.seconds_since.map_or(0, |seconds| now.saturating_sub(seconds));
    let tables = tables(txn, filter, allowed)?;
    let mut query = Query { txn, settings, filter, tables, received_from, after, newest };
    let entries = txn.open_table(schema::ENTRIES)?;
    if received_from > 0 {
        query.after = query.after.max(first_received(&entries, received_from, newest)?.saturating_sub(1));
    }
    query.page(&entries, most_bytes)
}

/// The tables that the filter and the caller both permit; nothing if both permit all.
fn tables(
    txn: &ReadTransaction,
    filter: &Filter,
    allowed: Option<&BTreeSet<TableId>>,
) -> Result<Option<BTreeMap<u32, TableId>>, Error> {
    let is_allowed = |table: &&TableId| allowed.is_none_or(|allowed| allowed.contains(*table));
    let asked: Vec<_> = match allowed {
        None if filter.tables.is_empty() => return Ok(None),
        Some(allowed) if filter.tables.is_empty() => allowed.iter().collect(),
        _ => filter.tables.iter().filter(is_allowed).collect(),
    };
    let mut tables = BTreeMap::new();
    for table in asked {
        if let Some(table_no) = number_of(txn, table)? {
            tables.insert(table_no, *table);
        }
    }
    Ok(Some(tables))
}

/// The first arrival number received at `from` or later; arrival times never descend.
fn first_received(entries: &ReadOnlyTable<u64, &'static [u8]>, from: u64, newest: u64) -> Result<u64, Error> {
    let (mut low, mut high) = (1, newest + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match entries.range(middle..high)?.next() {
            None => high = middle,
            Some(row) => {
                let (arrival, row) = row?;
                if EntryRow::parse(row.value())?.received >= from {
                    high = middle;
                } else {
                    low = arrival.value() + 1;
                }
            }
        }
    }
    Ok(low)
}

impl Query<'_> {
    fn page(&self, entries: &ReadOnlyTable<u64, &'static [u8]>, most_bytes: usize) -> Result<Page, Error> {
        let mut page =
            Page { entries: Vec::new(), keys: Vec::new(), next: self.cursor(self.newest), more: false };
        let bounds = self.settings.bounds;
        let (mut found_bytes, mut rows, mut looked_at) = (0, 0, 0);
        let mut found_tables = BTreeSet::new();
        for arrival in self.candidates()? {
            let arrival = arrival?;
            let row = entries.get(arrival)?;
            let row = row.as_ref().map_or(&[][..], |row| row.value());
            let (length, table_no, matches) = match self.looked_at(row) {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::error!(arrival, %error, "an entry is passed over; the store is damaged");
                    (row.len(), 0, false)
                }
            };
            rows += 1;
            looked_at += length;
            let is_full = !page.entries.is_empty() && found_bytes + length > most_bytes;
            // A response has room for so many keys.
            let is_crowded = found_tables.len() >= MAX_GET_TABLES && !found_tables.contains(&table_no);
            if matches && (page.entries.len() == self.filter.limit || is_full || is_crowded) {
                page.next = self.cursor(arrival - 1);
                page.more = true;
                break;
            }
            if matches {
                let encoded = row.get(EntryRow::PREFIX..).unwrap_or_default();
                page.entries.push((arrival, Bytes::copy_from_slice(encoded)));
                found_tables.insert(table_no);
                found_bytes += length;
            }
            if rows >= bounds.rows || looked_at >= bounds.bytes {
                page.next = self.cursor(arrival);
                page.more = arrival < self.newest;
                break;
            }
        }
        let tables = self.txn.open_table(schema::TABLES)?;
        for table_no in found_tables {
            let row = tables.get(table_no)?.ok_or_else(|| damaged(format!("table {table_no} is missing")))?;
            page.keys.push(Bytes::copy_from_slice(parse_table(row.value())?.1));
        }
        Ok(page)
    }

    const fn cursor(&self, arrival: u64) -> Cursor {
        Cursor { store: self.settings.store_id, arrival }
    }

    /// Length and table number of an entry, and whether it fulfils all conditions.
    fn looked_at(&self, row: &[u8]) -> Result<(usize, u32, bool), Error> {
        let row = EntryRow::parse(row)?;
        Ok((row.encoded.len(), row.table_no, self.matches(&row)?))
    }

    /// Whether an entry fulfils all conditions; the cheap ones come first.
    fn matches(&self, row: &EntryRow<'_>) -> Result<bool, Error> {
        let filter = self.filter;
        if self.tables.as_ref().is_some_and(|tables| !tables.contains_key(&row.table_no))
            || row.received < self.received_from
            || filter.created_from.is_some_and(|from| row.created < from)
            || filter.created_until.is_some_and(|until| row.created >= until)
            || filter
                .bucket
                .is_some_and(|bucket| bucket_of(&row.id, self.settings.network.bucket_bits) != bucket)
            || !(filter.ids.is_empty() || filter.ids.contains(&row.id))
        {
            return Ok(false);
        }
        if filter.recipients.is_empty() {
            return Ok(true);
        }
        Ok(row.header()?.recipients.iter().any(|key| filter.recipients.contains(&key.recipient)))
    }

    /// The arrival numbers to look at, ascending, by the index that probably leads to the fewest.
    fn candidates(&self) -> Result<Arrivals<'_>, Error> {
        if self.after >= self.newest || self.tables.as_ref().is_some_and(BTreeMap::is_empty) {
            return Ok(Box::new(std::iter::empty()));
        }
        let sorted = match self.by_ids()? {
            None => self.by_bucket()?,
            by_ids => by_ids,
        };
        if let Some(mut arrivals) = sorted {
            arrivals.retain(|arrival| *arrival > self.after && *arrival <= self.newest);
            arrivals.sort_unstable();
            arrivals.dedup();
            return Ok(Box::new(arrivals.into_iter().map(Ok)));
        }
        let after = self.after.saturating_add(1);
        if !self.filter.recipients.is_empty() {
            let index = self.txn.open_table(schema::BY_RECIPIENT)?;
            let prefixes: BTreeSet<_> =
                self.filter.recipients.iter().map(|id| recipient_prefix(id.as_bytes())).collect();
            let range = |prefix| index.range_owned((prefix, after)..=(prefix, u64::MAX));
            let ranges = prefixes.into_iter().map(range).collect::<Result<Vec<_>, _>>()?;
            return merge(ranges.into_iter().map(|range| range.map(|row| Ok(row?.0.value().1))));
        }
        if let Some(tables) = &self.tables {
            let index = self.txn.open_table(schema::BY_TABLE)?;
            let range = |table_no: &u32| index.range_owned((*table_no, after)..=(*table_no, u64::MAX));
            let ranges = tables.keys().map(range).collect::<Result<Vec<_>, _>>()?;
            return merge(ranges.into_iter().map(|range| range.map(|row| Ok(row?.0.value().1))));
        }
        let all = self.txn.open_table(schema::ENTRIES)?.range_owned(after..)?;
        Ok(Box::new(all.map(|row| Ok(row?.0.value()))))
    }

    /// The tables to look into.
    fn tables_to_search(&self) -> Result<Vec<u32>, Error> {
        match &self.tables {
            Some(tables) => Ok(tables.keys().copied().collect()),
            None => self.txn.open_table(schema::TABLES)?.iter()?.map(|row| Ok(row?.0.value())).collect(),
        }
    }

    /// Where the ids asked for are. There is no other way to find them that is bounded, hence none is tried.
    fn by_ids(&self) -> Result<Option<Vec<u64>>, Error> {
        let ids: BTreeSet<_> = self.filter.ids.iter().collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let tables = self.tables_to_search()?;
        let most = (self.settings.bounds.lookups / tables.len().max(1)).max(1);
        let index = self.txn.open_table(schema::BY_ID)?;
        let mut arrivals = Vec::new();
        for table_no in tables {
            for id in ids.iter().take(most) {
                let place = index.get((table_no, id.as_bytes()))?.map(|row| Place::from_row(row.value()));
                if let Some(Place::Stored { arrival, .. }) = place.transpose()? {
                    arrivals.push(arrival);
                }
            }
        }
        Ok(Some(arrivals))
    }

    fn by_bucket(&self) -> Result<Option<Vec<u64>>, Error> {
        let Some(bucket) = self.filter.bucket else { return Ok(None) };
        let tables = self.tables_to_search()?;
        if tables.len() > self.settings.bounds.lookups {
            return Ok(None);
        }
        let buckets = self.txn.open_table(schema::BUCKETS)?;
        let mut filled = Vec::new();
        let mut total = 0;
        for table_no in tables {
            if let Some(row) = buckets.get((table_no, bucket))? {
                total += Bucket::from_row(row.value()).count;
                filled.push(table_no);
            }
        }
        if total > self.settings.bounds.sorted {
            return Ok(None);
        }
        let (first, last) = id_range(bucket, self.settings.network.bucket_bits);
        let index = self.txn.open_table(schema::BY_ID)?;
        let mut arrivals = Vec::new();
        for table_no in filled {
            for row in index.range((table_no, first.as_bytes())..=(table_no, last.as_bytes()))? {
                if let Place::Stored { arrival, .. } = Place::from_row(row?.1.value())? {
                    arrivals.push(arrival);
                }
            }
        }
        Ok(Some(arrivals))
    }
}

/// Merges ascending arrival numbers; one that several of them have comes once.
fn merge<'t, I>(streams: impl Iterator<Item = I>) -> Result<Arrivals<'t>, Error>
where
    I: Iterator<Item = Result<u64, StorageError>> + 't,
{
    let mut streams: Vec<I> = streams.collect();
    let mut heap = BinaryHeap::with_capacity(streams.len());
    for (index, stream) in streams.iter_mut().enumerate() {
        if let Some(arrival) = stream.next().transpose()? {
            heap.push(Reverse((arrival, index)));
        }
    }
    let mut last = None;
    Ok(Box::new(std::iter::from_fn(move || {
        loop {
            let Reverse((arrival, index)) = heap.pop()?;
            match streams.get_mut(index).and_then(Iterator::next) {
                Some(Ok(next)) => heap.push(Reverse((next, index))),
                Some(Err(error)) => return Some(Err(error)),
                None => {}
            }
            if last.replace(arrival) != Some(arrival) {
                return Some(Ok(arrival));
            }
        }
    })))
}
