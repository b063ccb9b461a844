//! The delta: what is durable in the log and not merged into the indexes yet.
//!
//! It is a list of generations, of which the last one grows with every commit and the others wait to be merged, which
//! is done in one transaction each. A snapshot of the indexes names the place in the log up to which it is merged;
//! who takes the generations before the snapshot and passes over those it contains sees everything once.

use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
};

use bytes::Bytes;
use p2pdb_protocol::id::{EntryId, TableId};

use super::{
    record::{Facts, Location},
    schema::{Place, Position},
};

/// Entries of a generation at which it is merged.
const ENTRIES: usize = 32_768;

/// A generation, which only the writer changes.
pub(super) type Shared = Arc<RwLock<Generation>>;

/// What one merge takes over.
#[derive(Debug)]
pub(super) struct Generation {
    /// The arrival number of the first entry.
    pub(super) first: u64,
    /// Ascending, without gaps.
    pub(super) entries: Vec<(Facts, Location)>,
    /// Every table that something here is of.
    pub(super) tables: BTreeMap<u32, (TableId, Bytes)>,
    by_id: BTreeMap<(u32, EntryId), Place>,
    by_recipient: HashMap<u64, Vec<u64>>,
    by_table: HashMap<u32, Vec<u64>>,
    /// When the first of them expires, and the first was created; never, if there is none.
    first_expires: u64,
    first_created: u64,
    /// The place in the log behind it.
    pub(super) end: Position,
    bytes: u64,
}

impl Generation {
    /// An empty one, from this arrival number and place in the log on.
    pub(super) fn new(first: u64, end: Position) -> Self {
        Self {
            first,
            entries: Vec::new(),
            tables: BTreeMap::new(),
            by_id: BTreeMap::new(),
            by_recipient: HashMap::new(),
            by_table: HashMap::new(),
            first_expires: u64::MAX,
            first_created: u64::MAX,
            end,
            bytes: 0,
        }
    }

    pub(super) fn add_entry(&mut self, facts: Facts, location: Location) {
        let arrival = facts.arrival;
        self.by_id.insert((facts.table_no, facts.id), facts.place());
        for prefix in &facts.recipients {
            self.by_recipient.entry(*prefix).or_default().push(arrival);
        }
        self.by_table.entry(facts.table_no).or_default().push(arrival);
        self.first_expires = self.first_expires.min(facts.expires.unwrap_or(u64::MAX));
        self.first_created = self.first_created.min(facts.created);
        self.entries.push((facts, location));
    }

    /// Notes that a frame was taken up as a whole.
    pub(super) fn reach(&mut self, end: Position, bytes: u64) {
        self.end = end;
        self.bytes += bytes;
    }

    /// The arrival number behind the last entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn is_full(&self, most_bytes: u64) -> bool {
        self.entries.len() >= ENTRIES || self.bytes >= most_bytes
    }

    /// Whether an entry here has expired, or was created before the horizon.
    fn is_due(&self, now: u64, horizon_start: u64) -> bool {
        self.first_expires <= now || self.first_created < horizon_start
    }

    /// Whether anything here is of this table.
    pub(super) fn concerns(&self, table_no: u32) -> bool {
        self.tables.contains_key(&table_no)
    }

    pub(super) fn place(&self, table_no: u32, id: EntryId) -> Option<Place> {
        self.by_id.get(&(table_no, id)).copied()
    }

    /// Ids of a table in this range, ascending.
    pub(super) fn places(
        &self,
        table_no: u32,
        ids: RangeInclusive<EntryId>,
    ) -> impl Iterator<Item = (EntryId, Place)> {
        let (first, last) = ids.into_inner();
        self.by_id.range((table_no, first)..=(table_no, last)).map(|((_, id), place)| (*id, *place))
    }

    pub(super) fn entry(&self, arrival: u64) -> Option<&(Facts, Location)> {
        let index = usize::try_from(arrival.checked_sub(self.first)?).ok()?;
        self.entries.get(index)
    }

    /// The first entry received at `from` or later; behind all if there is none.
    pub(super) fn first_received(&self, from: u64) -> u64 {
        self.first + self.entries.partition_point(|(facts, _)| facts.received < from) as u64
    }

    /// Arrival numbers from `range` of the entries that `which` selects, at most `most`.
    pub(super) fn arrivals(&self, which: Which, range: &RangeInclusive<u64>, most: usize) -> Vec<u64> {
        let listed = match which {
            Which::All => {
                let (first, last) = (*range.start().max(&self.first), *range.end().min(&(self.next() - 1)));
                return (first..=last).take(most).collect();
            }
            Which::Recipient(prefix) => self.by_recipient.get(&prefix),
            Which::Table(table_no) => self.by_table.get(&table_no),
        };
        let listed = listed.map_or(&[][..], Vec::as_slice);
        let from = listed.partition_point(|arrival| arrival < range.start());
        let ascending = listed.iter().skip(from).take_while(|arrival| *arrival <= range.end());
        ascending.take(most).copied().collect()
    }
}

