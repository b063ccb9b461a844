//! From version 1, which kept entries in the index file, to version 2, which keeps them in the log.
//!
//! Entries move in their order of arrival: some to the log, durable there, then one transaction takes their rows out of
//! the old tables and puts them into the new ones, so that a kill costs only what it interrupted. At the end the old
//! tables go, and the file is made small: until then the log takes as much of the disk once more as the entries do.

use std::collections::BTreeSet;

use bytes::Bytes;
use p2pdb_protocol::{bucket::bucket_of, entry::Entry, id::EntryId};
use redb::{Error, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle, WriteTransaction};

use super::Migrating;
use crate::store::{
    StoreError, charge, fault,
    file::open_tables,
    log::{Appender, FrameWriter},
    record::{Facts, Location},
    schema::{self, Bucket, Position, State, TableTotals, damaged},
    sketch,
};

/// Entries and bytes that move in one transaction.
const ENTRIES: usize = if cfg!(test) { 3 } else { 4096 };
const BYTES: usize = 8 << 20;

const OLD_STATE: TableDefinition<(), [u64; 6]> = TableDefinition::new("state");
const OLD_TOTALS: TableDefinition<u32, [u64; 4]> = TableDefinition::new("table_totals");
/// Key: arrival number # Value: arrival time u64 || effort u64 || `created` u64 || table number u32 || `EntryId` ||
/// encoded entry.
const OLD_ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
const OLD_BY_SCORE: TableDefinition<(u32, u64, u64), u64> = TableDefinition::new("by_score");
const OLD_BY_EPOCH: TableDefinition<(u32, u64, u64), ()> = TableDefinition::new("by_epoch");

/// An entry of version 1.
struct OldEntry {
    arrival: u64,
    /// With the place of its record in the frame; nothing if it cannot be read.
    moved: Option<(Facts, usize)>,
}

pub(super) fn to_2(migrating: &Migrating<'_>) -> Result<(), StoreError> {
    let file = migrating.file;
    let fail = |error| file.fault(error);
    file.write(|txn| {
        open_tables(txn)?;
        Ok(((), true))
    })?;
    let mut log = Appender::moving();
    loop {
        let (mut frame, mut entries) = (FrameWriter::new(0), Vec::new());
        file.read_once(|txn| {
            if !txn.list_tables()?.any(|table| table.name() == OLD_ENTRIES.name()) {
                return Ok(());
            }
            for row in txn.open_table(OLD_ENTRIES)?.iter()?.take(ENTRIES) {
                let (arrival, row) = row?;
                let arrival = arrival.value();
                let moved = match read_old(migrating, arrival, row.value()) {
                    Ok((facts, encoded)) => {
                        let offset = frame.entry(&facts, &encoded);
                        Some((facts, offset))
                    }
                    Err(error) => {
                        tracing::error!(arrival, %error, "an entry cannot be read and is lost here");
                        None
                    }
                };
                entries.push(OldEntry { arrival, moved });
                if frame.len() >= BYTES {
                    break;
                }
            }
            Ok(())
        })?;
        if entries.is_empty() {
            break;
        }
        let place = log.append(migrating.log, frame).map_err(fail)?;
        file.write(|txn| {
            take_over(migrating, txn, &entries, place, log.end())?;
            fault::point(file.path(), "migrate")?;
            Ok(((), true))
        })?;
    }
    file.write(|txn| finish(txn).map(|()| ((), true)))?;
    let passed = |point| fault::point(file.path(), point).map_err(|error| fail(error.into()));
    passed("finished")?;
    sketch::rebuild(file)?;
    passed("rebuilt")?;
    file.compact()?;
    Ok(())
}

fn read_old(migrating: &Migrating<'_>, arrival: u64, row: &[u8]) -> Result<(Facts, Bytes), Error> {
    let split = || {
        let (received, row) = row.split_first_chunk()?;
        let (_effort, row) = row.split_first_chunk::<8>()?;
        let (_created, row) = row.split_first_chunk::<8>()?;
        let (table_no, row) = row.split_first_chunk()?;
        let (id, encoded) = row.split_first_chunk()?;
        let id = EntryId::from_bytes(*id);
        Some((u64::from_be_bytes(*received), u32::from_be_bytes(*table_no), id, encoded))
    };
    let (received, table_no, id, encoded) = split().ok_or_else(|| damaged("its row is cut off"))?;
    let encoded = Bytes::copy_from_slice(encoded);
    let entry = Entry::from_trusted(encoded.clone(), &migrating.settings.network)
        .map_err(|refusal| damaged(format!("it does not decode: {refusal}")))?;
    if entry.id() != id {
        return Err(damaged(format!("it is {}, expected {id}", entry.id())));
    }
    Ok((Facts::of(&entry, table_no, arrival, received)?, encoded))
}

