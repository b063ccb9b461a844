//! Everything that changes within one transaction of the indexes: rows, counters and the mark together.

mod tables;

use std::collections::{BTreeMap, BTreeSet};

use p2pdb_protocol::{bucket::bucket_of, id::EntryId};
use redb::{Error, ReadableTable, Table, WriteTransaction};

use super::{
    Settings, charge,
    delta::Generation,
    keys::{Found, FoundBy, Keys, insert_all, remove_all},
    live::Retired,
    log::{Kind, Log},
    record::{Facts, Location},
    schema::{self, Bucket, DropReason, LocationRow, Place, Position, State, TableTotals, damaged},
    sketch::Changes,
};

/// For how long an id stays known whose entry cannot be read, in seconds.
const REMEMBER_UNREAD: u64 = 7 * 86_400;

/// The open tables of a write transaction, and the counters as they will be at its end.
pub(super) struct Batch<'t> {
    log: &'t Log,
    settings: &'t Settings,
    now: u64,
    changed: bool,
    /// The mark before.
    mark: Position,
    state: State,
    totals: BTreeMap<u32, TableTotals>,
    /// By how much the count of each touched bucket changes.
    buckets: BTreeMap<(u32, u16), i64>,
    /// What comes into the cells and goes.
    cells: Changes,
    /// By how much the stored bytes of each touched segment change.
    segments: BTreeMap<u32, i64>,
    /// What becomes of ids, and of the rows that lead to entries by their recipients. These two indexes are touched all over:
    /// what comes and what goes is written in one pass, and of several changes of a row the last one.
    ids: BTreeMap<(u32, EntryId), Option<Place>>,
    recipients: BTreeMap<(u64, u64), bool>,
    /// Tables of which an id was forgotten, that may have been the last one.
    thinned: BTreeSet<u32>,
    /// What was dropped.
    retired: Retired,
    txn: &'t WriteTransaction,
    tables: Table<'t, u32, &'static [u8]>,
    locations: Table<'t, u64, LocationRow>,
    by_id: Table<'t, (u32, &'static [u8; 32]), (u8, u64, u64)>,
    by_table: Table<'t, (u32, u64), ()>,
    by_recipient: Table<'t, (u64, u64), ()>,
    by_received: Table<'t, u64, u64>,
    pub(super) by_class: Table<'t, (u32, u16, u64), ()>,
    pub(super) by_epoch: Table<'t, (u32, u64, u64), &'static [u8; 32]>,
    pub(super) by_expiry: Table<'t, (u64, u64), ()>,
    dropped: Table<'t, (u64, u32, &'static [u8; 32]), ()>,
}

impl<'t> Batch<'t> {
    pub(super) fn open(
        txn: &'t WriteTransaction,
        log: &'t Log,
        settings: &'t Settings,
        now: u64,
    ) -> Result<Self, Error> {
        let state = State::read(&txn.open_table(schema::STATE)?)?;
        Ok(Self {
            log,
            settings,
            now,
            changed: false,
            mark: state.position,
            state,
            totals: BTreeMap::new(),
            buckets: BTreeMap::new(),
            cells: Changes::default(),
            segments: BTreeMap::new(),
            ids: BTreeMap::new(),
            recipients: BTreeMap::new(),
            thinned: BTreeSet::new(),
            retired: Retired::default(),
            txn,
            tables: txn.open_table(schema::TABLES)?,
            locations: txn.open_table(schema::LOCATIONS)?,
            by_id: txn.open_table(schema::BY_ID)?,
            by_table: txn.open_table(schema::BY_TABLE)?,
            by_recipient: txn.open_table(schema::BY_RECIPIENT)?,
            by_received: txn.open_table(schema::BY_RECEIVED)?,
            by_class: txn.open_table(schema::BY_CLASS)?,
            by_epoch: txn.open_table(schema::BY_EPOCH)?,
            by_expiry: txn.open_table(schema::BY_EXPIRY)?,
            dropped: txn.open_table(schema::DROPPED)?,
        })
    }

