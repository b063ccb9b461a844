//! What a kill or a power failure leaves of the last write.

use std::{fs, path::PathBuf};

use super::{query::copy, *};

/// A store as a kill leaves it, with so many commits that were not merged: its path, and where each frame begins and
/// the last one ends.
pub(super) async fn killed(directory: &Path, commits: u64) -> (PathBuf, PathBuf, Vec<usize>) {
    let clock = Clock::manual(START);
    let store = open(&directory.join("store"), StoreOptions::default(), &clock).unwrap();
    let mut frames = Vec::new();
    let segment = log::directory_of(&directory.join("store")).join("0000000001.seg");
    for commit in 0..commits {
        frames.push(fs::metadata(&segment).map_or(log::SEGMENT_HEADER, |metadata| metadata.len()) as usize);
        store.commit(series(commit, 1)).await.unwrap();
    }
    frames.push(fs::metadata(&segment).unwrap().len() as usize);
    let path = directory.join("killed");
    copy(&directory.join("store"), &path);
    store.close().await.unwrap();
    let segment = log::directory_of(&path).join("0000000001.seg");
    (path, segment, frames)
}

#[tokio::test]
async fn a_torn_frame_at_the_end_stays_and_is_not_read() {
    let directory = tempfile::tempdir().unwrap();
    let (path, segment, frames) = killed(directory.path(), 4).await;
    let whole = fs::read(&segment).unwrap();
    let (begin, end) = (frames[3], frames[4]);
    let zeroed = |range: std::ops::Range<usize>| {
        let mut torn = whole.clone();
        torn[range].fill(0);
        torn
    };
    let mut tails: Vec<(Vec<u8>, u64)> =
        [0, 1, 3, 4, 19, 20, 21, 200, end - begin - 1].map(|cut| (whole[..begin + cut].to_vec(), 3)).into();
    // Blocks reach the disk in any order: the end may be there and the begin not.
    tails.push((zeroed(begin..begin + 4), 3));
    tails.push((zeroed(begin..begin + 300), 3));
    tails.push((zeroed(begin + 100..end), 3));
    tails.push((zeroed(begin + 300..begin + 301), 3));
    // The length of the file grew, and nothing was written; or what lay there before.
    tails.push(([whole.as_slice(), &[0; 5000]].concat(), 4));
    tails.push(([whole.as_slice(), &whole[begin..]].concat(), 4));
    tails.push(([whole.as_slice(), &[0xff; 5000]].concat(), 4));
    for (index, (tail, expected)) in tails.into_iter().enumerate() {
        let copied = directory.path().join(format!("tail{index}"));
        copy(&path, &copied);
        let segment = log::directory_of(&copied).join("0000000001.seg");
        fs::write(&segment, &tail).unwrap();
        // Opened once without a commit, so that it is the end of the log more than once.
        drop(verified(&open(&copied, StoreOptions::default(), &Clock::manual(START)).unwrap()).await);
        for more in 0..2 {
            let store = open_when_free(&copied).await;
            assert_eq!(arrivals(&store).await, (1..=expected + more).collect::<Vec<_>>(), "tail {index}");
            store.commit(series(100 + more, 1)).await.unwrap();
            assert_eq!(verified(&store).await.entries, expected + more + 1, "tail {index}");
            store.close().await.unwrap();
        }
        if tail.len() > frames[expected as usize] {
            assert_eq!(fs::read(&segment).unwrap(), tail, "tail {index}: nothing is cut off");
        }
    }
}

/// A handle that was dropped lets go of the files a moment later.
async fn open_when_free(path: &Path) -> Store {
    loop {
        match open(path, StoreOptions::default(), &Clock::manual(START)) {
            Err(StoreError::InUse { .. }) => tokio::task::yield_now().await,
            store => return store.unwrap(),
        }
    }
}

#[tokio::test]
async fn what_is_left_of_a_torn_frame_goes_with_its_segment() {
    let directory = tempfile::tempdir().unwrap();
    let (path, running) = (directory.path().join("killed"), directory.path().join("store"));
    let store = open(&running, StoreOptions::default(), &Clock::manual(START)).unwrap();
    for seed in 0..4 {
        store.commit(vec![Draft { seed, length: 20_000, ..Draft::default() }.new_entry()]).await.unwrap();
    }
    copy(&running, &path);
    store.close().await.unwrap();
    let segment = log::directory_of(&path).join("0000000001.seg");
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    store.commit(series(4, 1)).await.unwrap();
    store.merge().await.unwrap();
    assert!(segment.exists());
    store.compact().await.unwrap();
    assert!(!segment.exists(), "a quarter of it is dead");
    assert_eq!(verified(&store).await.entries, 4);
}

