//! A power cut takes what was not synced, and nothing that was acknowledged.

mod machine;

use std::fs;

use self::machine::{Change, Power};
use super::{
    crash::{is_consistent, request, small_settings},
    tail::killed,
    *,
};

#[tokio::test]
async fn a_power_cut_at_any_moment_takes_nothing_that_was_acknowledged() {
    let seed: u64 = std::env::var("P2PDB_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    println!("P2PDB_SEED={seed}");
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("running");
    fs::create_dir(&root).unwrap();
    let machine = Power::on(&root);
    {
        // The first ones while the store is being made.
        let mut state = machine.state.lock().unwrap();
        state.seed = seed << 32;
        let mut at = 0;
        for cut in 0..16 {
            at += 1 + state.random() % if cut < 6 { 8 } else { 360 };
            let left = directory.path().join(format!("cut{cut}"));
            state.cuts.insert(0, (at, left, cut % 2 == 1));
        }
    }
    let clock = Clock::manual(START);
    let store = machine.open(&root.join("store"), small_settings(), &clock);
    // Changes that it takes, as far as is known: merging beside it, it takes more at one time than at another.
    let (mut compacting, mut cut_compactions) = (20, 0);
    for number in 0.. {
        if machine.state.lock().unwrap().cuts.is_empty() {
            break;
        }
        store.commit(request(number).iter().map(Draft::new_entry).collect()).await.unwrap();
        machine.state.lock().unwrap().acknowledged = number + 1;
        clock.set(START + number);
        match number % 16 {
            3 => drop(store.sweep().await.unwrap()),
            11 => store.merge().await.unwrap(),
            13 => {
                let (before, at) = {
                    // One that is likely to happen meanwhile.
                    let mut state = machine.state.lock().unwrap();
                    let at = state.changes + 1 + state.random() % compacting;
                    let left = directory.path().join(format!("compact{number}"));
                    state.cuts.push((at, left, number % 32 == 13));
                    state.cuts.sort_by_key(|(at, ..)| std::cmp::Reverse(*at));
                    (state.changes, at)
                };
                store.compact().await.unwrap();
                let state = machine.state.lock().unwrap();
                compacting = state.changes - before;
                cut_compactions += u32::from(state.cuts.iter().all(|(cut, ..)| *cut != at));
            }
            _ => {}
        }
    }
    store.close().await.unwrap();
    assert!(cut_compactions > 0);
    let taken = std::mem::take(&mut machine.state.lock().unwrap().taken);
    assert!(taken.last().unwrap().1 > 20, "{taken:?}: too few to be merged and rewritten");
    for (left, acknowledged) in taken {
        println!("{}: {acknowledged} acknowledged", left.display());
        let (path, clock) = (left.join("store"), Clock::manual(START + acknowledged));
        for next in [acknowledged, acknowledged + 1] {
            // Before anything is merged, then after that.
            crate::store::fault::arm(&path, "merge");
            let store = crash::small(&path, &clock).unwrap();
            if next > 0 {
                is_consistent(&store, 0..=next - 1, 1).await;
            }
            crate::store::fault::disarm(&path);
            if next > 0 {
                verified(&store).await;
                is_consistent(&store, 0..=next - 1, 1).await;
            }
            store.commit(request(next).iter().map(Draft::new_entry).collect()).await.unwrap();
            store.close().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_power_cut_while_a_segment_begins_leaves_a_store_that_opens() {
    for round in 0..8 {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("running");
        fs::create_dir(&root).unwrap();
        let (machine, clock) = (Power::on(&root), Clock::manual(START));
        let settings = Settings::new(network(), StoreOptions::default()).unwrap();
        let store = machine.open(&root.join("store"), settings, &clock);
        {
            // Header, its sync, that of the directory, frame, its sync.
            let mut state = machine.state.lock().unwrap();
            state.seed = round << 32;
            let cuts = (1..=5).rev();
            let cuts =
                cuts.map(|cut| (state.changes + cut, directory.path().join(format!("cut{cut}")), true));
            state.cuts = cuts.collect();
        }
        store.commit(series(0, 1)).await.unwrap();
        store.close().await.unwrap();
        let taken = std::mem::take(&mut machine.state.lock().unwrap().taken);
        assert_eq!(taken.len(), 5);
        for (left, _) in taken {
            let store = open(&left.join("store"), StoreOptions::default(), &clock).unwrap();
            store.commit(series(0, 2)).await.unwrap();
            assert_eq!(verified(&store).await.entries, 2, "{}", left.display());
            store.close().await.unwrap();
        }
    }
}

/// What somebody who was killed had not synced yet.
#[derive(Debug, Clone, Copy)]
enum Unsynced {
    Frame,
    NameOfSegment,
    NameOfStore,
}

#[tokio::test]
async fn what_a_killed_writer_left_in_memory_counts_when_it_is_durable() {
    for unsynced in [Unsynced::Frame, Unsynced::NameOfSegment, Unsynced::NameOfStore] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("running");
        fs::create_dir(&root).unwrap();
        let (path, segment, frames) = killed(&root, 4).await;
        let machine = Power::on(&root);
        {
            // It was killed right before it synced.
            let mut state = machine.state.lock().unwrap();
            let directory = log::directory_of(&path);
            state.sync_directory(&directory);
            match unsynced {
                Unsynced::NameOfStore => drop(state.names.remove(&root)),
                Unsynced::NameOfSegment => drop(state.names.remove(&directory)),
                Unsynced::Frame => {
                    let inode = state.kept(&segment);
                    let kept = state.files.get_mut(&inode).unwrap();
                    let last = kept.durable.split_off(frames[3]);
                    kept.pending.push(Change::Write(frames[3] as u64, last));
                }
            }
        }
        let clock = Clock::manual(START);
        let settings = Settings::new(network(), StoreOptions::default()).unwrap();
        let store = machine.open(&path, settings, &clock);
        // Who asks again is told that it is known, and it goes into the indexes.
        assert_eq!(store.commit(series(3, 1)).await.unwrap(), [Committed::Known]);
        store.merge().await.unwrap();
        let left = directory.path().join("left");
        machine.state.lock().unwrap().leave(&root, &left, false);
        store.close().await.unwrap();
        let store = open(&left.join("killed"), StoreOptions::default(), &clock).unwrap();
        assert_eq!(arrivals(&store).await, [1, 2, 3, 4]);
        assert_eq!(verified(&store).await.entries, 4);
    }
}
