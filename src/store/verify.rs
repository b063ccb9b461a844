//! Proves that the indexes are the log.
//!
//! Every frame must have its sum, every entry its row in each index, every dropped id its two rows, and every bucket the count and
//! digest of its ids; then an index with as many rows as that makes has no row that leads nowhere. The work is
//! done in pages on snapshots of their own, so that it can run beside everything else. Only the comparison of
//! sums needs a store that nothing changes meanwhile, and is left out otherwise.

mod sketches;
mod sums;

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use p2pdb_protocol::{
    entry::Entry,
    id::{EntryId, TableId},
    keys::PublicKey,
};
use redb::{Error, Key, ReadTransaction, ReadableTable, ReadableTableMetadata, TableDefinition, Value};

use super::{
    Core, Settings, StoreError,
    file::StoreFile,
    index::digest_of,
    log::read_record,
    record::{Facts, Location},
    schema::{self, Bucket, Place, State, TableTotals, damaged, parse_table},
};

/// Rows of one snapshot.
const PAGE: u64 = 1000;
/// Problems that are spelled out; further ones are only counted.
const SPELLED_OUT: usize = 100;

/// What a verification found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Entries whose bytes, id and index rows were checked.
    pub entries: u64,
    /// Ids kept as dropped.
    pub dropped: u64,
    /// Buckets whose count and digest were computed anew.
    pub buckets: u64,
    /// Whether the sums were compared, without which a row that leads nowhere goes unseen; not possible while
    /// entries come and go.
    pub sums_compared: bool,
    /// Everything that contradicts something else.
    pub problems: u64,
    /// The first hundred of them in words.
    pub spelled_out: Vec<String>,
}

impl Report {
    /// Whether everything was compared and nothing contradicts anything.
    ///
    /// A report without problems that is not clean is of a store that changed meanwhile: see `sums_compared`.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.problems == 0 && self.sums_compared
    }

    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems += 1;
            if self.spelled_out.len() < SPELLED_OUT {
                self.spelled_out.push(problem());
            }
        }
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Rows done.
    pub done: u64,
    /// About how many there are.
    pub of: u64,
}

/// What the data says that the counters and the lengths of the indexes must be.
#[derive(Debug, Default)]
struct Sums {
    tables: BTreeMap<u32, TableTotals>,
    recipients: u64,
    expiring: u64,
    /// Bytes of records in each segment.
    segments: BTreeMap<u32, u64>,
}

struct Run<'r> {
    core: &'r Core,
    file: &'r StoreFile,
    settings: &'r Settings,
    progress: &'r dyn Fn(VerifyProgress),
    reached: VerifyProgress,
    report: Report,
    sums: Sums,
    /// The greatest arrival number and arrival time so far.
    last: (u64, u64),
}

