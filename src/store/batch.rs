//! Everything that changes within one transaction: entries, their index rows and all counters together.

mod tables;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use p2pdb_protocol::{
    bucket::bucket_of,
    entry::Entry,
    id::{EntryId, TableId},
    keys::PublicKey,
};
use redb::{Error, ReadableTable, Table, WriteTransaction};

use super::{
    Settings, charge,
    keys::{Found, FoundBy, Keys, insert_all, remove_all},
    schema::{self, Bucket, DropReason, EntryRow, Facts, Place, State, TableTotals},
};

/// For how long an id stays known that was refused unseen, in seconds.
const REMEMBER_REFUSED: u64 = 7 * 86_400;

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

/// The open tables of a write transaction, and the counters as they will be at its end.
pub(super) struct Batch<'t> {
    settings: &'t Settings,
    now: u64,
    changed: bool,
    state: State,
    totals: BTreeMap<u32, TableTotals>,
    /// By how much the count of each touched bucket changes.
    buckets: BTreeMap<(u32, u16), i64>,
    /// Tables of which an id was forgotten, that may have been the last one.
    thinned: BTreeSet<u32>,
    txn: &'t WriteTransaction,
    tables: Table<'t, u32, &'static [u8]>,
    entries: Table<'t, u64, &'static [u8]>,
    by_id: Table<'t, (u32, &'static [u8; 32]), (u8, u64, u64)>,
    by_table: Table<'t, (u32, u64), ()>,
    by_recipient: Table<'t, (u64, u64), ()>,
    pub(super) by_score: Table<'t, (u32, u64, u64), u64>,
    pub(super) by_epoch: Table<'t, (u32, u64, u64), ()>,
    pub(super) by_expiry: Table<'t, (u64, u64), ()>,
    dropped: Table<'t, (u64, u32, &'static [u8; 32]), ()>,
}

impl<'t> Batch<'t> {
    pub(super) fn open(txn: &'t WriteTransaction, settings: &'t Settings, now: u64) -> Result<Self, Error> {
        Ok(Self {
            settings,
            now,
            changed: false,
            state: State::read(&txn.open_table(schema::STATE)?)?,
            totals: BTreeMap::new(),
            buckets: BTreeMap::new(),
            thinned: BTreeSet::new(),
            txn,
            tables: txn.open_table(schema::TABLES)?,
            entries: txn.open_table(schema::ENTRIES)?,
            by_id: txn.open_table(schema::BY_ID)?,
            by_table: txn.open_table(schema::BY_TABLE)?,
            by_recipient: txn.open_table(schema::BY_RECIPIENT)?,
            by_score: txn.open_table(schema::BY_SCORE)?,
            by_epoch: txn.open_table(schema::BY_EPOCH)?,
            by_expiry: txn.open_table(schema::BY_EXPIRY)?,
            dropped: txn.open_table(schema::DROPPED)?,
        })
    }

    /// Stores what is not known yet; answers in the order of `new`.
    pub(super) fn insert(&mut self, new: &[NewEntry]) -> Result<Vec<Committed>, Error> {
        let mut numbers = HashMap::new();
        let mut ids = Vec::with_capacity(new.len());
        for (index, NewEntry { entry, key }) in new.iter().enumerate() {
            let table = entry.header().table;
            let table_no = match numbers.get(&table) {
                Some(table_no) => *table_no,
                None => *numbers.entry(table).or_insert(self.intern(table, key)?),
            };
            ids.push((table_no, entry.id(), index));
        }
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        let mut outcomes = vec![None; new.len()];
        let mut previous = None;
        for (table_no, id, index) in sorted {
            let place = self.place(table_no, &id)?;
            if let Some(outcome) = outcomes.get_mut(index) {
                *outcome = match place {
                    Some(Place::Stored { .. }) => Some(Committed::Known),
                    Some(Place::Dropped { .. }) => Some(Committed::Dropped),
                    None if previous == Some((table_no, id)) => Some(Committed::Known),
                    None => None,
                };
            }
            previous = Some((table_no, id));
        }

        let received = self.now.max(self.state.last_received);
        let mut keys = Keys::default();
        let mut append = self.entries.upper_bound_mut(std::ops::Bound::<u64>::Unbounded)?;
        for (outcome, (table_no, id, index)) in outcomes.iter_mut().zip(ids) {
            let (None, Some(NewEntry { entry, .. })) = (&outcome, new.get(index)) else { continue };
            let arrival = self.state.next_arrival;
            let (header, encoded, effort) = (entry.header(), entry.encoded(), entry.effort());
            let created = header.created;
            append.insert_before(
                arrival,
                EntryRow { received, effort, created, table_no, id, encoded }.to_bytes().as_slice(),
            )?;
            let facts = Facts { table_no, arrival, id, effort, length: encoded.len(), header };
            keys.add(&facts, self.settings, Some(Place::Stored { arrival, created }));
            let charge = facts.charge();
            let totals = totals_of(&mut self.totals, self.txn, table_no)?;
            totals.entries += 1;
            totals.bytes += encoded.len() as u64;
            totals.charge += charge;
            totals.newest = arrival;
            *self.buckets.entry(facts.bucket(&self.settings.network)).or_default() += 1;
            self.state.charge += charge;
            self.state.next_arrival += 1;
            self.state.last_received = received;
            self.changed = true;
            *outcome = Some(Committed::Stored { arrival });
        }
        append.close()?;
        keys.sort();
        for (table_no, id, place) in &keys.by_id {
            if let Some(place) = place {
                self.by_id.insert((*table_no, id.as_bytes()), place.to_row())?;
            }
        }
        insert_all(&mut self.by_table, &keys.by_table)?;
        insert_all(&mut self.by_recipient, &keys.by_recipient)?;
        for (key, charge) in &keys.by_score {
            self.by_score.insert(key, charge)?;
        }
        insert_all(&mut self.by_epoch, &keys.by_epoch)?;
        insert_all(&mut self.by_expiry, &keys.by_expiry)?;
        Ok(outcomes.into_iter().flatten().collect())
    }

