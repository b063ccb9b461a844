//! Segments are rewritten, and nothing is lost by it.

use super::*;

const SEGMENT: u64 = 16 << 10;

/// The segment in which each stored entry is, by arrival number.
fn places(store: &Store) -> Vec<(u64, u32)> {
    use redb::ReadableTable;
    let read = store.core.file.read(|txn| {
        let locations = txn.open_table(schema::LOCATIONS)?;
        let place = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, _>), _>| {
            let (arrival, row) = row?;
            Ok((arrival.value(), record::Location::from_row(row.value()).segment))
        };
        locations.iter()?.map(place).collect()
    });
    read.unwrap()
}

/// Drops the entries with these arrival numbers; entry `seed` is the one that came as number `seed + 1`.
async fn retract(store: &Store, arrivals: impl Iterator<Item = u64>) {
    let id = |arrival| Draft { seed: arrival - 1, ..Draft::default() }.entry().id();
    store.withdraw(table(0), arrivals.map(id).collect()).await.unwrap();
    store.merge().await.unwrap();
}

#[tokio::test]
async fn nothing_is_moved_to_a_segment_that_went() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let options =
        StoreOptions { delta_bytes: SEGMENT / 2, segment_bytes: SEGMENT, ..StoreOptions::default() };
    let clock = Clock::manual(START);
    let store = open(&path, options, &clock).unwrap();
    let commit = async |from: u64, to: u64| {
        for seed in (from..to).step_by(4) {
            store.commit(series(seed, 4)).await.unwrap();
        }
        store.merge().await.unwrap();
    };

    // Of the first segment a part is moved...
    commit(0, 100).await;
    retract(&store, 1..5).await;
    store.compact().await.unwrap();
    let moved_to = places(&store)[0].1;
    assert_ne!(moved_to, 1, "the rest of the first segment was moved");
    // ... and goes, with the segment where it went.
    let moved = places(&store).into_iter().filter(|(_, segment)| *segment == moved_to);
    retract(&store, moved.map(|(arrival, _)| arrival)).await;
    assert!(!store.core.log.segments().contains_key(&moved_to));

    // What is moved next finds another one.
    commit(100, 300).await;
    let before = places(&store);
    let is_left = |arrival: &u64| arrival.is_multiple_of(4);
    retract(&store, before.iter().map(|(arrival, _)| *arrival).filter(|arrival| !is_left(arrival))).await;
    let left: Vec<_> = before.iter().copied().filter(|(arrival, _)| is_left(arrival)).collect();
    let now = places(&store);
    assert!(now.iter().map(|(arrival, _)| arrival).eq(left.iter().map(|(arrival, _)| arrival)));
    assert_ne!(now, left, "some of it was moved");
    let expected: Vec<_> = left.iter().map(|(arrival, _)| *arrival).collect();
    assert_eq!(arrivals(&store).await, expected);
    verified(&store).await;
    store.close().await.unwrap();
    let store = open(&path, StoreOptions::default(), &clock).unwrap();
    assert_eq!(arrivals(&store).await, expected);
}
