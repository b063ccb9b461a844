//! What a kill or a power failure leaves of the last write.

use std::{fs, path::PathBuf};

use super::{query::copy, *};

/// A store as a kill leaves it, with so many commits that were not merged: its path, and where each frame begins and
/// the last one ends.
async fn killed(directory: &TempDir, commits: u64) -> (PathBuf, PathBuf, Vec<usize>) {
    let clock = Clock::manual(START);
    let store = open(&directory.path().join("store"), StoreOptions::default(), &clock).unwrap();
    let mut frames = Vec::new();
    let segment = log::directory_of(&directory.path().join("store")).join("0000000001.seg");
    for commit in 0..commits {
        frames.push(fs::metadata(&segment).map_or(log::SEGMENT_HEADER, |metadata| metadata.len()) as usize);
        store.commit(series(commit, 1)).await.unwrap();
    }
    frames.push(fs::metadata(&segment).unwrap().len() as usize);
    let path = directory.path().join("killed");
    copy(&directory.path().join("store"), &path);
    store.close().await.unwrap();
    let segment = log::directory_of(&path).join("0000000001.seg");
    (path, segment, frames)
}

#[tokio::test]
async fn a_torn_frame_at_the_end_is_cut_off_and_those_before_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (path, segment, frames) = killed(&directory, 4).await;
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
        fs::write(log::directory_of(&copied).join("0000000001.seg"), tail).unwrap();
        for more in 0..2 {
            let store = open(&copied, StoreOptions::default(), &Clock::manual(START)).unwrap();
            assert_eq!(arrivals(&store).await, (1..=expected + more).collect::<Vec<_>>(), "tail {index}");
            store.commit(series(100 + more, 1)).await.unwrap();
            assert_eq!(verified(&store).await.entries, expected + more + 1, "tail {index}");
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_frame_that_was_acknowledged_is_not_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let (path, segment, frames) = killed(&directory, 4).await;
    let whole = fs::read(&segment).unwrap();
    for at in [frames[2] + 4, frames[2] + 30, frames[3] - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&segment, damaged).unwrap();
        let error = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }
    fs::remove_file(&segment).unwrap();
    fs::write(&segment, &whole).unwrap();
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    assert_eq!(verified(&store).await.entries, 4);
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
    let (path, _, _) = killed(&directory, 2).await;
    for (length, name) in [(0, "0000000002.seg"), (40, "0000000003.seg"), (64, "0000000004.seg")] {
        fs::write(log::directory_of(&path).join(name), vec![0; length]).unwrap();
    }
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    store.commit(series(2, 1)).await.unwrap();
    assert_eq!(verified(&store).await.entries, 3);
}
