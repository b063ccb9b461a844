//! The index of a table against one that is made from the ids.

use std::collections::BTreeMap;

use p2pdb_protocol::bucket::{bucket_of, digest};
use proptest::{collection::vec, prelude::*};
use redb::ReadableTable as _;

use super::*;

/// Index and ids as they must be.
fn expected(entries: &[Entry], since: u64) -> (Vec<BucketSummary>, BTreeMap<u16, Vec<EntryId>>) {
    let mut buckets: BTreeMap<u16, Vec<EntryId>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.header().created >= since) {
        buckets.entry(bucket_of(&entry.id(), network().bucket_bits)).or_default().push(entry.id());
    }
    buckets.values_mut().for_each(|ids| ids.sort());
    let summary = |(bucket, ids): (&u16, &Vec<EntryId>)| BucketSummary {
        bucket: *bucket,
        count: ids.len() as u64,
        digest: digest(ids.iter()),
    };
    (buckets.iter().map(summary).collect(), buckets)
}

async fn check(store: &Store, entries: &[Entry], since: u64) {
    let scope = since.div_ceil(DAY) * DAY;
    let (buckets, ids) = expected(entries, scope);
    for bucket in 0..8 {
        let mut found = Vec::new();
        loop {
            let page = store.bucket_ids(table(0), since, bucket, found.last().copied(), 3).await.unwrap();
            assert!(page.ids.len() <= 3 && page.since == scope);
            found.extend(page.ids);
            if !page.more {
                break;
            }
        }
        assert_eq!(&found, ids.get(&bucket).unwrap_or(&Vec::new()));
    }
    for _ in 0..2 {
        // The second answer comes from what the first one left behind.
        let index = store.index(table(0), since).await.unwrap();
        assert_eq!(index, Index { since: scope, buckets: buckets.clone() });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn digests_are_those_of_the_ids_after_every_change(
        steps in vec((vec(0u64..5 * DAY, 0..12), vec(any::<prop::sample::Index>(), 0..4), any::<bool>()), 1..6),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut fixture = Fixture::new(StoreOptions::default());
            let (mut stored, mut entries, mut seed): (Vec<Entry>, Vec<Entry>, u64) = (Vec::new(), Vec::new(), 0);
            for (created, dropped, reopen) in steps {
                let mut new = Vec::new();
                for created in created {
                    seed += 1;
                    let draft = Draft { created: START + created, seed, ..Draft::default() };
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
                if reopen {
                    fixture.reopen().await;
                }
                for since in [0, START + DAY, START + 3 * DAY, START + 30 * DAY] {
                    check(&fixture.store, &stored, since).await;
                }
            }
            verified(&fixture.store).await;
        });
    }
}

#[tokio::test]
async fn the_scope_begins_with_the_horizon_or_later() {
    let fixture = Fixture::new(StoreOptions { horizon: Some(10 * DAY), ..StoreOptions::default() });
    let horizon = (START - 10 * DAY).div_ceil(DAY) * DAY;
    assert_eq!(fixture.store.scope_start(), horizon);
    // Kept, but its epoch is not within the horizon as a whole.
    let old = Draft { created: horizon - 1, seed: 1, ..Draft::default() };
    let kept = Draft { created: horizon, seed: 2, ..Draft::default() };
    fixture.store.commit(vec![old.new_entry(), kept.new_entry()]).await.unwrap();
    let index = fixture.store.index(table(0), 0).await.unwrap();
    assert_eq!(index, Index { since: horizon, buckets: expected(&[kept.entry()], 0).0 });
    assert_eq!(
        fixture.store.index(table(2), 0).await.unwrap(),
        Index { since: horizon, buckets: Vec::new() }
    );
    assert_eq!(arrivals(&fixture.store).await, [1, 2]);
    let later = fixture.store.index(table(0), horizon + 1).await.unwrap();
    assert_eq!(later, Index { since: horizon + DAY, buckets: Vec::new() });
}

#[tokio::test]
async fn digests_are_kept_in_the_file() {
    let mut fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 50)).await.unwrap();
    fixture.store.merge().await.unwrap();
    let index = fixture.store.index(table(0), 0).await.unwrap();
    fixture.reopen().await;
    let stale = fixture.store.core.file.read(|txn| {
        let rows = txn.open_table(schema::BUCKETS)?;
        let stale = rows.iter()?.map(|row| schema::Bucket::from_row(row.unwrap().1.value()));
        Ok(stale.filter(|bucket| bucket.digested != bucket.changed).count())
    });
    assert_eq!(stale.unwrap(), 0);
    assert_eq!(fixture.store.index(table(0), 0).await.unwrap(), index);
}