    /// Takes over a generation: the rows of its entries, in ascending order, and the mark.
    pub(super) fn merge(&mut self, generation: &Generation) -> Result<(), Error> {
        self.keep_tables(generation)?;
        let network = &self.settings.network;
        let mut keys = Keys::default();
        let mut append = self.locations.upper_bound_mut(std::ops::Bound::<u64>::Unbounded)?;
        let last_received = self.by_received.last()?.map_or(0, |(received, _)| received.value());
        let mut seconds = vec![(last_received, 0)];
        for (facts, location) in &generation.entries {
            append.insert_before(facts.arrival, location.to_row())?;
            keys.add(facts, network, Some(facts.place()));
            let charge = location.charge();
            let totals = totals_of(&mut self.totals, self.txn, facts.table_no)?;
            totals.entries += 1;
            totals.bytes += u64::from(facts.length);
            totals.charge += charge;
            totals.newest = facts.arrival;
            *self.buckets.entry(facts.bucket(network)).or_default() += 1;
            self.cells.insert(facts.cell(network), facts.id);
            *self.segments.entry(location.segment).or_default() += location.record_length() as i64;
            self.state.charge += charge;
            self.state.last_received = self.state.last_received.max(facts.received);
            if seconds.last().is_none_or(|(last, _)| *last < facts.received) {
                seconds.push((facts.received, facts.arrival));
            }
        }
        append.close()?;
        for (received, arrival) in seconds.into_iter().skip(1) {
            self.by_received.insert(received, arrival)?;
        }
        keys.sort();
        let (by_id, by_recipient) = (std::mem::take(&mut keys.by_id), std::mem::take(&mut keys.by_recipient));
        self.ids.extend(by_id.into_iter().map(|(table_no, id, place)| ((table_no, id), place)));
        self.recipients.extend(by_recipient.into_iter().map(|key| (key, true)));
        insert_all(&mut self.by_table, &keys.by_table)?;
        insert_all(&mut self.by_class, &keys.by_class)?;
        for (key, id) in &keys.by_epoch {
            self.by_epoch.insert(*key, id.as_bytes())?;
        }
        insert_all(&mut self.by_expiry, &keys.by_expiry)?;
        self.state.next_arrival = self.state.next_arrival.max(generation.next());
        self.state.position = generation.end;
        self.changed = true;
        Ok(())
    }

