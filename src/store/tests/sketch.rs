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
        assert_eq!(store.summary(table(0), since).await.unwrap(), expected);
        let all = store.summaries(since).await.unwrap();
        let own = all.into_iter().find(|(id, _)| *id == table(0)).map(|(_, summary)| summary);
        assert_eq!(own.unwrap_or_default(), expected);
        for level in [0, 3, 12] {
            let numbers = (0..1 << level).rev().collect();
            let mut some = store.groups(table(0), since, level, Some(numbers)).await.unwrap();
            some.groups.reverse();
            assert_eq!(some.groups, groups_of(entries, scope, level), "level {level}, since {since}");
            assert_eq!(some.tally, *expected.tally());
            assert_eq!(store.groups(table(0), since, level, None).await.unwrap(), some);
        }
    }
    let sids: Vec<_> = entries.iter().map(|entry| Sid::of(&entry.id())).collect();
    let held = store.held(table(0), sids.clone()).await.unwrap();
    assert!(
        held.iter().map(|held| (held.id, held.stored)).eq(entries.iter().map(|entry| (entry.id(), true)))
    );
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
            let (mut entries, mut seed): (Vec<Entry>, u64) = (Vec::new(), 0);
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
                fixture.store.commit(new).await.unwrap();
                for index in dropped {
                    if !entries.is_empty() {
                        let entry = entries.swap_remove(index.index(entries.len()));
                        fixture.store.drop_for_good(table(0), entry.id(), DropReason::Retracted).await.unwrap();
                    }
                }
                check(&fixture.store, &entries).await;
                match event {
                    0 => verified(&fixture.store).await,
                    1 => {
                        fixture.reopen().await;
                        verified(&fixture.store).await
                    }
                    _ => Report::default(),
                };
                check(&fixture.store, &entries).await;
            }
        });
    }
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
    assert_eq!(fixture.store.summary(table(0), 0).await.unwrap(), summary_of(&kept, 0));
    verified(&fixture.store).await;
}
