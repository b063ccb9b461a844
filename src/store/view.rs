//! A view: a snapshot of the indexes, and the part of the delta that it does not contain.

use std::{
    cell::{OnceCell, RefCell},
    collections::BTreeMap,
    ops::RangeInclusive,
    sync::{PoisonError, RwLockReadGuard},
};

use bytes::Bytes;
use p2pdb_protocol::id::EntryId;
use redb::{Error, ReadOnlyTable, ReadTransaction};

use super::{
    Core, Settings,
    delta::{self, Generation, Shared, Which},
    live::Live,
    log::{Ahead, Segments},
    record::{Facts, Location},
    schema::{self, LocationRow, Place, State, damaged},
};

/// [`schema::BY_ID`] in a snapshot.
type ById = ReadOnlyTable<(u32, &'static [u8; 32]), (u8, u64, u64)>;

/// What has to be taken before the snapshot.
pub(super) struct Before {
    generations: Vec<Shared>,
    segments: Segments,
    /// The newest arrival number that the view has.
    newest: u64,
}

/// A consistent view of the store.
pub(super) struct View<'v> {
    pub(super) core: &'v Core,
    pub(super) txn: &'v ReadTransaction,
    by_id: OnceCell<ById>,
    locations: ReadOnlyTable<u64, LocationRow>,
    segments: &'v Segments,
    ahead: RefCell<Ahead>,
    /// Generations that are not in the snapshot, oldest first.
    generations: Vec<&'v Shared>,
    /// The newest arrival number in the snapshot, and in the view.
    pub(super) merged: u64,
    pub(super) newest: u64,
}

impl Before {
    pub(super) fn take(core: &Core) -> Self {
        let generations = core.delta.generations();
        let newest = generations.last().map_or(0, |last| delta::read(last).next().saturating_sub(1));
        Self { generations, segments: core.log.segments(), newest }
    }

    pub(super) fn view<'v>(&'v self, core: &'v Core, txn: &'v ReadTransaction) -> Result<View<'v>, Error> {
        let state = State::read(&txn.open_table(schema::STATE)?)?;
        let merged = state.newest();
        let is_missing = |generation: &&Shared| delta::read(generation).end > state.position;
        let generations = self.generations.iter().filter(is_missing).collect();
        let newest = self.newest.max(merged);
        Ok(View {
            core,
            txn,
            by_id: OnceCell::new(),
            locations: txn.open_table(schema::LOCATIONS)?,
            segments: &self.segments,
            ahead: RefCell::default(),
            generations,
            merged,
            newest,
        })
    }
}

