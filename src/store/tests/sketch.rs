//! The sketches of the store against those made from its ids.

use std::collections::BTreeMap;

use p2pdb_protocol::{
    filter::BySids,
    limits::MAX_GET_SIDS,
    reconcile::sketch::{Element, Group, Sid, Summary},
};
use proptest::{collection::vec, prelude::*};

use super::*;

fn summary_of(entries: &[Entry], since: u64) -> Summary {
    let mut summary = Summary::default();
    let within = entries.iter().filter(|entry| entry.header().created >= since);
    within.for_each(|entry| summary.insert(&Element::of(&entry.id())));
    summary
}

fn groups_of(entries: &[Entry], since: u64, level: u8) -> Vec<Group> {
    let mut groups = vec![Group::default(); 1 << level];
    for entry in entries.iter().filter(|entry| entry.header().created >= since) {
        groups[usize::from(Sid::of(&entry.id()).group(level))].insert(&Element::of(&entry.id()));
    }
    groups
}

async fn check(store: &Store, entries: &[Entry]) {
    for since in [0, START + 1, START + 2 * DAY, START + 90 * DAY] {
        let scope = since.div_ceil(DAY) * DAY;
        let expected = summary_of(entries, scope);
        let newest = store.stats().await.unwrap().newest_arrival;
        assert_eq!(store.summary(table(0), since).await.unwrap(), (expected.clone(), newest));
        let (all, as_of) = store.summaries(since).await.unwrap();
        assert!(as_of == newest && all.is_sorted_by(|(a, _), (b, _)| a < b));
        let own = all.into_iter().find(|(id, _)| *id == table(0)).map(|(_, summary)| summary);
        assert_eq!(own.unwrap_or_default(), expected);
        for level in [0, 3, 12] {
            let numbers = (0..1 << level).rev().collect();
            let mut some = store.groups(table(0), since, level, Some(numbers)).await.unwrap();
            some.groups.reverse();
            assert_eq!(some.groups, groups_of(entries, scope, level), "level {level}, since {since}");
            assert_eq!((some.tally, some.newest), (*expected.tally(), newest));
            assert_eq!(store.groups(table(0), since, level, None).await.unwrap(), some);
        }
    }
    let sids: Vec<_> = entries.iter().map(|entry| Sid::of(&entry.id())).collect();
    let held = store.held(table(0), sids.clone()).await.unwrap();
    assert!(held.iter().map(|held| held.id).eq(entries.iter().map(|entry| entry.id())));
    assert!(held.iter().all(|held| held.arrival.is_some()));
    let mut missing: BTreeMap<_, _> = sids.into_iter().zip(entries).collect();
    loop {
        let sids = missing.keys().copied().chain(Sid::from_u64(77)).take(MAX_GET_SIDS).collect();
        let page = store.by_sids(BySids { table: table(0), sids, limit: 100 }, 5000).await.unwrap();
        for (_, encoded) in &page.entries {
            let id = Entry::from_trusted(encoded.clone(), &network()).unwrap().id();
            assert_eq!(missing.remove(&Sid::of(&id)).unwrap().encoded(), encoded);
        }
        if !page.more {
            break;
        }
        assert!(!page.entries.is_empty());
    }
    assert!(missing.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sketches_are_those_of_the_ids_before_and_after_merging_and_reopening(
        // Enough in one day for its groups to be kept, and few enough after the drops for them to go.
        steps in vec((0u64..90, 0u64..3, vec(any::<prop::sample::Index>(), 0..60), 0u8..4), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::new(StoreOptions::default());
            let (mut stored, mut entries, mut seed): (Vec<Entry>, Vec<Entry>, u64) = (Vec::new(), Vec::new(), 0);
            for (count, days, dropped, event) in steps {
                let mut new = Vec::new();
                for _ in 0..count {
                    seed += 1;
                    let created = START + days * DAY + seed;
                    let draft = Draft { created, seed, length: 16, ..Draft::default() };
                    entries.push(draft.entry());
                    new.push(draft.new_entry());
                    // Another table must not show.
                    new.push(Draft { table: 1, ..draft }.new_entry());
                }
                let mut gone = Vec::new();
                for index in dropped {
                    if !stored.is_empty() {
                        gone.push(stored.swap_remove(index.index(stored.len())).id());
                    }
                }
                fixture.store.withdraw(table(0), gone.to_vec()).await.unwrap();
                fixture.store.commit(new).await.unwrap();
                stored.append(&mut entries);
                check(&fixture.store, &stored).await;
                match event {
                    0 => verified(&fixture.store).await,
                    1 => {
                        fixture.reopen().await;
                        verified(&fixture.store).await
                    }
                    _ => Report::default(),
                };
                check(&fixture.store, &stored).await;
            }
        });
    }
}

