//! get: the entries that match a filter, in the order in which they arrived (SPEC 8.5).
//!
//! A query walks the arrival numbers of one index and looks at each entry with all conditions. It ends early,
//! with a cursor behind what it looked at, when it reaches its [`Bounds`]: no
//! filter makes a node search its whole store for one request.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    fmt,
};

use bytes::Bytes;
use p2pdb_protocol::{
    bucket::{bucket_of, id_range},
    codec::strict::Reader,
    entry::Header,
    filter::{Cursor, Filter},
    id::TableId,
    limits::MAX_GET_TABLES,
};
use redb::{Error, StorageError};

use super::{
    asking::Watch,
    delta::Which,
    record::{Facts, Location, recipient_prefix},
    schema::{self, Bucket, Place, damaged, parse_table},
    view::View,
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

/// Whether a query goes as far as its bounds, or gives up early: with a whole answer or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Gives up where it is not sure to end soon, or has to wait for the disk.
    Short(Watch),
    /// As far as the bounds of the store.
    Whole,
}

/// Entries that a short query looks at, their bytes, and ids that it looks up.
const SHORT_ROWS: usize = 512;
const SHORT_BYTES: usize = 2 << 20;
const SHORT_LOOKUPS: usize = 32;
/// Entries that are found in the indexes before the first of them is read: those that lie side by side are read together.
const LOCATED: usize = 64;

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

/// An arrival number, and where the entry is if it is still stored.
type Located = Result<(u64, Result<Option<Location>, Error>), Error>;
type Arrivals<'t> = Box<dyn Iterator<Item = Result<u64, StorageError>> + 't>;

struct Query<'t> {
    view: &'t View<'t>,
    filter: &'t Filter,
    /// Tables to which the answer is confined, if it is; those the store knows.
    tables: Option<BTreeMap<u32, TableId>>,
    received_from: u64,
    /// The arrival numbers looked at: greater than the first and at most the second.
    after: u64,
    newest: u64,
    reach: Reach,
    bounds: Bounds,
}

/// The entries matching `filter` of the tables in `allowed`, at most `most_bytes` but at least one; nothing if a short query
/// gives up.
pub(super) fn get(
    view: &View<'_>,
    filter: &Filter,
    allowed: Option<&BTreeSet<TableId>>,
    now: u64,
    most_bytes: usize,
    reach: Reach,
) -> Result<Option<Page>, Error> {
    let newest = view.newest;
    // The cursor of another store says nothing here: then it is as if there were none.
    let cursor = filter.cursor.filter(|cursor| cursor.store == view.settings().store_id);
    let mut after = cursor.map_or(0, |cursor| cursor.arrival.min(newest));
    let received_from = filter.seconds_since.map_or(0, |seconds| now.saturating_sub(seconds));
    if received_from > 0 {
        after = after.max(view.first_received(received_from)?.saturating_sub(1));
    }
    let tables = tables(view, filter, allowed);
    let mut bounds = view.settings().bounds;
    if reach != Reach::Whole {
        bounds.rows = bounds.rows.min(SHORT_ROWS);
        bounds.bytes = bounds.bytes.min(SHORT_BYTES);
    }
    Query { view, filter, tables, received_from, after, newest, reach, bounds }.page(most_bytes)
}

/// The tables that the filter and the caller both permit; nothing if both permit all.
fn tables(
    view: &View<'_>,
    filter: &Filter,
    allowed: Option<&BTreeSet<TableId>>,
) -> Option<BTreeMap<u32, TableId>> {
    let is_allowed = |table: &&TableId| allowed.is_none_or(|allowed| allowed.contains(*table));
    let asked: Vec<_> = match allowed {
        None if filter.tables.is_empty() => return None,
        Some(allowed) if filter.tables.is_empty() => allowed.iter().collect(),
        _ => filter.tables.iter().filter(is_allowed).collect(),
    };
    let live = view.live();
    Some(asked.into_iter().filter_map(|table| Some((live.number_of(table)?, *table))).collect())
}