impl View<'_> {
    pub(super) const fn settings(&self) -> &Settings {
        &self.core.settings
    }

    pub(super) fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.core.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The generations that are not in the snapshot, oldest first.
    pub(super) fn delta(&self) -> impl DoubleEndedIterator<Item = RwLockReadGuard<'_, Generation>> {
        self.generations.iter().map(|generation| delta::read(generation))
    }

    /// Where an id is, as far as the delta knows.
    pub(super) fn fresh_place(&self, table_no: u32, id: EntryId) -> Option<Place> {
        self.delta().rev().find_map(|generation| generation.place(table_no, id))
    }

    /// Where ids of a table are, as far as the delta knows.
    pub(super) fn fresh_places(
        &self,
        table_no: u32,
        ids: RangeInclusive<EntryId>,
    ) -> BTreeMap<EntryId, Place> {
        let mut places = BTreeMap::new();
        self.delta().for_each(|generation| places.extend(generation.places(table_no, ids.clone())));
        // Those that came since are of a later view.
        places.retain(|_, place| !matches!(place, Place::Stored { arrival, .. } if *arrival > self.newest));
        places
    }

    /// What the delta adds to a table, in the order in which it came: ids, with their arrival number and `created`.
    pub(super) fn fresh(&self, table_no: u32) -> Vec<(EntryId, u64, u64)> {
        let (mut added, range) = (Vec::new(), self.merged.saturating_add(1)..=self.newest);
        for generation in self.delta() {
            let arrivals = generation.arrivals(Which::Table(table_no), &range, usize::MAX);
            let entries = arrivals.into_iter().filter_map(|arrival| generation.entry(arrival));
            added.extend(entries.map(|(facts, _)| (facts.id, facts.arrival, facts.created)));
        }
        added
    }

    /// Where an id is.
    pub(super) fn place(&self, table_no: u32, id: EntryId) -> Result<Option<Place>, Error> {
        match self.fresh_place(table_no, id) {
            None => self.merged_place(table_no, &id),
            place => Ok(place),
        }
    }

    /// Where an id is, as far as it is merged.
    pub(super) fn merged_place(&self, table_no: u32, id: &EntryId) -> Result<Option<Place>, Error> {
        schema::place(self.by_id()?, table_no, id)
    }

    /// Opened when it is needed: most questions go without.
    fn by_id(&self) -> Result<&ById, Error> {
        if let Some(by_id) = self.by_id.get() {
            return Ok(by_id);
        }
        let by_id = self.txn.open_table(schema::BY_ID)?;
        Ok(self.by_id.get_or_init(|| by_id))
    }

    /// The merged ids of a table in this range, ascending, at most `most`.
    pub(super) fn merged_ids(
        &self,
        table_no: u32,
        ids: RangeInclusive<EntryId>,
        most: usize,
    ) -> Result<Vec<EntryId>, Error> {
        let (first, last) = ids.into_inner();
        let rows = self.by_id()?.range((table_no, first.as_bytes())..=(table_no, last.as_bytes()))?;
        rows.take(most).map(|row| Ok(EntryId::from_bytes(*row?.0.value().1))).collect()
    }

    /// Where an entry is.
    pub(super) fn location(&self, arrival: u64) -> Result<Option<Location>, Error> {
        if arrival > self.merged {
            let find = |generation: RwLockReadGuard<'_, Generation>| Some(generation.entry(arrival)?.1);
            return Ok(self.delta().find_map(find));
        }
        let row = self.locations.get(arrival)?;
        Ok(row.map(|row| Location::from_row(row.value())))
    }

    /// The facts of an entry, and its encoding if that `matches`. Those that come `next` are read together with it.
    pub(super) fn record(
        &self,
        arrival: u64,
        location: &Location,
        next: impl Iterator<Item = Location>,
        matches: impl FnOnce(&Facts, &[u8]) -> Result<bool, Error>,
    ) -> Result<(Facts, Option<Bytes>), Error> {
        let newer;
        let segments = if self.segments.contains_key(&location.segment) {
            self.segments
        } else {
            newer = self.core.log.segments();
            &newer
        };
        let mut ahead = self.ahead.borrow_mut();
        let (facts, encoded) = Facts::parse(ahead.record(segments, location, next)?)?;
        if facts.arrival != arrival || encoded.len() != facts.length as usize {
            return Err(damaged(format!("the record of entry {arrival} is that of entry {}", facts.arrival)));
        }
        let encoded = matches(&facts, encoded)?.then(|| Bytes::copy_from_slice(encoded));
        Ok((facts, encoded))
    }

    /// Arrival numbers in the delta from `after` on, ascending, at most `most` and at least all of those that come
    /// before the next one.
    pub(super) fn fresh_arrivals(&self, which: Which, after: u64, most: usize) -> Vec<u64> {
        let range = after.max(self.merged).saturating_add(1)..=self.newest;
        let mut arrivals = Vec::new();
        for generation in self.delta() {
            arrivals.extend(generation.arrivals(which, &range, most.saturating_sub(arrivals.len())));
        }
        arrivals
    }

    /// The first entry received at `from` or later; behind all if there is none.
    pub(super) fn first_received(&self, from: u64) -> Result<u64, Error> {
        if let Some(row) = self.txn.open_table(schema::BY_RECEIVED)?.range(from..)?.next() {
            return Ok(row?.1.value());
        }
        let fresh = self.delta().find_map(|generation| {
            let first = generation.first_received(from);
            (first < generation.next()).then_some(first)
        });
        Ok(fresh.unwrap_or(self.newest + 1))
    }
}