#[tokio::test]
async fn a_frame_that_was_acknowledged_is_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (path, segment, frames) = killed(directory.path(), 4).await;
    let whole = fs::read(&segment).unwrap();
    let flipped = |places: &[usize]| {
        let mut damaged = whole.clone();
        places.iter().for_each(|at| damaged[*at] ^= 1);
        damaged
    };
    let mut damages: Vec<_> = [4, 30, frames[3] - frames[2] - 1].map(|at| flipped(&[frames[2] + at])).into();
    // Its length: too long for the file, another one in the middle, none.
    damages.extend([0, 2, 3].map(|at| flipped(&[frames[1] + at])));
    // Two that are neighbours, as one bad block makes them.
    damages.push(flipped(&[frames[1] + 50, frames[2] + 50]));
    damages.push(flipped(&[frames[1], frames[2] + 2]));
    let mut zeroed = whole.clone();
    zeroed[frames[1] + 100..frames[3]].fill(0);
    damages.push(zeroed);
    // More than any one write leaves.
    damages.push([whole.as_slice(), &vec![0; (64 << 20) + 1]].concat());
    for damaged in damages {
        fs::write(&segment, damaged).unwrap();
        let error = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    fs::write(&segment, &whole).unwrap();
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    assert_eq!(verified(&store).await.entries, 4);
    store.close().await.unwrap();
    // What is merged already must be there, too.
    fs::write(&segment, &whole[..frames[4] - 1]).unwrap();
    let error = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap_err();
    assert!(error.to_string().contains("ends at"), "{error}");
}

#[tokio::test]
async fn segments_of_another_store_are_refused() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 1)).await.unwrap();
    fixture.store.close().await.unwrap();
    fs::remove_file(fixture.path()).unwrap();
    let error = open(&fixture.path(), fixture.options.clone(), &fixture.clock).unwrap_err();
    assert!(error.to_string().contains("of another store"), "{error}");
}

#[tokio::test]
async fn a_segment_that_was_only_begun_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let (path, _, _) = killed(directory.path(), 2).await;
    for (length, name) in [(0, "0000000002.seg"), (40, "0000000003.seg"), (64, "0000000004.seg")] {
        fs::write(log::directory_of(&path).join(name), vec![0; length]).unwrap();
    }
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    store.commit(series(2, 1)).await.unwrap();
    assert_eq!(verified(&store).await.entries, 3);
}

#[tokio::test]
async fn generations_that_are_cut_anew_at_opening_name_the_tables_of_all_that_is_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let (path, killed) = (directory.path().join("store"), directory.path().join("killed"));
    let options = StoreOptions { horizon: Some(30 * DAY), ..StoreOptions::default() };
    let store = open(&path, options.clone(), &clock).unwrap();
    // One generation, whose first frame alone names the table; the first half of it goes with its merge.
    for seed in 0..20 {
        let created = if seed < 10 { START - 40 * DAY } else { START };
        store.commit(vec![Draft { seed, created, ..Draft::default() }.new_entry()]).await.unwrap();
    }
    copy(&path, &killed);
    store.close().await.unwrap();
    let open_small = || open(&killed, StoreOptions { delta_bytes: 1000, ..options.clone() }, &clock).unwrap();
    crate::store::fault::arm(&killed, "merge");
    let store = open_small();
    let are_named = store.core.delta.all(|generations| {
        assert!(generations.len() > 5);
        let is_named = |generation: &delta::Generation| {
            generation.entries.iter().all(|(facts, _)| generation.concerns(facts.table_no))
        };
        generations.iter().all(|generation| is_named(generation))
    });
    assert!(are_named);
    assert!(store.merge().await.is_err());
    crate::store::fault::disarm(&killed);
    // Killed again when only what is beyond the horizon was merged, the table is not forgotten with it.
    while delta::read(&store.core.delta.generations()[0]).next() <= 11 {
        merge::step(&store.core, |batch| crate::store::retention::retire(batch, 100).map(drop)).unwrap();
    }
    let merged = store.core.file.read(|txn| schema::State::read(&txn.open_table(schema::STATE)?)).unwrap();
    assert!(merged.next_arrival > 5 && merged.charge == 0, "{merged:?}");
    let killed_again = directory.path().join("again");
    copy(&killed, &killed_again);
    store.close().await.unwrap();
    let store = open(&killed_again, options.clone(), &clock).unwrap();
    assert_eq!(store.index(table(0), 0).await.unwrap().buckets.iter().map(|b| b.count).sum::<u64>(), 10);
    assert_eq!(verified(&store).await.entries, 10);
}
