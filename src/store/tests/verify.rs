//! Verification finds what does not fit together.

use redb::{ReadableTable, WriteTransaction};

use super::*;

type Damage = fn(&WriteTransaction) -> Result<(), redb::Error>;

/// Removes the first row of a table.
macro_rules! without_first {
    ($table:expr) => {
        |txn| {
            txn.open_table($table)?.pop_first()?.expect("there is a row");
            Ok(())
        }
    };
}

const DAMAGES: &[(&str, Damage)] = &[
    ("by_id", without_first!(schema::BY_ID)),
    ("by_table", without_first!(schema::BY_TABLE)),
    ("by_recipient", without_first!(schema::BY_RECIPIENT)),
    ("by_score", without_first!(schema::BY_SCORE)),
    ("by_epoch", without_first!(schema::BY_EPOCH)),
    ("by_expiry", without_first!(schema::BY_EXPIRY)),
    ("buckets", without_first!(schema::BUCKETS)),
    ("rows of by_id", without_first!(schema::DROPPED)),
    ("rows of by_id", without_first!(schema::ENTRIES)),
    ("tables without totals", without_first!(schema::TABLE_TOTALS)),
    ("table numbers", without_first!(schema::TABLE_NUMBERS)),
    ("rows of by_table", |txn| {
        txn.open_table(schema::BY_TABLE)?.insert((1, 999), ())?;
        Ok(())
    }),
    ("rows of by_recipient", |txn| {
        txn.open_table(schema::BY_RECIPIENT)?.insert((1, 999), ())?;
        Ok(())
    }),
    ("rows of by_epoch", |txn| {
        txn.open_table(schema::BY_EPOCH)?.insert((1, 1, 999), ())?;
        Ok(())
    }),
    ("by_score", |txn| {
        let mut table = txn.open_table(schema::BY_SCORE)?;
        let (key, charge) = table.pop_first()?.map(|(key, charge)| (key.value(), charge.value())).unwrap();
        table.insert(key, charge + 1)?;
        Ok(())
    }),
    ("is not that of its ids", |txn| {
        let mut table = txn.open_table(schema::BUCKETS)?;
        let (key, bucket) =
            table.first()?.map(|(key, row)| (key.value(), schema::Bucket::from_row(row.value()))).unwrap();
        table.insert(key, schema::Bucket { digest: [1; 16], digested: bucket.changed, ..bucket }.as_row())?;
        Ok(())
    }),
    ("is not that of its ids", |txn| {
        let mut table = txn.open_table(schema::BUCKETS)?;
        let (key, bucket) =
            table.first()?.map(|(key, row)| (key.value(), schema::Bucket::from_row(row.value()))).unwrap();
        table.insert(key, schema::Bucket { count: bucket.count + 1, ..bucket }.as_row())?;
        Ok(())
    }),
    ("the totals are", |txn| {
        let mut table = txn.open_table(schema::TABLE_TOTALS)?;
        let totals = schema::TableTotals::from_row(table.get(1)?.unwrap().value());
        table.insert(1, schema::TableTotals { bytes: totals.bytes + 1, ..totals }.to_row())?;
        Ok(())
    }),
    ("its key", |txn| {
        let mut table = txn.open_table(schema::TABLES)?;
        let row = [table.get(1)?.unwrap().value(), b"!"].concat();
        table.insert(1, row.as_slice())?;
        Ok(())
    }),
    ("does not have table number", |txn| {
        let mut numbers = txn.open_table(schema::TABLE_NUMBERS)?;
        numbers.insert(table(0).as_bytes(), 2)?;
        Ok(())
    }),
    ("before it at", |txn| {
        let mut entries = txn.open_table(schema::ENTRIES)?;
        let mut row = entries.get(2)?.unwrap().value().to_vec();
        row[6] -= 1;
        entries.insert(2, row.as_slice())?;
        Ok(())
    }),
    ("its own id", |txn| {
        let mut entries = txn.open_table(schema::ENTRIES)?;
        let mut row = entries.get(2)?.unwrap().value().to_vec();
        row[schema::EntryRow::PREFIX - 1] ^= 1;
        entries.insert(2, row.as_slice())?;
        Ok(())
    }),
    ("the counters", |txn| {
        let mut state = txn.open_table(schema::STATE)?;
        let counters = State::read(&state)?;
        state.insert((), State { next_arrival: counters.next_arrival - 1, ..counters }.to_row())?;
        Ok(())
    }),
    ("the next table", |txn| {
        let mut state = txn.open_table(schema::STATE)?;
        let counters = State::read(&state)?;
        state.insert((), State { next_table: 1, ..counters }.to_row())?;
        Ok(())
    }),
    ("does not decode", |txn| {
        // One flipped bit in the body of an entry.
        let mut table = txn.open_table(schema::ENTRIES)?;
        let mut row = table.get(2)?.unwrap().value().to_vec();
        let body = row.len() - 256 - 8 - 10;
        row[body] ^= 1;
        table.insert(2, row.as_slice())?;
        Ok(())
    }),
];

#[tokio::test]
async fn every_kind_of_damage_is_found() {
    for (index, (expected, damage)) in DAMAGES.iter().enumerate() {
        let fixture = Fixture::new(StoreOptions::default());
        let mut new = series(0, 20);
        new.push(Draft { seed: 50, expires: Some(START + 5), ..Draft::default() }.new_entry());
        fixture.store.commit(new.clone()).await.unwrap();
        fixture.store.drop_for_good(table(0), new[7].entry.id(), DropReason::Retracted).await.unwrap();
        fixture.store.index(table(0), 0).await.unwrap();
        verified(&fixture.store).await;
        fixture.store.core.file.write(|txn| damage(txn).map(|()| ((), true))).unwrap();
        let report = fixture.store.verify(|_| {}).await.unwrap();
        let is_named = report.spelled_out.iter().any(|problem| problem.contains(expected));
        assert!(!report.is_clean() && is_named, "damage {index} should give {expected}: {report:?}");
    }
}

#[tokio::test]
async fn progress_ends_with_everything_and_a_busy_store_is_verified_but_for_its_sums() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 2500)).await.unwrap();
    let last = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&last);
    let (core, mut writes) = (Arc::clone(&fixture.store.core), 0);
    let busy = std::sync::Mutex::new(move || {
        writes += 1;
        let new = series(10_000 + writes, 1);
        let write = |txn: &WriteTransaction| {
            let mut batch = batch::Batch::open(txn, &core.settings, START)?;
            batch.insert(&new)?;
            Ok(((), batch.finish()?))
        };
        core.file.write(write).unwrap();
    });
    let progress = move |reached| {
        told.lock().unwrap().push(reached);
        busy.lock().unwrap()();
    };
    let report = fixture.store.verify(progress).await.unwrap();
    assert!(report.problems == 0 && !report.sums_compared && !report.is_clean(), "{report:?}");
    assert!(report.entries >= 2500);
    let told = last.lock().unwrap();
    assert!(told.len() > 3 && told.last().is_some_and(|last| last.done == last.of));
}