/// Which arrival numbers are asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    All,
    Table(u32),
    /// The first bytes of its id.
    Recipient(u64),
}

/// The generations that are not merged yet, oldest first; there is always one that grows.
pub(super) struct Delta(RwLock<Vec<Shared>>);

impl Delta {
    pub(super) fn new(generations: Vec<Generation>) -> Self {
        Self(RwLock::new(
            generations.into_iter().map(|generation| Arc::new(RwLock::new(generation))).collect(),
        ))
    }

    pub(super) fn generations(&self) -> Vec<Shared> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets the last generation grow.
    pub(super) fn grow<T>(&self, grow: impl FnOnce(&mut Generation) -> T) -> Option<T> {
        let last = self.generations().pop()?;
        let mut last = last.write().unwrap_or_else(PoisonError::into_inner);
        Some(grow(&mut last))
    }

    /// Ends the last generation, unless it is empty: a new one grows from now on.
    pub(super) fn freeze(&self) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let next = generations.last().and_then(|last| {
            let last = read(last);
            (!last.is_empty()).then(|| Generation::new(last.next(), last.end))
        });
        generations.extend(next.map(|next| Arc::new(RwLock::new(next))));
    }

    /// The oldest generation that waits to be merged, and how many do.
    pub(super) fn oldest_frozen(&self) -> Option<(Shared, usize)> {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let waiting = generations.len().saturating_sub(1);
        generations.first().filter(|_| waiting > 0).map(|oldest| (Arc::clone(oldest), waiting))
    }

    /// Forgets the generations that do not reach behind `merged`, but for the one that grows.
    pub(super) fn forget(&self, merged: Position) {
        let mut generations = self.0.write().unwrap_or_else(PoisonError::into_inner);
        while generations.len() > 1 && generations.first().is_some_and(|oldest| read(oldest).end <= merged) {
            generations.remove(0);
        }
    }

    /// Whether all of them together hold as much as two may.
    pub(super) fn is_full(&self, most_bytes: u64) -> bool {
        let count = |generations: &[RwLockReadGuard<'_, Generation>]| {
            generations.iter().map(|generation| generation.entries.len()).sum::<usize>()
        };
        self.all(count) >= 2 * ENTRIES || self.bytes() >= 2 * most_bytes
    }

    /// Bytes of the log that are not merged.
    pub(super) fn bytes(&self) -> u64 {
        self.all(|generations| generations.iter().map(|generation| generation.bytes).sum())
    }

    /// Whether an entry that is not merged has expired, or was created before the horizon.
    pub(super) fn is_due(&self, now: u64, horizon_start: u64) -> bool {
        self.all(|generations| generations.iter().any(|generation| generation.is_due(now, horizon_start)))
    }

    /// Looks at all generations while none of them grows and none begins. Counters are locked after generations, never
    /// before.
    pub(super) fn all<T>(&self, look: impl FnOnce(&[RwLockReadGuard<'_, Generation>]) -> T) -> T {
        let generations = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let guards: Vec<_> = generations.iter().map(read).collect();
        look(&guards)
    }
}

/// Looks into a generation.
pub(super) fn read(generation: &Shared) -> RwLockReadGuard<'_, Generation> {
    generation.read().unwrap_or_else(PoisonError::into_inner)
}