fn kept_levels(store: &Store) -> BTreeMap<(u32, u64), u8> {
    let cells: Vec<_> = store.core.live().cells.keys().copied().collect();
    let level = |cell| {
        let kept =
            store.core.file.read(|txn| crate::store::sketch::kept(&txn.open_table(schema::GROUPS)?, cell));
        Some((cell, kept.unwrap()?.0))
    };
    cells.into_iter().filter_map(level).collect()
}

#[tokio::test]
async fn groups_are_kept_of_all_but_the_smallest_cells_and_of_a_level_that_follows_their_size() {
    let mut fixture = Fixture::new(StoreOptions::default());
    let at = |day: u64| {
        move |seed: u64| Draft { seed, length: 16, created: START + day * DAY, ..Draft::default() }
    };
    let (small, large) = (at(0), at(1));
    let cell = |day: u64| (1, network().epoch(START + day * DAY));
    let mut drafts: Vec<_> = (0..63).map(small).collect();
    for (from, to, level) in [(1000, 1064, Some(2)), (1064, 1255, Some(2)), (1255, 1300, Some(4))] {
        drafts.extend((from..to).map(large));
        let new = drafts.iter().filter(|draft| draft.seed >= from || from == 1000).map(Draft::new_entry);
        fixture.store.commit(new.collect()).await.unwrap();
        verified(&fixture.store).await;
        let kept = kept_levels(&fixture.store);
        assert_eq!((kept.get(&cell(0)), kept.get(&cell(1)).copied()), (None, level), "{to}");
    }
    fixture.reopen().await;
    check(&fixture.store, &drafts.iter().map(Draft::entry).collect::<Vec<_>>()).await;
    let drop = async |store: &Store, drafts: &mut Vec<Draft>, most: u64| {
        let gone = drafts.extract_if(.., |draft| draft.seed >= most).map(|draft| draft.entry().id());
        store.withdraw(table(0), gone.collect()).await.unwrap();
        verified(store).await;
        check(store, &drafts.iter().map(Draft::entry).collect::<Vec<_>>()).await;
        kept_levels(store).get(&cell(1)).copied()
    };
    assert_eq!(drop(&fixture.store, &mut drafts, 1064).await, Some(4));
    assert_eq!(drop(&fixture.store, &mut drafts, 1063).await, Some(2));
    assert_eq!(drop(&fixture.store, &mut drafts, 1015).await, None);
}

/// Cells of which a store has no groups, as one that was made before they were kept of small ones.
#[tokio::test]
async fn a_cell_without_groups_is_computed_and_gets_them_with_its_next_change() {
    let fixture = Fixture::new(StoreOptions::default());
    let draft = |seed| Draft { seed, length: 16, ..Draft::default() };
    fixture.store.commit((0..100).map(|seed| draft(seed).new_entry()).collect()).await.unwrap();
    fixture.store.merge().await.unwrap();
    assert_eq!(kept_levels(&fixture.store).len(), 1);
    let core = &fixture.store.core;
    core.file.write(|txn| Ok((txn.open_table(schema::GROUPS)?.retain(|_, _| false)?, true))).unwrap();
    verified(&fixture.store).await;
    let entries = |count| (0..count).map(|seed| draft(seed).entry()).collect::<Vec<_>>();
    check(&fixture.store, &entries(100)).await;
    fixture.store.commit(vec![draft(100).new_entry()]).await.unwrap();
    verified(&fixture.store).await;
    assert_eq!(kept_levels(&fixture.store).len(), 1);
    check(&fixture.store, &entries(101)).await;
}