/// Puts the rows of entries that are in the log now where they belong.
fn take_over(
    migrating: &Migrating<'_>,
    txn: &WriteTransaction,
    entries: &[OldEntry],
    place: Position,
    end: Position,
) -> Result<(), Error> {
    let mut old = txn.open_table(OLD_ENTRIES)?;
    let mut locations = txn.open_table(schema::LOCATIONS)?;
    let mut by_class = txn.open_table(schema::BY_CLASS)?;
    let mut by_epoch = txn.open_table(schema::BY_EPOCH)?;
    let mut by_received = txn.open_table(schema::BY_RECEIVED)?;
    let mut by_recipient = txn.open_table(schema::BY_RECIPIENT)?;
    let mut totals = txn.open_table(schema::TABLE_TOTALS)?;
    let mut segments = txn.open_table(schema::SEGMENTS)?;
    let (mut stored, _) = segments.get(place.segment)?.map_or((0, 0), |row| row.value());
    let mut last_received = by_received.last()?.map_or(0, |(received, _)| received.value());
    for OldEntry { arrival, moved } in entries {
        old.remove(arrival)?;
        let Some((facts, offset)) = moved else { continue };
        let offset = u32::try_from(place.offset + *offset as u64).unwrap_or(u32::MAX);
        let location: Location = facts.at(place.segment, offset);
        locations.insert(arrival, location.to_row())?;
        by_class.insert(facts.class_key(), ())?;
        by_epoch.insert(facts.epoch_key(&migrating.settings.network), facts.id.as_bytes())?;
        for key in facts.recipient_keys() {
            by_recipient.insert(key, ())?;
        }
        if facts.received > last_received {
            by_received.insert(facts.received, arrival)?;
            last_received = facts.received;
        }
        let mut row =
            totals.get(facts.table_no)?.map(|row| TableTotals::from_row(row.value())).unwrap_or_default();
        row.entries += 1;
        row.bytes += u64::from(facts.length);
        row.charge += location.charge();
        row.newest = *arrival;
        totals.insert(facts.table_no, row.to_row())?;
        stored += location.record_length() as u64;
    }
    if stored > 0 {
        segments.insert(place.segment, (stored, end.offset))?;
    }
    drop(by_recipient);
    let lost = entries.iter().filter(|entry| entry.moved.is_none()).map(|entry| entry.arrival).collect();
    forget(txn, migrating.settings.network.bucket_bits, &lost)
}

/// Removes what the indexes say of entries that cannot be read: their ids are unknown then, and fetched anew. That goes
/// over whole indexes, since such an entry does not say where it stands in them.
fn forget(txn: &WriteTransaction, bucket_bits: u8, lost: &BTreeSet<u64>) -> Result<(), Error> {
    if lost.is_empty() {
        return Ok(());
    }
    let mut by_table = txn.open_table(schema::BY_TABLE)?;
    let mut buckets = txn.open_table(schema::BUCKETS)?;
    let mut by_id = txn.open_table(schema::BY_ID)?;
    for row in by_id.extract_if(|_, (tag, arrival, _)| tag == 0 && lost.contains(&arrival))? {
        let (key, place) = row?;
        let ((table_no, id), (_, arrival, _)) = (key.value(), place.value());
        by_table.remove((table_no, arrival))?;
        let key = (table_no, bucket_of(&EntryId::from_bytes(*id), bucket_bits));
        let Some(bucket) = buckets.remove(key)?.map(|row| Bucket::from_row(row.value())) else { continue };
        if bucket.count > 1 {
            buckets.insert(key, Bucket { count: bucket.count - 1, digested: 0, ..bucket }.as_row())?;
        }
    }
    txn.open_table(schema::BY_RECIPIENT)?.retain(|(_, arrival), ()| !lost.contains(&arrival))?;
    txn.open_table(schema::BY_EXPIRY)?.retain(|(_, arrival), ()| !lost.contains(&arrival))?;
    Ok(())
}

/// Takes over the counters and removes the old tables.
fn finish(txn: &WriteTransaction) -> Result<(), Error> {
    if !txn.list_tables()?.any(|table| table.name() == OLD_STATE.name()) {
        // It was killed right after this.
        return Ok(());
    }
    let old = txn.open_table(OLD_STATE)?.get(())?.map(|row| row.value());
    let [next_arrival, last_received, change, _, _, next_table] =
        old.ok_or_else(|| damaged("the row of counters is missing"))?;
    let mut totals = txn.open_table(schema::TABLE_TOTALS)?;
    let mut charge = 0;
    for row in txn.open_table(OLD_TOTALS)?.iter()? {
        let (table_no, row) = row?;
        let (table_no, [.., newest]) = (table_no.value(), row.value());
        let row = totals.get(table_no)?.map(|row| TableTotals::from_row(row.value())).unwrap_or_default();
        totals.insert(table_no, TableTotals { newest, ..row }.to_row())?;
        charge += row.charge;
    }
    let dropped = txn.open_table(schema::DROPPED)?.len()?;
    charge += dropped * charge::DROPPED;
    let position = Position::default();
    let state = State { next_arrival, last_received, change, charge, dropped, next_table, position };
    txn.open_table(schema::STATE)?.insert((), state.to_row())?;
    txn.delete_table(OLD_ENTRIES)?;
    txn.delete_table(OLD_BY_SCORE)?;
    txn.delete_table(OLD_BY_EPOCH)?;
    txn.delete_table(OLD_TOTALS)?;
    txn.delete_table(OLD_STATE)?;
    Ok(())
}