    /// Removes stored entries; with a reason, their ids stay known.
    ///
    /// What cannot be decoded goes as far as its rows can be reached, so that one damaged value does not keep the
    /// others from being dropped; [`Store::verify`](super::Store::verify) finds what is left of it.
    pub(super) fn remove(&mut self, found: &[Found], reason: Option<DropReason>) -> Result<(), Error> {
        let mut keys = Keys::default();
        for Found { arrival, key } in found.iter().copied().collect::<BTreeSet<_>>() {
            // What led here goes in any case: it must not lead here for ever.
            keys.add_found(key, arrival);
            let Some(row) = self.entries.remove(arrival)?.map(|row| row.value().to_vec()) else {
                tracing::error!(arrival, "an index names a missing entry; the store is damaged");
                continue;
            };
            let row = match EntryRow::parse(&row) {
                Ok(row) => row,
                Err(error) => {
                    tracing::error!(arrival, %error, "an entry cannot be read and is dropped");
                    continue;
                }
            };
            let EntryRow { effort, table_no, id, created, encoded, .. } = row;
            let network = &self.settings.network;
            let score_key = (table_no, row.score(), arrival);
            let charge = self.by_score.get(score_key)?.map_or(0, |charge| charge.value());
            let header = row.header();
            let forget_at = header.as_ref().map_or(self.now.saturating_add(REMEMBER_REFUSED), |header| {
                reason.map_or(0, |reason| self.settings.forget_at(header, reason, self.now))
            });
            let place = reason.map(|reason| Place::Dropped { reason, forget_at });
            match header {
                Ok(header) => {
                    let length = encoded.len();
                    let facts = Facts { table_no, arrival, id, effort, length, header: &header };
                    keys.add(&facts, self.settings, place);
                }
                Err(error) => {
                    tracing::error!(arrival, %error, "an entry is dropped without its recipients and expiry");
                    keys.by_id.push((table_no, id, place));
                    keys.by_table.push((table_no, arrival));
                    keys.by_score.push((score_key, charge));
                    keys.by_epoch.push((table_no, network.epoch(created), arrival));
                }
            }
            let totals = totals_of(&mut self.totals, self.txn, table_no)?;
            totals.entries = totals.entries.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(encoded.len() as u64);
            totals.charge = totals.charge.saturating_sub(charge);
            *self.buckets.entry((table_no, bucket_of(&id, network.bucket_bits))).or_default() -= 1;
            self.state.charge = self.state.charge.saturating_sub(charge);
        }
        self.changed |= !found.is_empty();
        keys.sort();
        for (table_no, id, place) in &keys.by_id {
            if let Some(Place::Dropped { reason, forget_at }) = *place {
                self.remember(*table_no, id, reason, forget_at)?;
            } else {
                self.by_id.remove((*table_no, id.as_bytes()))?;
                self.thinned.insert(*table_no);
            }
        }
        remove_all(&mut self.by_table, &keys.by_table)?;
        remove_all(&mut self.by_recipient, &keys.by_recipient)?;
        for (key, _) in &keys.by_score {
            self.by_score.remove(key)?;
        }
        remove_all(&mut self.by_epoch, &keys.by_epoch)?;
        remove_all(&mut self.by_expiry, &keys.by_expiry)
    }

