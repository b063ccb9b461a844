//! A node's store as a model: what SPEC 6 and 8 say of stored and Known ids, in a few maps.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use p2pdb_protocol::{
    bucket::{BucketSummary, bucket_of, digest, id_range},
    filter::Cursor,
    id::{EntryId, TableId},
    limits::{MAX_GET_BYTES, MAX_GET_ENTRIES},
    reconcile::{
        Held, Served,
        sketch::{Element, Group, Sid, Summary},
    },
    refusal::{Outcome, Refusal},
};

use super::random::Random;

/// The network's parameters that matter here.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub bucket_bits: u8,
    pub epoch_seconds: u64,
}

impl Rules {
    /// The next beginning of an epoch (SPEC 8.6).
    pub fn round_up(&self, time: u64) -> u64 {
        time.next_multiple_of(self.epoch_seconds)
    }
}

/// An entry, as far as reconciliation sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub id: EntryId,
    pub table: TableId,
    pub created: u64,
    pub size: u64,
    /// Whether signature and work are right; the id does not cover them (SPEC 13.2).
    pub valid: bool,
}

impl Item {
    pub fn random(table: TableId, created: u64, size: u64, random: &mut Random) -> Self {
        Self { id: EntryId::from_bytes(random.bytes()), table, created, size, valid: true }
    }
}

#[derive(Debug, Clone)]
pub struct Store {
    pub rules: Rules,
    /// Entries created before it are neither served nor taken.
    pub horizon: u64,
    tables: BTreeMap<TableId, BTreeMap<EntryId, Item>>,
    pub dropped: BTreeSet<EntryId>,
    /// Everything that was ever stored, in the order in which it arrived.
    arrivals: Vec<(TableId, EntryId)>,
    /// The summaries asked for since the last change.
    summaries: RefCell<BTreeMap<(TableId, u64), Summary>>,
}

impl Store {
    /// An empty store that mirrors these tables.
    pub fn new(rules: Rules, tables: impl IntoIterator<Item = TableId>, horizon: u64) -> Self {
        let tables = tables.into_iter().map(|table| (table, BTreeMap::new())).collect();
        Self {
            rules,
            horizon,
            tables,
            dropped: BTreeSet::new(),
            arrivals: Vec::new(),
            summaries: RefCell::default(),
        }
    }

    pub fn tables(&self) -> impl Iterator<Item = TableId> {
        self.tables.keys().copied()
    }

