//! What comes in: which entries are new, one frame with them, then the delta and the counters.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use p2pdb_protocol::{
    entry::Entry,
    id::{EntryId, TableId},
    keys::PublicKey,
    reconcile::sketch::{Element, Summary},
};
use redb::Error;

use super::Writer;
use crate::store::{
    StoreError,
    delta::Generation,
    live::Live,
    log::FrameWriter,
    record::Facts,
    schema::{Place, Position, damaged},
    view::{Before, View},
};

/// An entry that passed the gate, with the key of its table.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// The entry.
    pub entry: Entry,
    /// The public key of its table, kept when the table is new to the store.
    pub key: PublicKey,
}

/// What became of an entry that was to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Committed {
    /// Durably stored under this arrival number.
    Stored {
        /// The arrival number.
        arrival: u64,
    },
    /// Stored before.
    Known,
    /// Dropped before, or at once because the disk's limit leaves no room for so little effort per byte.
    Dropped,
}

/// Tables that a frame names, by number.
type Tables = BTreeMap<u32, (TableId, Bytes)>;

impl Writer {
    /// Stores what is not known yet; answers in the order of `new`.
    pub(super) fn store(&mut self, new: &[NewEntry]) -> Result<Vec<Committed>, StoreError> {
        self.make_room()?;
        let (numbers, tables) = self.numbers(new)?;
        let ids: Vec<_> = new
            .iter()
            .map(|new| (numbers.get(&new.entry.header().table).copied().unwrap_or(0), new.entry.id()))
            .collect();
        let mut outcomes = self.view(|view| known(view, &ids))?;

        let state = self.core.live_mut().state;
        let received = self.core.clock.now().max(state.last_received);
        let (mut frame, mut added) = (FrameWriter::new(received), Vec::new());
        let touched: BTreeSet<_> = ids
            .iter()
            .zip(&outcomes)
            .filter(|(_, outcome)| outcome.is_none())
            .map(|((no, _), _)| *no)
            .collect();
        let fault = |error| self.core.file.fault(error);
        let named = self.name(&touched, &tables, &mut frame).map_err(fault)?;
        for (((table_no, _), NewEntry { entry, .. }), outcome) in ids.iter().zip(new).zip(&mut outcomes) {
            if outcome.is_none() {
                let arrival = state.next_arrival + added.len() as u64;
                let facts = Facts::of(entry, *table_no, arrival, received).map_err(fault)?;
                let offset = frame.entry(&facts, entry.encoded());
                added.push((facts, offset));
                *outcome = Some(Committed::Stored { arrival });
            }
        }
        if !added.is_empty() {
            let count = added.len();
            let mut cells = BTreeMap::<_, Summary>::new();
            for (facts, _) in &added {
                let cell = facts.cell(&self.core.settings.network);
                cells.entry(cell).or_default().insert(&Element::of(&facts.id));
            }
            self.append(frame, named, |generation, live, place| {
                cells.iter().for_each(|(cell, ids)| live.came(*cell, ids));
                for (facts, offset) in added {
                    let offset = u32::try_from(place.offset + offset as u64).unwrap_or(u32::MAX);
                    let location = facts.at(place.segment, offset);
                    live.stored(&facts, &location);
                    generation.add_entry(facts, location);
                }
            })?;
            let touched: Vec<_> = touched.into_iter().collect();
            let is_over = self.core.live_mut().is_over_limit(&self.core.settings, &touched);
            if is_over {
                // They are durable, whatever becomes of the limit; it is tried again with the next commit.
                let evicted = self.evict(touched, count).inspect_err(|error| {
                    tracing::error!(
                        error = error.with_causes(),
                        "what must give way to new entries could not be dropped, and is tried again"
                    );
                });
                let evicted: HashSet<_> = evicted.unwrap_or_default().into_iter().collect();
                for outcome in &mut outcomes {
                    if matches!(outcome, Some(Committed::Stored { arrival }) if evicted.contains(arrival)) {
                        *outcome = Some(Committed::Dropped);
                    }
                }
            }
        }
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Writes a frame and takes it up with `apply`, for which it has the place of the frame.
    fn append(
        &mut self,
        frame: FrameWriter,
        named: Tables,
        apply: impl FnOnce(&mut Generation, &mut Live, Position),
    ) -> Result<(), StoreError> {
        let core = &self.core;
        let length = frame.len() as u64;
        let place = self.log.append(&core.log, frame).map_err(|error| core.file.fault(error))?;
        let end = self.log.end();
        core.delta.grow(|generation| {
            let mut live = core.live_mut();
            for (number, (table, spki)) in named {
                live.add_table(number, table, spki.clone());
                generation.tables.insert(number, (table, spki));
            }
            apply(generation, &mut live, place);
            generation.reach(end, length);
        });
        Ok(())
    }

    /// Lets a frame name those of `tables` that its generation did not name yet: its merge, or a replay, may be the one
    /// that has to bring them in.
    fn name(&self, tables: &BTreeSet<u32>, known: &Tables, frame: &mut FrameWriter) -> Result<Tables, Error> {
        let mut named = Tables::new();
        let unnamed = self.core.delta.grow(|generation| {
            tables
                .iter()
                .filter(|number| !generation.tables.contains_key(number))
                .copied()
                .collect::<Vec<_>>()
        });
        for number in unnamed.unwrap_or_default() {
            let known =
                known.get(&number).ok_or_else(|| damaged(format!("table number {number} is missing")))?;
            let (table, spki) = known.clone();
            frame.table(number, &table, &spki)?;
            named.insert(number, (table, spki));
        }
        Ok(named)
    }

    /// The numbers of all tables of `new`, and these tables.
    fn numbers(&self, new: &[NewEntry]) -> Result<(HashMap<TableId, u32>, Tables), StoreError> {
        let live = self.core.live_mut();
        let (mut numbers, mut tables, mut next) = (HashMap::new(), Tables::new(), live.state.next_table);
        for NewEntry { entry, key } in new {
            let table = entry.header().table;
            if numbers.contains_key(&table) {
                continue;
            }
            let number = match live.number_of(&table) {
                Some(number) => number,
                None => {
                    next += 1;
                    u32::try_from(next - 1)
                        .map_err(|_| self.core.file.fault(damaged(format!("table numbers end at {next}"))))?
                }
            };
            tables.insert(number, (table, Bytes::copy_from_slice(key.der())));
            numbers.insert(table, number);
        }
        Ok((numbers, tables))
    }

    fn view<T>(&self, read: impl Fn(&View<'_>) -> Result<T, Error>) -> Result<T, StoreError> {
        let before = Before::take(&self.core);
        self.core.file.read(|txn| read(&before.view(&self.core, txn)?))
    }
}

/// What is known of each id already; nothing if it is new.
fn known(view: &View<'_>, ids: &[(u32, EntryId)]) -> Result<Vec<Option<Committed>>, Error> {
    let mut sorted: Vec<_> = ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
    sorted.sort_unstable();
    let mut outcomes = vec![None; ids.len()];
    let mut previous = None;
    for ((table_no, id), index) in sorted {
        let outcome = match view.place(table_no, id)? {
            Some(Place::Stored { .. }) => Some(Committed::Known),
            Some(Place::Dropped { .. }) => Some(Committed::Dropped),
            None if previous == Some((table_no, id)) => Some(Committed::Known),
            None => None,
        };
        if let Some(slot) = outcomes.get_mut(index) {
            *slot = outcome;
        }
        previous = Some((table_no, id));
    }
    Ok(outcomes)
}