#[tokio::test]
async fn an_index_neither_makes_a_merge_nor_needs_one() {
    let fixture = Fixture::new(StoreOptions::default());
    let new = series(0, 50);
    let entries: Vec<_> = new.iter().map(|new| new.entry.clone()).collect();
    fixture.store.commit(new[..20].to_vec()).await.unwrap();
    fixture.store.merge().await.unwrap();
    crate::store::fault::arm(&fixture.path(), "merge");
    for (stored, next) in new.iter().enumerate().skip(20) {
        fixture.store.commit(vec![next.clone()]).await.unwrap();
        check(&fixture.store, &entries[..=stored], 0).await;
        check(&fixture.store, &entries[..=stored], START - 5 * DAY).await;
    }
    assert_eq!(fixture.store.core.delta.generations().len(), 1, "nobody ended the one that grows");
    crate::store::fault::disarm(&fixture.path());
    fixture.store.merge().await.unwrap();
    check(&fixture.store, &entries, 0).await;
}

#[tokio::test]
async fn buckets_that_did_not_change_are_not_computed_again_for_those_that_did() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = crate::store::query::Bounds { listed: 40, ..Default::default() };
    let store = open_bounded(&directory.path().join("store"), &Clock::manual(START), bounds);
    let new = series(0, 100);
    let entries: Vec<_> = new.iter().map(|new| new.entry.clone()).collect();
    store.commit(new[..60].to_vec()).await.unwrap();
    // In turn: it looks at all of them.
    assert_eq!(store.index(table(0), 0).await.unwrap().buckets, expected(&entries[..60], 0).0);
    // Nobody gets a turn any more.
    let _waiting = store.core.waiting.acquire_many(u32::try_from(WAITING).unwrap()).await.unwrap();
    for (stored, next) in new.iter().enumerate().skip(60) {
        store.commit(vec![next.clone()]).await.unwrap();
        assert_eq!(store.index(table(0), 0).await.unwrap().buckets, expected(&entries[..=stored], 0).0);
    }
}

#[tokio::test]
async fn long_answers_are_made_one_at_a_time_and_few_wait_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = crate::store::query::Bounds { listed: 20, ..Default::default() };
    let store = open_bounded(&directory.path().join("store"), &Clock::manual(START), bounds);
    let drafts = (0..60).map(|seed| Draft { seed, created: START + seed * DAY / 20, ..Draft::default() });
    let drafts: Vec<_> = drafts.collect();
    store.commit(drafts.iter().map(Draft::new_entry).collect()).await.unwrap();
    let entries: Vec<_> = drafts.iter().map(Draft::entry).collect();
    let scopes: Vec<_> = (0..3).map(|day| (START + day * DAY).div_ceil(DAY) * DAY).collect();

    // Somebody is at it, and as many wait as may.
    let turn = Arc::clone(&store.core.long).acquire_owned().await.unwrap();
    let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(store.index(table(0), scopes[0]))).collect();
    while store.core.waiting.available_permits() > 0 {
        for index in &mut waiting {
            assert!(futures::poll!(index).is_pending());
        }
        tokio::task::yield_now().await;
    }
    assert!(matches!(store.index(table(0), scopes[1]).await, Err(StoreError::Busy)));
    // Short answers do not wait: nothing in the scope, other requests.
    assert!(store.index(table(0), START + 30 * DAY).await.unwrap().buckets.is_empty());
    assert_eq!(store.known(table(0), vec![entries[0].id()]).await.unwrap(), [Presence::Stored]);
    drop(turn);
    for index in futures::future::try_join_all(waiting).await.unwrap() {
        assert_eq!(index.buckets, expected(&entries, scopes[0]).0);
    }
    // What was computed once is short from then on.
    let _turn = store.core.long.acquire().await.unwrap();
    assert_eq!(store.index(table(0), scopes[0]).await.unwrap().buckets, expected(&entries, scopes[0]).0);
}

#[tokio::test]
async fn ids_behind_many_dropped_ones_are_found_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = crate::store::query::Bounds { listed: 4, ..Default::default() };
    let store = open_bounded(&directory.path().join("store"), &Clock::manual(START), bounds);
    let new = series(0, 200);
    store.commit(new.clone()).await.unwrap();
    let mut ids: Vec<_> = new.iter().map(|new| new.entry.id()).collect();
    ids.retain(|id| bucket_of(id, network().bucket_bits) == 2);
    ids.sort_unstable();
    let last = ids.pop().unwrap();
    store.withdraw(table(0), ids.to_vec()).await.unwrap();
    let page = store.bucket_ids(table(0), 0, 2, None, 100).await.unwrap();
    assert_eq!((page.ids, page.more), (vec![last], false));
    // Where nothing is in the scope, nothing is searched.
    let turn = Arc::clone(&store.core.long).acquire_owned().await.unwrap();
    let page = store.bucket_ids(table(0), START + 2 * DAY, 2, None, 100).await.unwrap();
    assert!(page.ids.is_empty() && !page.more);
    drop(turn);
}