    pub fn mirrors(&self, table: &TableId) -> bool {
        self.tables.contains_key(table)
    }

    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.tables.values().flat_map(BTreeMap::values)
    }

    pub fn is_known(&self, table: &TableId, id: &EntryId) -> bool {
        self.tables.get(table).is_some_and(|items| items.contains_key(id)) || self.dropped.contains(id)
    }

    /// The gate (SPEC 6.1), as far as it matters here, in its order.
    pub fn admit(&mut self, item: Item) -> Served {
        let outcome = if item.created < self.horizon {
            self.dropped.insert(item.id);
            Outcome::Refused(Refusal::BeyondHorizon)
        } else if self.dropped.contains(&item.id) {
            Outcome::Refused(Refusal::Dropped)
        } else {
            match self.tables.get_mut(&item.table) {
                None => Outcome::Refused(Refusal::TableNotMirrored),
                Some(items) if items.contains_key(&item.id) => Outcome::Known,
                Some(_) if !item.valid => Outcome::Refused(Refusal::SignatureInvalid),
                Some(items) => {
                    items.insert(item.id, item);
                    self.arrivals.push((item.table, item.id));
                    self.summaries.get_mut().clear();
                    Outcome::Stored
                }
            }
        };
        Served { id: Some(item.id), outcome }
    }

    /// Drops an entry under pressure: it stays Known (SPEC 6.3).
    pub fn evict(&mut self, item: &Item) {
        if self.tables.get_mut(&item.table).is_some_and(|items| items.remove(&item.id).is_some()) {
            self.dropped.insert(item.id);
            self.summaries.get_mut().clear();
        }
    }

    pub fn scope(&self, since: u64) -> u64 {
        self.rules.round_up(since.max(self.horizon))
    }

    pub fn index(&self, table: &TableId, since: u64) -> Vec<BucketSummary> {
        let bits = self.rules.bucket_bits;
        let mut buckets: BTreeMap<u16, Vec<EntryId>> = BTreeMap::new();
        for item in self.tables.get(table).into_iter().flat_map(BTreeMap::values) {
            if item.created >= since {
                buckets.entry(bucket_of(&item.id, bits)).or_default().push(item.id);
            }
        }
        let summary = |(bucket, ids): (u16, Vec<EntryId>)| BucketSummary {
            bucket,
            count: ids.len() as u64,
            digest: digest(ids.iter()),
        };
        buckets.into_iter().map(summary).collect()
    }

    pub fn page(
        &self,
        table: &TableId,
        since: u64,
        bucket: u16,
        after: Option<EntryId>,
        limit: usize,
    ) -> (Vec<EntryId>, bool) {
        let (first, last) = id_range(bucket, self.rules.bucket_bits);
        let items = self.tables.get(table).into_iter().flat_map(|items| items.range(first..=last));
        let mut ids = items
            .filter(|(id, item)| item.created >= since && after.is_none_or(|after| **id > after))
            .map(|(id, _)| *id);
        let page = ids.by_ref().take(limit).collect();
        let more = ids.next().is_some();
        (page, more)
    }

    pub fn get(&self, ids: &[EntryId]) -> (Vec<Item>, bool) {
        let mut page: Vec<Item> = Vec::new();
        let mut bytes = 0;
        for id in ids {
            let Some(item) = self.tables.values().find_map(|items| items.get(id)) else { continue };
            bytes += item.size;
            if page.len() == MAX_GET_ENTRIES || bytes > MAX_GET_BYTES as u64 {
                return (page, true);
            }
            page.push(*item);
        }
        (page, false)
    }

    fn ids(&self, table: &TableId, since: u64) -> impl Iterator<Item = &EntryId> {
        let items = self.tables.get(table).into_iter().flatten();
        items.filter(move |(_, item)| item.created >= since).map(|(id, _)| id)
    }

    pub fn summary(&self, table: &TableId, since: u64) -> Summary {
        let compute = || {
            let mut summary = Summary::default();
            self.ids(table, since).for_each(|id| summary.insert(&Element::of(id)));
            summary
        };
        self.summaries.borrow_mut().entry((*table, since)).or_insert_with(compute).clone()
    }

    pub fn groups(&self, table: &TableId, since: u64, level: u8) -> Vec<Group> {
        let mut groups = vec![Group::default(); 1 << level];
        self.ids(table, since)
            .for_each(|id| groups[usize::from(Sid::of(id).group(level))].insert(&Element::of(id)));
        groups
    }

    pub fn held(&self, table: &TableId, sids: &[Sid]) -> Vec<Held> {
        let mut held = Vec::new();
        for sid in sids {
            let (first, last) = sid.range();
            let stored = self.tables.get(table).into_iter().flat_map(|items| items.range(first..=last));
            held.extend(stored.map(|(id, _)| Held { id: *id, stored: true }));
            held.extend(self.dropped.range(first..=last).map(|id| Held { id: *id, stored: false }));
        }
        held
    }

    pub fn by_sids(&self, table: &TableId, sids: &[Sid]) -> (Vec<Item>, bool) {
        let held = self.held(table, sids);
        self.get(&held.iter().map(|held| held.id).collect::<Vec<_>>())
    }

    /// The next entries in the order of their arrival, where the next page begins, and whether there is one.
    pub fn arrived(&self, table: &TableId, since: u64, cursor: Option<Cursor>) -> (Vec<Item>, Cursor, bool) {
        let after = cursor.map_or(0, |cursor| cursor.arrival);
        let cursor = |arrival| Cursor { store: [5; 8], arrival };
        let (mut page, mut bytes) = (Vec::new(), 0);
        for (arrival, (of, id)) in (1..).zip(&self.arrivals).skip(after as usize) {
            let Some(item) = self.tables.get(of).and_then(|items| items.get(id)) else { continue };
            if of != table || item.created < since {
                continue;
            }
            bytes += item.size;
            if page.len() == MAX_GET_ENTRIES || bytes > MAX_GET_BYTES as u64 {
                return (page, cursor(arrival - 1), true);
            }
            page.push(*item);
        }
        (page, cursor(self.arrivals.len() as u64), false)
    }
}