    /// Makes an id known as dropped, and removes its entry if it is stored.
    pub(super) fn drop_for_good(
        &mut self,
        table: TableId,
        id: EntryId,
        reason: DropReason,
    ) -> Result<(), Error> {
        let numbers = self.txn.open_table(schema::TABLE_NUMBERS)?;
        let Some(table_no) = numbers.get(table.as_bytes())?.map(|number| number.value()) else {
            return Ok(());
        };
        match self.place(table_no, &id)? {
            Some(Place::Stored { arrival, .. }) => {
                self.remove(&[Found { arrival, key: FoundBy::Id(table_no, id) }], Some(reason))
            }
            Some(Place::Dropped { .. }) => Ok(()),
            // Nobody worked for such an id, so it must not push out the memory of one that cost something.
            None if self.state.dropped >= self.settings.max_dropped => Ok(()),
            None => self.remember(table_no, &id, reason, self.now.saturating_add(REMEMBER_REFUSED)),
        }
    }

    /// Forgets dropped ids whose time has come, and the next ones as long as there are too many; at most `limit`.
    pub(super) fn forget(&mut self, limit: u64) -> Result<u64, Error> {
        let mut forgotten = 0;
        while forgotten < limit {
            let Some((key, _)) = self.dropped.first()? else { break };
            let (forget_at, table_no, id) = key.value();
            if forget_at > self.now && self.state.dropped <= self.settings.max_dropped {
                break;
            }
            let id = *id;
            drop(key);
            self.dropped.remove((forget_at, table_no, &id))?;
            self.by_id.remove((table_no, &id))?;
            self.thinned.insert(table_no);
            self.state.dropped = self.state.dropped.saturating_sub(1);
            self.state.charge = self.state.charge.saturating_sub(charge::DROPPED);
            self.changed = true;
            forgotten += 1;
        }
        Ok(forgotten)
    }

    /// Writes the counters; whether anything changed at all.
    pub(super) fn finish(mut self) -> Result<bool, Error> {
        if !self.changed {
            return Ok(false);
        }
        self.state.change += 1;
        self.remove_empty_tables()?;
        let mut rows = self.txn.open_table(schema::BUCKETS)?;
        for (key, difference) in self.buckets {
            let bucket = rows.get(key)?.map(|row| Bucket::from_row(row.value())).unwrap_or_default();
            // A damaged count must not keep what is sound from being written.
            let count = bucket.count.saturating_add_signed(difference);
            if count == 0 {
                rows.remove(key)?;
            } else {
                rows.insert(key, Bucket { count, changed: self.state.change, ..bucket }.as_row())?;
            }
        }
        let mut totals = self.txn.open_table(schema::TABLE_TOTALS)?;
        for (table_no, row) in self.totals {
            totals.insert(table_no, row.to_row())?;
        }
        self.txn.open_table(schema::STATE)?.insert((), self.state.to_row())?;
        Ok(true)
    }

    pub(super) const fn settings(&self) -> &'t Settings {
        self.settings
    }

    pub(super) const fn now(&self) -> u64 {
        self.now
    }

    /// What everything stored and dropped is charged, as of now.
    pub(super) const fn charge(&self) -> u64 {
        self.state.charge
    }

    /// The tables that this batch touched.
    pub(super) fn touched(&self) -> Vec<u32> {
        self.totals.keys().copied().collect()
    }

    /// Where an id is; one whose row makes no sense is left alone, as if it were dropped for ever.
    fn place(&self, table_no: u32, id: &EntryId) -> Result<Option<Place>, Error> {
        let Some(row) = self.by_id.get((table_no, id.as_bytes()))? else { return Ok(None) };
        Ok(Some(Place::from_row(row.value()).unwrap_or_else(|error| {
            tracing::error!(%id, %error, "an id is passed over");
            Place::Dropped { reason: DropReason::Refused, forget_at: u64::MAX }
        })))
    }

    fn remember(
        &mut self,
        table_no: u32,
        id: &EntryId,
        reason: DropReason,
        forget_at: u64,
    ) -> Result<(), Error> {
        self.by_id.insert((table_no, id.as_bytes()), Place::Dropped { reason, forget_at }.to_row())?;
        self.dropped.insert((forget_at, table_no, id.as_bytes()), ())?;
        self.state.dropped += 1;
        self.state.charge += charge::DROPPED;
        self.changed = true;
        Ok(())
    }
}

fn totals_of<'m>(
    touched: &'m mut BTreeMap<u32, TableTotals>,
    txn: &WriteTransaction,
    table_no: u32,
) -> Result<&'m mut TableTotals, Error> {
    use std::collections::btree_map::Entry::{Occupied, Vacant};
    match touched.entry(table_no) {
        Occupied(totals) => Ok(totals.into_mut()),
        Vacant(vacant) => {
            let rows = txn.open_table(schema::TABLE_TOTALS)?;
            let row = rows.get(table_no)?.map(|row| row.value());
            Ok(vacant.insert(row.map(TableTotals::from_row).unwrap_or_default()))
        }
    }
}
