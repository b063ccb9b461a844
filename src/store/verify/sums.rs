//! Whether counters and lengths are those of the data.

use std::collections::BTreeMap;

use redb::{Error, ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::Run;
use crate::store::{
    charge,
    schema::{self, State, TableTotals},
    sketch,
};

impl Run<'_> {
    pub(super) fn compare_sums(&mut self, txn: &ReadTransaction, before: &State) -> Result<(), Error> {
        let state = State::read(&txn.open_table(schema::STATE)?)?;
        if state != *before {
            return Ok(());
        }
        self.report.sums_compared = true;
        let Self { report, sums, last, .. } = self;
        let mut charged = report.dropped * charge::DROPPED;
        let mut tables = BTreeMap::new();
        for row in txn.open_table(schema::TABLE_TOTALS)?.iter()? {
            let (table_no, row) = row?;
            tables.insert(table_no.value(), TableTotals::from_row(row.value()));
        }
        for (table_no, kept) in &tables {
            // The newest entry that ever was may be gone.
            let found = sums.tables.get(table_no).copied().unwrap_or_default();
            let is_right =
                TableTotals { newest: found.newest, ..*kept } == found && kept.newest >= found.newest;
            report.check(is_right, || {
                format!("table number {table_no}: the totals are {kept:?}, expected {found:?}")
            });
            charged += found.charge;
        }
        let mut segments = BTreeMap::new();
        for row in txn.open_table(schema::SEGMENTS)?.iter()? {
            let (number, row) = row?;
            segments.insert(number.value(), row.value().0);
        }
        report.check(segments == sums.segments, || {
            format!("the segments are said to hold {segments:?} bytes, expected {:?}", sums.segments)
        });
        let uncounted = sums.tables.keys().filter(|table_no| !tables.contains_key(table_no)).count();
        let entries = report.entries;
        let (last_arrival, last_received) = *last;
        report.check(state.next_arrival > last_arrival && state.last_received >= last_received, || {
            format!("the counters {state:?} lie before entry {last_arrival}, received at {last_received}")
        });
        let last_table = txn.open_table(schema::TABLES)?.last()?.map_or(0, |(table_no, _)| table_no.value());
        report.check(state.next_table > u64::from(last_table), || {
            format!(
                "the next table would have number {}, although there is number {last_table}",
                state.next_table
            )
        });
        for (name, got, expected) in [
            ("tables without totals", uncounted as u64, 0),
            ("bytes charged", state.charge, charged),
            ("ids dropped", state.dropped, report.dropped),
            (
                "table numbers",
                txn.open_table(schema::TABLE_NUMBERS)?.len()?,
                txn.open_table(schema::TABLES)?.len()?,
            ),
            ("rows of by_id", txn.open_table(schema::BY_ID)?.len()?, entries + report.dropped),
            ("rows of by_table", txn.open_table(schema::BY_TABLE)?.len()?, entries),
            ("rows of by_recipient", txn.open_table(schema::BY_RECIPIENT)?.len()?, sums.recipients),
            ("rows of by_class", txn.open_table(schema::BY_CLASS)?.len()?, entries),
            ("rows of by_epoch", txn.open_table(schema::BY_EPOCH)?.len()?, entries),
            ("rows of by_expiry", txn.open_table(schema::BY_EXPIRY)?.len()?, sums.expiring),
        ] {
            report.check(got == expected, || format!("{name}: {got}, expected {expected}"));
        }
        // What is in memory is what the file says, when nothing is in the log but what is merged.
        self.core.delta.all(|generations| {
            let live = self.core.live();
            if generations.iter().all(|generation| generation.is_empty() && generation.end == state.position)
            {
                let (got, expected) =
                    ((live.state.charge, live.state.dropped), (state.charge, state.dropped));
                report.check(got == expected, || {
                    format!("bytes charged and ids dropped in memory: {got:?}, expected {expected:?}")
                });
                let kept = sketch::load(txn);
                report.check(kept.is_ok_and(|kept| kept == live.cells), || {
                    "the summaries in memory are not those in the file".to_owned()
                });
                for (table_no, table) in &live.tables {
                    let expected = tables.get(table_no).copied().unwrap_or_default();
                    report.check(table.totals == expected, || {
                        format!(
                            "table number {table_no} in memory: {:?}, expected {expected:?}",
                            table.totals
                        )
                    });
                }
            }
        });
        Ok(())
    }
}