impl Query<'_> {
    fn page(&self, most_bytes: usize) -> Result<Option<Page>, Error> {
        let mut page =
            Page { entries: Vec::new(), keys: Vec::new(), next: self.cursor(self.newest), more: false };
        if self.reach != Reach::Whole && self.is_wide() {
            return Ok(None);
        }
        let (mut found_bytes, mut rows, mut looked_at) = (0, 0, 0);
        let mut found_tables = BTreeSet::new();
        let (mut candidates, mut next) = (self.candidates()?, VecDeque::new());
        loop {
            if next.is_empty() {
                // One more than there is room for says whether there is a further page.
                let most = (self.filter.limit - page.entries.len()).saturating_add(1).min(LOCATED);
                let room = most_bytes.saturating_sub(found_bytes);
                match self.locate(&mut candidates, most, room) {
                    Some(located) => next.extend(located),
                    None => return Ok(None),
                }
            }
            let Some((arrival, location)) = next.pop_front().transpose()? else { break };
            if self.is_slow() {
                return Ok(None);
            }
            let following = next.iter().map_while(|located| *located.as_ref().ok()?.1.as_ref().ok()?);
            let seen = location.and_then(|location| self.looked_at(arrival, location.as_ref(), following));
            let (length, found) = match seen {
                Ok(seen) => seen,
                Err(error) => {
                    tracing::error!(arrival, %error, "an entry is passed over; the store is damaged");
                    (0, None)
                }
            };
            rows += 1;
            looked_at += length;
            if let Some((table_no, encoded)) = found {
                let is_full = !page.entries.is_empty() && found_bytes + length > most_bytes;
                // A response has room for so many keys.
                let is_crowded = found_tables.len() >= MAX_GET_TABLES && !found_tables.contains(&table_no);
                if page.entries.len() == self.filter.limit || is_full || is_crowded {
                    page.next = self.cursor(arrival - 1);
                    page.more = true;
                    break;
                }
                page.entries.push((arrival, encoded));
                found_tables.insert(table_no);
                found_bytes += length;
            }
            if rows >= self.bounds.rows || looked_at >= self.bounds.bytes {
                if self.reach != Reach::Whole {
                    return Ok(None);
                }
                page.next = self.cursor(arrival);
                page.more = arrival < self.newest;
                break;
            }
        }
        page.keys = found_tables.into_iter().map(|table_no| self.key(table_no)).collect::<Result<_, _>>()?;
        Ok(Some(page))
    }

    /// Whether a short query has to wait.
    fn is_slow(&self) -> bool {
        matches!(self.reach, Reach::Short(watch) if watch.is_slow())
    }

    /// Whether there is much to look up before the first entry is looked at.
    fn is_wide(&self) -> bool {
        let Filter { ids, recipients, bucket, .. } = self.filter;
        let streams = || match recipients.len() {
            0 => self.tables.as_ref().map_or(1, BTreeMap::len),
            recipients => recipients,
        };
        let lookups = if ids.is_empty() { streams() } else { ids.len() * self.tables_to_search().len() };
        bucket.is_some() || lookups > SHORT_LOOKUPS
    }

    /// The key of a table; one that went meanwhile is in the snapshot.
    fn key(&self, table_no: u32) -> Result<Bytes, Error> {
        if let Some(table) = self.view.live().tables.get(&table_no) {
            return Ok(table.spki.clone());
        }
        let row = self.view.txn.open_table(schema::TABLES)?.get(table_no)?;
        let row = row.ok_or_else(|| damaged(format!("table {table_no} is missing")))?;
        Ok(Bytes::copy_from_slice(parse_table(row.value())?.1))
    }

    fn cursor(&self, arrival: u64) -> Cursor {
        Cursor { store: self.view.settings().store_id, arrival }
    }

    /// Where the next entries are: at most so many, and after the first one as many as have so many bytes. Nothing if a short query has to wait.
    fn locate(&self, arrivals: &mut Arrivals<'_>, most: usize, mut room: usize) -> Option<Vec<Located>> {
        let mut located = Vec::new();
        while located.len() < most
            && (located.is_empty() || room > 0)
            && let Some(arrival) = arrivals.next()
        {
            if self.is_slow() {
                return None;
            }
            located.push(arrival.map(|arrival| (arrival, self.view.location(arrival))).map_err(Error::from));
            if let Some(Ok((_, Ok(Some(location))))) = located.last() {
                room = room.saturating_sub(location.length as usize);
            }
        }
        Some(located)
    }

    /// Length of an entry, and its table number and encoding if it fulfils all conditions.
    fn looked_at(
        &self,
        arrival: u64,
        location: Option<&Location>,
        following: impl Iterator<Item = Location>,
    ) -> Result<(usize, Option<(u32, Bytes)>), Error> {
        // Dropped since the snapshot, or an index leads nowhere.
        let Some(location) = location else { return Ok((0, None)) };
        let matches = |facts: &Facts, encoded: &[u8]| self.matches(facts, encoded);
        let (facts, encoded) = self.view.record(arrival, location, following, matches)?;
        Ok((facts.length as usize, encoded.map(|encoded| (facts.table_no, encoded))))
    }

    /// Whether an entry fulfils all conditions; the cheap ones come first.
    fn matches(&self, facts: &Facts, encoded: &[u8]) -> Result<bool, Error> {
        let filter = self.filter;
        if self.tables.as_ref().is_some_and(|tables| !tables.contains_key(&facts.table_no))
            || facts.received < self.received_from
            || filter.created_from.is_some_and(|from| facts.created < from)
            || filter.created_until.is_some_and(|until| facts.created >= until)
            || filter.bucket.is_some_and(|bucket| {
                bucket_of(&facts.id, self.view.settings().network.bucket_bits) != bucket
            })
            || !(filter.ids.is_empty() || filter.ids.contains(&facts.id))
        {
            return Ok(false);
        }
        if filter.recipients.is_empty() {
            return Ok(true);
        }
        Ok(header(facts, encoded)?.recipients.iter().any(|key| filter.recipients.contains(&key.recipient)))
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
        let (after, merged) = (self.after.saturating_add(1), self.newest.min(self.view.merged));
        if !self.filter.recipients.is_empty() {
            let index = self.view.txn.open_table(schema::BY_RECIPIENT)?;
            let prefixes: BTreeSet<_> =
                self.filter.recipients.iter().map(|id| recipient_prefix(id.as_bytes())).collect();
            let stream = |prefix| {
                let range = index.range_owned((prefix, after)..=(prefix, merged.max(after)))?;
                Ok(self.and_fresh(range.map(|row| Ok(row?.0.value().1)), Which::Recipient(prefix)))
            };
            return merge(prefixes.into_iter().map(stream).collect::<Result<Vec<_>, Error>>()?);
        }
        if let Some(tables) = &self.tables {
            let index = self.view.txn.open_table(schema::BY_TABLE)?;
            let stream = |table_no: &u32| {
                let range = index.range_owned((*table_no, after)..=(*table_no, merged.max(after)))?;
                Ok(self.and_fresh(range.map(|row| Ok(row?.0.value().1)), Which::Table(*table_no)))
            };
            return merge(tables.keys().map(stream).collect::<Result<Vec<_>, Error>>()?);
        }
        let all = self.view.txn.open_table(schema::LOCATIONS)?.range_owned(after..=merged.max(after))?;
        Ok(Box::new(self.and_fresh(all.map(|row| Ok(row?.0.value())), Which::All)))
    }

    /// The arrival numbers of an index, and after these those of the delta, as far as a query can get.
    fn and_fresh<'q>(
        &'q self,
        index: impl Iterator<Item = Result<u64, StorageError>> + 'q,
        which: Which,
    ) -> impl Iterator<Item = Result<u64, StorageError>> + 'q {
        let merged = self.view.merged;
        let index = index.filter(move |arrival| {
            arrival.as_ref().is_ok_and(|arrival| *arrival <= merged) || arrival.is_err()
        });
        let most = self.bounds.rows + 1;
        let fresh = std::iter::once_with(move || self.view.fresh_arrivals(which, self.after, most));
        index.chain(fresh.flatten().map(Ok))
    }

    /// The tables to look into.
    fn tables_to_search(&self) -> Vec<u32> {
        match &self.tables {
            Some(tables) => tables.keys().copied().collect(),
            None => self.view.live().tables.keys().copied().collect(),
        }
    }

    /// Where the ids asked for are. There is no other way to find them that is bounded, hence none is tried.
    fn by_ids(&self) -> Result<Option<Vec<u64>>, Error> {
        let ids: BTreeSet<_> = self.filter.ids.iter().collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let tables = self.tables_to_search();
        let most = (self.view.settings().bounds.lookups / tables.len().max(1)).max(1);
        let mut arrivals = Vec::new();
        for table_no in tables {
            for id in ids.iter().take(most) {
                if let Some(Place::Stored { arrival, .. }) = self.view.place(table_no, **id)? {
                    arrivals.push(arrival);
                }
            }
        }
        Ok(Some(arrivals))
    }

    fn by_bucket(&self) -> Result<Option<Vec<u64>>, Error> {
        let Some(bucket) = self.filter.bucket else { return Ok(None) };
        let (tables, settings) = (self.tables_to_search(), self.view.settings());
        if tables.len() > settings.bounds.lookups {
            return Ok(None);
        }
        let buckets = self.view.txn.open_table(schema::BUCKETS)?;
        let (first, last) = id_range(bucket, settings.network.bucket_bits);
        let (mut filled, mut total, mut arrivals) = (Vec::new(), 0, Vec::new());
        for table_no in tables {
            if let Some(row) = buckets.get((table_no, bucket))? {
                total += Bucket::from_row(row.value()).count;
                filled.push(table_no);
            }
            for generation in self.view.delta() {
                for (_, place) in generation.places(table_no, first..=last) {
                    if let Place::Stored { arrival, .. } = place {
                        arrivals.push(arrival);
                    }
                }
            }
            if total + arrivals.len() as u64 > settings.bounds.sorted {
                return Ok(None);
            }
        }
        let index = self.view.txn.open_table(schema::BY_ID)?;
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

/// The header alone; that it belongs to the id was checked before the entry came in.
fn header(facts: &Facts, encoded: &[u8]) -> Result<Header, Error> {
    let undecodable =
        |reason: &dyn fmt::Display| damaged(format!("entry {} does not decode: {reason}", facts.id));
    let mut reader = Reader::new(encoded);
    let header = reader.tuple(4).and_then(|()| reader.bytes(encoded.len()));
    Header::decode(header.map_err(|error| undecodable(&error))?).map_err(|refusal| undecodable(&refusal))
}

/// Merges ascending arrival numbers; one that several of them have comes once.
fn merge<'t, I>(mut streams: Vec<I>) -> Result<Arrivals<'t>, Error>
where
    I: Iterator<Item = Result<u64, StorageError>> + 't,
{
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