    /// Removes stored entries; with a reason, their ids stay known.
    ///
    /// What cannot be read goes as far as its rows can be reached, so that one damaged record does not keep the
    /// others from being dropped; [`Store::verify`](super::Store::verify) finds what is left of it.
    pub(super) fn remove(&mut self, found: &[Found], reason: Option<DropReason>) -> Result<(), Error> {
        let network = &self.settings.network;
        let (mut keys, mut gone, mut left) = (Keys::default(), Vec::new(), Vec::new());
        for Found { arrival, key } in found.iter().copied().collect::<BTreeSet<_>>() {
            // What led here goes in any case: it must not lead here for ever.
            keys.add_found(key, arrival);
            let Some(location) = self.locations.get(arrival)?.map(|row| Location::from_row(row.value()))
            else {
                tracing::error!(arrival, "an index names a missing entry; the store is damaged");
                continue;
            };
            gone.push((arrival, location));
            match read_facts(self.log, arrival, &location) {
                Ok(facts) => {
                    let forget_at =
                        |reason| self.settings.forget_at(facts.created, facts.expires, reason, self.now);
                    let place = reason.map(|reason| Place::Dropped { reason, forget_at: forget_at(reason) });
                    keys.add(&facts, network, place);
                    *self.buckets.entry(facts.bucket(network)).or_default() -= 1;
                    left.push((facts.cell(network), facts.id));
                }
                Err(error) => {
                    tracing::error!(arrival, %error, "an entry cannot be read and is dropped");
                    keys.by_table.push((location.table_no, arrival));
                    if let FoundBy::Epoch(table_no, epoch, id) = key {
                        let forget_at = self.now.saturating_add(REMEMBER_UNREAD);
                        let place = reason.map(|reason| Place::Dropped { reason, forget_at });
                        keys.by_id.push((table_no, id, place));
                        *self.buckets.entry((table_no, bucket_of(&id, network.bucket_bits))).or_default() -=
                            1;
                        left.push(((table_no, epoch), id));
                    }
                }
            }
        }
        self.uncount(&gone)?;
        left.iter().for_each(|(cell, id)| self.cells.remove(*cell, *id));
        self.retired.left.append(&mut left);
        self.changed |= !found.is_empty();
        keys.sort();
        for (table_no, id, place) in std::mem::take(&mut keys.by_id) {
            if let Some(Place::Dropped { reason, forget_at }) = place {
                self.remember(table_no, &id, reason, forget_at)?;
            } else {
                self.ids.insert((table_no, id), None);
                self.thinned.insert(table_no);
            }
        }
        for (arrival, _) in &gone {
            self.locations.remove(arrival)?;
        }
        remove_all(&mut self.by_table, &keys.by_table)?;
        self.recipients.extend(std::mem::take(&mut keys.by_recipient).into_iter().map(|key| (key, false)));
        remove_all(&mut self.by_class, &keys.by_class)?;
        for (key, _) in &keys.by_epoch {
            self.by_epoch.remove(*key)?;
        }
        remove_all(&mut self.by_expiry, &keys.by_expiry)
    }

    /// Takes removed entries out of the counters.
    fn uncount(&mut self, gone: &[(u64, Location)]) -> Result<(), Error> {
        for (_, location) in gone {
            let charge = location.charge();
            let totals = totals_of(&mut self.totals, self.txn, location.table_no)?;
            totals.entries = totals.entries.saturating_sub(1);
            totals.bytes = totals.bytes.saturating_sub(location.length.into());
            totals.charge = totals.charge.saturating_sub(charge);
            self.state.charge = self.state.charge.saturating_sub(charge);
            *self.segments.entry(location.segment).or_default() -= location.record_length() as i64;
            self.retired.gone.push((location.table_no, *location));
        }
        Ok(())
    }

    /// Forgets dropped ids whose time has come, and the next ones as long as there are too many; at most `limit`.
    pub(super) fn forget(&mut self, limit: u64) -> Result<u64, Error> {
        let mut due = Vec::new();
        for row in self.dropped.iter()? {
            let (key, _) = row?;
            let (forget_at, table_no, id) = key.value();
            let is_too_many = self.state.dropped - due.len() as u64 > self.settings.max_dropped;
            if due.len() as u64 >= limit || forget_at > self.now && !is_too_many {
                break;
            }
            due.push((table_no, EntryId::from_bytes(*id), forget_at));
        }
        for (table_no, id, forget_at) in &due {
            self.dropped.remove((*forget_at, *table_no, id.as_bytes()))?;
            self.thinned.insert(*table_no);
        }
        self.ids.extend(due.iter().map(|(table_no, id, _)| ((*table_no, *id), None)));
        let forgotten = due.len() as u64;
        self.state.dropped = self.state.dropped.saturating_sub(forgotten);
        self.state.charge = self.state.charge.saturating_sub(forgotten * charge::DROPPED);
        self.changed |= forgotten > 0;
        self.retired.forgotten += forgotten;
        Ok(forgotten)
    }