/// What is over the bound is not begun beside the readers, however few groups are asked for: it waits for its turn.
#[tokio::test]
async fn the_lane_of_a_question_goes_by_its_work_and_a_put_waits_for_neither() {
    let fixture = Fixture::new(StoreOptions::default());
    let drafts: Vec<_> = (0..6000).map(|seed| Draft { seed, length: 16, ..Draft::default() }).collect();
    fixture.store.commit(drafts.iter().map(Draft::new_entry).collect()).await.unwrap();
    fixture.store.merge().await.unwrap();
    let (store, id) = (&fixture.store, drafts[0].entry().id());
    let work = |level, groups| store.groups_work(table(0), 0, level, groups);
    assert_eq!((work(0, 1), work(8, 256), work(8, 3)), (257, 257, 4), "of level 8 they are kept");
    assert_eq!((work(12, 4096), work(12, 1)), (1 + 17 * 6000, 1 + 6000 + 16));

    let waiting = store.core.waiting.try_acquire_many(WAITING as u32).unwrap();
    assert!(matches!(store.groups(table(0), 0, 12, None).await, Err(StoreError::Busy)));
    assert_eq!(store.groups(table(0), 0, 12, Some(vec![7])).await.unwrap().groups.len(), 1);
    assert_eq!(store.groups(table(0), 0, 8, None).await.unwrap().groups.len(), 256);
    drop(waiting);
    assert_eq!(store.groups(table(0), 0, 12, None).await.unwrap().groups.len(), 4096);

    // All readers are busy with questions.
    let readers = Arc::clone(&store.core.readers).try_acquire_many_owned(READERS as u32).unwrap();
    let held = store.held(table(0), vec![Sid::of(&id)]);
    tokio::pin!(held);
    assert!(futures::poll!(&mut held).is_pending());
    let known =
        tokio::time::timeout(std::time::Duration::from_secs(60), store.known(table(0), vec![id])).await;
    assert_eq!(known.expect("the gate waits for questions").unwrap(), [Presence::Stored]);
    assert!(futures::poll!(&mut held).is_pending());
    drop(readers);
    assert_eq!(held.await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_sweep_drops_leaves_the_sketches() {
    let fixture = Fixture::new(StoreOptions { horizon: Some(10 * DAY), ..StoreOptions::default() });
    let drafts: Vec<_> = (0..300)
        .map(|seed| Draft {
            seed,
            length: 16,
            created: START - (seed % 5) * DAY,
            expires: seed.is_multiple_of(3).then_some(START + 5),
            ..Draft::default()
        })
        .collect();
    fixture.store.commit(drafts.iter().map(Draft::new_entry).collect()).await.unwrap();
    let left = |keep: &dyn Fn(&Draft) -> bool| {
        drafts.iter().filter(|draft| keep(draft)).map(Draft::entry).collect::<Vec<_>>()
    };
    check(&fixture.store, &left(&|_| true)).await;
    fixture.clock.set(START + 5);
    fixture.store.sweep().await.unwrap();
    check(&fixture.store, &left(&|draft| draft.seed % 3 > 0)).await;
    verified(&fixture.store).await;
    fixture.clock.set(START + 8 * DAY);
    fixture.store.sweep().await.unwrap();
    let scope = fixture.store.scope_start();
    let kept = left(&|draft| draft.seed % 3 > 0 && draft.created >= scope);
    assert!(!kept.is_empty() && kept.len() < 200);
    assert_eq!(fixture.store.summary(table(0), 0).await.unwrap().0, summary_of(&kept, 0));
    verified(&fixture.store).await;
}