/// Checks everything, telling `progress` after each page.
pub(super) fn run(core: &Core, progress: &dyn Fn(VerifyProgress)) -> Result<Report, StoreError> {
    let (file, settings) = (&core.file, &core.settings);
    let (before, of) = file.read(|txn| {
        let rows = txn.open_table(schema::TABLE_NUMBERS)?.len()?
            + txn.open_table(schema::TABLES)?.len()?
            + txn.open_table(schema::SEGMENTS)?.len()?
            + txn.open_table(schema::LOCATIONS)?.len()?
            + txn.open_table(schema::DROPPED)?.len()?
            + txn.open_table(schema::BUCKETS)?.len()?;
        Ok((State::read(&txn.open_table(schema::STATE)?)?, rows))
    })?;
    let reached = VerifyProgress { done: 0, of };
    let mut run = Run {
        core,
        file,
        settings,
        progress,
        reached,
        report: Report::default(),
        sums: Sums::default(),
        last: (0, 0),
    };
    run.pages(schema::TABLE_NUMBERS, |run, txn, id, table_no| {
        let row = txn.open_table(schema::TABLES)?.get(table_no)?;
        let is_right = row
            .is_some_and(|row| matches!(parse_table(row.value()), Ok((table, _)) if table.as_bytes() == id));
        run.report.check(is_right, || {
            format!("{} does not have table number {table_no}", TableId::from_bytes(*id))
        });
        Ok(())
    })?;
    run.pages(schema::TABLES, |run, _, table_no, row| {
        let (table, spki) = parse_table(row)?;
        let is_right = PublicKey::from_der(spki).is_ok_and(|key| key.table_id() == table);
        run.report.check(is_right, || format!("table number {table_no}: its key is not that of {table}"));
        Ok(())
    })?;
    run.segments()?;
    run.pages(schema::LOCATIONS, |run, txn, arrival, row| run.entry(txn, arrival, Location::from_row(row)))?;
    run.pages(schema::DROPPED, |run, txn, (forget_at, table_no, id), ()| {
        run.report.dropped += 1;
        let place =
            txn.open_table(schema::BY_ID)?.get((table_no, id))?.map(|row| Place::from_row(row.value()));
        let is_dropped = matches!(place, Some(Ok(Place::Dropped { forget_at: at, .. })) if at == forget_at);
        run.report.check(is_dropped, || {
            format!("{} is not the dropped id it is noted as", EntryId::from_bytes(*id))
        });
        Ok(())
    })?;
    run.pages(schema::BUCKETS, |run, txn, key, row| {
        run.report.buckets += 1;
        let (count, digest) = digest_of(txn, &run.settings.network, key, 0)?;
        let kept = Bucket::from_row(row);
        let is_right = kept.count == count && (kept.digested != kept.changed || kept.digest == digest);
        run.report
            .check(is_right, || format!("bucket {} of table number {} is not that of its ids", key.1, key.0));
        Ok(())
    })?;
    run.sketches()?;
    file.read_once(|txn| run.compare_sums(txn, &before))?;
    Ok(run.report)
}