    /// Forgets when entries arrived that are older than every one that is stored.
    fn forget_seconds(&mut self) -> Result<(), Error> {
        let oldest = self.locations.first()?.map_or(u64::MAX, |(arrival, _)| arrival.value());
        let mut seconds = Vec::new();
        for row in self.by_received.iter()? {
            let (received, first) = row?;
            if first.value() > oldest {
                break;
            }
            seconds.push(received.value());
        }
        // The last of them may be the second of the oldest.
        seconds.pop();
        seconds
            .into_iter()
            .try_for_each(|second| self.by_received.remove(second).map(drop).map_err(Error::from))
    }

    /// Writes the counters; what was dropped, if anything changed at all. Tables that are needed stay, also if nothing
    /// is known of them here.
    pub(super) fn finish(mut self, is_needed: impl Fn(u32) -> bool) -> Result<Option<Retired>, Error> {
        if !self.changed {
            return Ok(None);
        }
        self.state.change += 1;
        self.retired.change = self.state.change;
        self.write_scattered()?;
        self.remove_empty_tables(is_needed)?;
        self.forget_seconds()?;
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
        drop(self.by_epoch);
        self.cells.write(self.txn)?;
        let mut totals = self.txn.open_table(schema::TABLE_TOTALS)?;
        for (table_no, row) in self.totals {
            totals.insert(table_no, row.to_row())?;
        }
        let mut rows = self.txn.open_table(schema::SEGMENTS)?;
        let segments = self.log.segments();
        for (number, difference) in self.segments {
            let (bytes, end) = rows.get(number)?.map_or((0, 0), |row| row.value());
            let bytes = bytes.saturating_add_signed(difference);
            let end = match segments.get(&number) {
                Some(segment) if segment.kind == Kind::Commits && number >= self.mark.segment => {
                    let Position { segment: last, offset } = self.state.position;
                    if number == last { offset } else { segment.end() }
                }
                // Nothing was added to it.
                _ => end,
            };
            if bytes == 0 {
                rows.remove(number)?;
            } else {
                rows.insert(number, (bytes, end))?;
            }
        }
        self.txn.open_table(schema::STATE)?.insert((), self.state.to_row())?;
        Ok(Some(self.retired))
    }

    /// Writes the indexes that are touched all over, in ascending order.
    fn write_scattered(&mut self) -> Result<(), Error> {
        for ((table_no, id), place) in std::mem::take(&mut self.ids) {
            let key = (table_no, id.as_bytes());
            match place {
                Some(place) => drop(self.by_id.insert(key, place.to_row())?),
                None => drop(self.by_id.remove(key)?),
            }
        }
        for (key, comes) in std::mem::take(&mut self.recipients) {
            if comes {
                self.by_recipient.insert(key, ())?;
            } else {
                self.by_recipient.remove(key)?;
            }
        }
        Ok(())
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

    /// Ids that are kept as dropped, as of now.
    pub(super) const fn remembered(&self) -> u64 {
        self.state.dropped
    }

    /// What an entry is charged.
    pub(super) fn charge_of(&self, arrival: u64) -> Result<u64, Error> {
        Ok(self.locations.get(arrival)?.map_or(0, |row| Location::from_row(row.value()).charge()))
    }

    fn remember(
        &mut self,
        table_no: u32,
        id: &EntryId,
        reason: DropReason,
        forget_at: u64,
    ) -> Result<(), Error> {
        self.ids.insert((table_no, *id), Some(Place::Dropped { reason, forget_at }));
        self.dropped.insert((forget_at, table_no, id.as_bytes()), ())?;
        self.state.dropped += 1;
        self.state.charge += charge::DROPPED;
        self.changed = true;
        self.retired.remembered += 1;
        Ok(())
    }
}

/// The facts of a stored entry.
pub(super) fn read_facts(log: &Log, arrival: u64, location: &Location) -> Result<Facts, Error> {
    let (facts, _) = Facts::parse(&log.facts(location)?)?;
    if facts.at(location.segment, location.offset) == *location && facts.arrival == arrival {
        return Ok(facts);
    }
    Err(damaged(format!("the record of entry {arrival} is that of entry {}", facts.arrival)))
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
