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
    ("by_class", without_first!(schema::BY_CLASS)),
    ("by_epoch", without_first!(schema::BY_EPOCH)),
    ("by_expiry", without_first!(schema::BY_EXPIRY)),
    ("buckets", without_first!(schema::BUCKETS)),
    ("rows of by_id", without_first!(schema::DROPPED)),
    ("rows of by_id", without_first!(schema::LOCATIONS)),
    ("by_received", without_first!(schema::BY_RECEIVED)),
    ("the segments are said", without_first!(schema::SEGMENTS)),
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
        txn.open_table(schema::BY_EPOCH)?.insert((1, 1, 999), &[0; 32])?;
        Ok(())
    }),
    ("by_class", |txn| {
        let mut table = txn.open_table(schema::BY_CLASS)?;
        let (table_no, class, arrival) = table.pop_first()?.map(|(key, _)| key.value()).unwrap();
        table.insert((table_no, class + 1, arrival), ())?;
        Ok(())
    }),
    ("by_epoch", |txn| {
        let mut table = txn.open_table(schema::BY_EPOCH)?;
        let key = table.first()?.map(|(key, _)| key.value()).unwrap();
        table.insert(key, &[1; 32])?;
        Ok(())
    }),
    ("a summary is not that", without_first!(schema::SUMMARIES)),
    ("a summary is not that", |txn| {
        let mut table = txn.open_table(schema::SUMMARIES)?;
        let cell = table.first()?.map(|(cell, _)| cell.value()).unwrap();
        let mut row = *table.get(cell)?.unwrap().value();
        row[290] ^= 1;
        table.insert(cell, &row)?;
        Ok(())
    }),
    ("a group of table number", without_first!(schema::GROUPS)),
    ("its record does not say", |txn| {
        let mut table = txn.open_table(schema::LOCATIONS)?;
        let row = table.get(3)?.unwrap().value();
        table.insert(2, row)?;
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
    ("the counters", |txn| {
        let mut state = txn.open_table(schema::STATE)?;
        let counters = schema::State::read(&state)?;
        state.insert((), schema::State { next_arrival: counters.next_arrival - 1, ..counters }.to_row())?;
        Ok(())
    }),
    ("the next table", |txn| {
        let mut state = txn.open_table(schema::STATE)?;
        let counters = schema::State::read(&state)?;
        state.insert((), schema::State { next_table: 1, ..counters }.to_row())?;
        Ok(())
    }),
];

type Spoil = fn(&mut [u8]);

/// What is done to the record of the second entry.
const SPOILS: &[(&str, Spoil)] = &[
    ("before it at", |record| record[8 + 6] -= 1),
    ("its record", |record| record[8 * 5 + 4 + 31] ^= 1),
    ("its record", |record| record[81] ^= 1),
    ("its record does not say", |record| record[7] ^= 1),
    ("does not decode", |record| {
        // One flipped bit in the body of an entry.
        let body = record.len() - 256 - 8 - 10;
        record[body] ^= 1;
    }),
    // The signature, which only the frame knows by heart.
    ("the frame at", |record| {
        let signature = record.len() - 8 - 10;
        record[signature] ^= 1;
    }),
];

#[tokio::test]
async fn every_kind_of_damage_is_found() {
    for (index, (expected, damage)) in DAMAGES.iter().enumerate() {
        let fixture = Fixture::new(StoreOptions::default());
        // As many as make a large cell.
        let mut new = series(0, 70);
        new.push(Draft { seed: 50, expires: Some(START + 5), ..Draft::default() }.new_entry());
        fixture.store.commit(new.clone()).await.unwrap();
        fixture.store.withdraw(table(0), vec![new[7].entry.id()]).await.unwrap();
        fixture.store.index(table(0), 0).await.unwrap();
        verified(&fixture.store).await;
        fixture.store.core.file.write(|txn| damage(txn).map(|()| ((), true))).unwrap();
        is_found(&fixture, expected, index).await;
    }
    for (index, (expected, damage)) in SPOILS.iter().enumerate() {
        let fixture = Fixture::new(StoreOptions::default());
        fixture.store.commit(series(0, 5)).await.unwrap();
        verified(&fixture.store).await;
        spoil(&fixture.store, &fixture.path(), 2, damage);
        is_found(&fixture, expected, index).await;
    }
}

async fn is_found(fixture: &Fixture, expected: &str, index: usize) {
    let report = fixture.store.verify(|_| {}).await.unwrap();
    let is_named = report.spelled_out.iter().any(|problem| problem.contains(expected));
    assert!(!report.is_clean() && is_named, "damage {index} should give {expected}: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_with_everything_and_a_busy_store_is_verified_but_for_its_sums() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 2500)).await.unwrap();
    let last = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = Arc::clone(&last);
    let (store, runtime) = (fixture.store.clone(), tokio::runtime::Handle::current());
    let writes = std::sync::atomic::AtomicU64::new(0);
    let busy = move || {
        let write = 10_000 + writes.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        runtime.block_on(async {
            store.commit(series(write, 1)).await.unwrap();
            store.merge().await.unwrap();
        });
    };
    let progress = move |reached| {
        told.lock().unwrap().push(reached);
        busy();
    };
    let report = fixture.store.verify(progress).await.unwrap();
    assert!(report.problems == 0 && !report.sums_compared && !report.is_clean(), "{report:?}");
    assert!(report.entries >= 2500);
    let told = last.lock().unwrap();
    assert!(told.len() > 3 && told.last().is_some_and(|last| last.done == last.of));
}