impl Run<'_> {
    /// Hands every row of a table to `check`.
    fn pages<K: Key + 'static, V: Value + 'static>(
        &mut self,
        table: TableDefinition<'_, K, V>,
        check: impl Fn(&mut Self, &ReadTransaction, K::SelfType<'_>, V::SelfType<'_>) -> Result<(), Error>,
    ) -> Result<(), StoreError> {
        let mut last: Option<Vec<u8>> = None;
        loop {
            let mut rows = 0;
            self.file.read_once(|txn| {
                let table = txn.open_table(table)?;
                let start =
                    last.as_deref().map_or(Bound::Unbounded, |last| Bound::Excluded(K::from_bytes(last)));
                let mut reached = None;
                for row in table.range::<K::SelfType<'_>>((start, Bound::Unbounded))?.take(PAGE as usize) {
                    let (key, value) = row?;
                    reached = Some(K::as_bytes(&key.value()).as_ref().to_vec());
                    check(self, txn, key.value(), value.value())?;
                    rows += 1;
                }
                last = reached;
                Ok(())
            })?;
            self.reached.done += rows;
            self.reached.of = self.reached.of.max(self.reached.done);
            (self.progress)(self.reached);
            if rows < PAGE {
                return Ok(());
            }
        }
    }

    /// Checks the sums of all frames of the segments that entries are in.
    fn segments(&mut self) -> Result<(), StoreError> {
        let rows = self.file.read(|txn| {
            let rows = txn.open_table(schema::SEGMENTS)?;
            rows.iter()?
                .map(|row| row.map(|(number, row)| (number.value(), row.value().1)).map_err(Error::from))
                .collect::<Result<Vec<_>, _>>()
        })?;
        let segments = self.core.log.segments();
        for (number, end) in rows {
            // It may have been rewritten meanwhile.
            if let Some(segment) = segments.get(&number)
                && let Err(error) = self.core.log.frames(segment, end, |_| Ok(()))
            {
                self.report.check(false, || error.to_string());
            }
            self.reached.done += 1;
            (self.progress)(self.reached);
        }
        Ok(())
    }

    fn entry(&mut self, txn: &ReadTransaction, arrival: u64, location: Location) -> Result<(), Error> {
        self.report.entries += 1;
        let segments = self.core.log.segments();
        let read = read_record(&segments, &location, location.record_length()).and_then(|record| {
            let (facts, encoded) = Facts::parse(&record)?;
            Ok((trusted(encoded, self.settings)?, facts))
        });
        let (entry, facts) = match read {
            Ok(read) => read,
            Err(error) => {
                // Rewritten between the snapshot and now: the next page sees it elsewhere.
                let is_here = !segments.contains_key(&location.segment)
                    && self
                        .file
                        .read_once(|txn| {
                            let row = txn.open_table(schema::LOCATIONS)?.get(arrival)?;
                            Ok(row.is_none_or(|row| Location::from_row(row.value()) != location))
                        })
                        .unwrap_or(false);
                self.report.check(is_here, || format!("entry {arrival}: {error}"));
                return Ok(());
            }
        };
        let expected = Facts::of(&entry, location.table_no, arrival, facts.received)?;
        let (last_arrival, last_received) = self.last;
        self.report.check(facts.received >= last_received, || {
            format!(
                "entry {arrival} was received at {}, entry {last_arrival} before it at {last_received}",
                facts.received
            )
        });
        self.last = (arrival, facts.received.max(last_received));
        let (table_no, network, id) = (location.table_no, &self.settings.network, entry.id());
        let recipients: Vec<_> = expected.recipient_keys().collect();
        self.sums.recipients += recipients.len() as u64;
        self.sums.expiring += u64::from(expected.expires.is_some());
        *self.sums.segments.entry(location.segment).or_default() += location.record_length() as u64;
        let totals = self.sums.tables.entry(table_no).or_default();
        totals.entries += 1;
        totals.bytes += u64::from(expected.length);
        totals.charge += location.charge();
        totals.newest = arrival;

        let table = txn
            .open_table(schema::TABLES)?
            .get(table_no)?
            .map(|row| parse_table(row.value()).map(|row| row.0));
        let is_in_recipients = {
            let index = txn.open_table(schema::BY_RECIPIENT)?;
            recipients
                .into_iter()
                .map(|key| Ok(index.get(key)?.is_some()))
                .collect::<Result<Vec<_>, Error>>()?
        };
        let expiries = txn.open_table(schema::BY_EXPIRY)?;
        let is_in_expiries =
            expected.expiry_key().map(|key| expiries.get(key)).transpose()?.is_none_or(|row| row.is_some());
        let seconds = txn.open_table(schema::BY_RECEIVED)?;
        let second = seconds.range(..=facts.received)?.next_back().transpose()?;
        let checks = [
            ("its record", facts == expected && facts.at(location.segment, location.offset) == location),
            ("tables", matches!(table, Some(Ok(table)) if table == entry.header().table)),
            (
                "by_id",
                txn.open_table(schema::BY_ID)?
                    .get((table_no, id.as_bytes()))?
                    .is_some_and(|row| row.value() == facts.place().to_row()),
            ),
            ("by_table", txn.open_table(schema::BY_TABLE)?.get(facts.table_key())?.is_some()),
            ("by_recipient", is_in_recipients.into_iter().all(|is_in| is_in)),
            (
                "by_received",
                second.is_some_and(|(at, first)| at.value() == facts.received && first.value() <= arrival),
            ),
            ("by_class", txn.open_table(schema::BY_CLASS)?.get(facts.class_key())?.is_some()),
            (
                "by_epoch",
                txn.open_table(schema::BY_EPOCH)?
                    .get(facts.epoch_key(network))?
                    .is_some_and(|row| row.value() == id.as_bytes()),
            ),
            ("by_expiry", is_in_expiries),
            ("buckets", txn.open_table(schema::BUCKETS)?.get(facts.bucket(network))?.is_some()),
        ];
        for (name, holds) in checks {
            self.report.check(holds, || format!("entry {arrival}, {id}: {name} does not say the same"));
        }
        Ok(())
    }
}

/// Decodes a stored entry with everything but its times and the RSA signature.
fn trusted(encoded: &[u8], settings: &Settings) -> Result<Entry, Error> {
    Entry::from_trusted(Bytes::copy_from_slice(encoded), &settings.network)
        .map_err(|refusal| damaged(format!("a stored entry does not decode: {refusal}")))
}
