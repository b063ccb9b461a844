//! What is dropped, in which order, and what stays known of it.

use super::*;
use crate::store::retention::DUE;

const MIB: u64 = 1 << 20;

async fn stored(store: &Store, drafts: &[Draft]) {
    let outcomes = store.commit(drafts.iter().map(Draft::new_entry).collect()).await.unwrap();
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Committed::Stored { .. })), "{outcomes:?}");
}

async fn presence(store: &Store, drafts: &[Draft]) -> Vec<Presence> {
    store.known(table(0), drafts.iter().map(|draft| draft.entry().id()).collect()).await.unwrap()
}

#[tokio::test]
async fn the_expired_go_stay_known_for_a_week_and_are_then_forgotten() {
    let fixture = Fixture::new(StoreOptions::default());
    let expiring = |seed, expires| Draft { seed, expires: Some(expires), ..Draft::default() };
    let drafts = [expiring(1, START + 10), expiring(2, START + 11), Draft::default()];
    stored(&fixture.store, &drafts).await;
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept::default());
    fixture.clock.set(START + 10);
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept { expired: 1, ..Swept::default() });
    use Presence::{Dropped, Stored, Unknown};
    assert_eq!(presence(&fixture.store, &drafts).await, [Dropped, Stored, Stored]);
    verified(&fixture.store).await;
    fixture.clock.set(START + 10 + 7 * DAY);
    let swept = fixture.store.sweep().await.unwrap();
    assert_eq!(swept, Swept { expired: 1, forgotten: 1, ..Swept::default() });
    assert_eq!(presence(&fixture.store, &drafts).await, [Unknown, Dropped, Stored]);
    verified(&fixture.store).await;
}

#[tokio::test]
async fn the_horizon_drops_whole_epochs_in_as_many_steps_as_it_takes() {
    let horizon = 10 * DAY;
    let fixture = Fixture::new(StoreOptions { horizon: Some(horizon), ..StoreOptions::default() });
    let start = fixture.store.horizon_start();
    assert_eq!(start, (START - horizon) / DAY * DAY);
    let count = DUE as u64 + 500;
    let old = (0..count).map(|seed| Draft { seed, created: start + DAY - 1, length: 16, ..Draft::default() });
    let old: Vec<_> = old.collect();
    let kept = [Draft { seed: 1, created: start + DAY, ..Draft::default() }];
    stored(&fixture.store, &old).await;
    stored(&fixture.store, &kept).await;
    fixture.clock.set(start + DAY + horizon - 1);
    assert_eq!(fixture.store.horizon_start(), start);
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept::default(), "nothing within the horizon goes");
    // One second later the whole epoch is older than the horizon.
    fixture.clock.set(start + DAY + horizon);
    assert_eq!(fixture.store.horizon_start(), start + DAY);
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept { beyond_horizon: count, ..Swept::default() });
    assert_eq!(arrivals(&fixture.store).await, [count + 1]);
    assert_eq!(presence(&fixture.store, &old[..1]).await, [Presence::Unknown]);
    verified(&fixture.store).await;
}

#[tokio::test]
async fn the_shortest_horizon_is_an_epoch_and_keeps_what_is_within_it() {
    let fixture = Fixture::new(StoreOptions { horizon: Some(DAY), ..StoreOptions::default() });
    for now in [START / DAY * DAY, START / DAY * DAY + DAY - 1] {
        fixture.clock.set(now);
        let within = [Draft { created: now - DAY, seed: now, ..Draft::default() }];
        assert!(fixture.store.horizon_start() <= now - DAY);
        stored(&fixture.store, &within).await;
        assert_eq!(fixture.store.sweep().await.unwrap(), Swept::default());
        assert_eq!(presence(&fixture.store, &within).await, [Presence::Stored]);
    }
    let options = StoreOptions { horizon: Some(DAY - 1), ..StoreOptions::default() };
    let error = open(&fixture.path(), options, &fixture.clock).unwrap_err();
    assert!(matches!(error, StoreError::HorizonTooShort { least: DAY, got } if got == DAY - 1), "{error}");
}

#[tokio::test]
async fn a_table_over_its_limit_loses_its_entries_with_the_least_effort_per_byte() {
    let limit = charge::LEAST_TABLE_LIMIT;
    let limits = [(table(0), limit)].into();
    let fixture = Fixture::new(StoreOptions { table_limits: limits, ..StoreOptions::default() });
    let other: Vec<_> = (0..300).map(|seed| Draft { seed, table: 1, ..Draft::default() }).collect();
    stored(&fixture.store, &other).await;
    let drafts: Vec<_> = (0..300)
        .map(|seed| Draft { seed, length: 5000 + (seed as usize * 370) % 9000, ..Draft::default() })
        .collect();
    let mut outcomes = Vec::new();
    for part in drafts.chunks(50) {
        outcomes.extend(fixture.store.commit(part.iter().map(Draft::new_entry).collect()).await.unwrap());
        verified(&fixture.store).await;
    }
    // The same by hand: after each request, the oldest of the lowest classes go until the rest is a little under the limit.
    let class = |draft: &Draft| {
        let entry = draft.entry();
        let per_byte = entry.effort() as f64 / entry.encoded().len() as f64;
        let exponent = per_byte.log2().floor();
        let fraction = (per_byte / exponent.exp2() - 1.0) * 8.0;
        (exponent as i64, fraction.floor() as i64)
    };
    let charge = |draft: &Draft| charge::of_entry(draft.entry().encoded().len(), 1);
    let mut kept = BTreeSet::new();
    for part in drafts.chunks(50) {
        kept.extend(part.iter().map(|draft| (class(draft), draft.seed)));
        let mut total: u64 = kept.iter().map(|(_, seed)| charge(&drafts[*seed as usize])).sum();
        if total > limit {
            while total > limit - limit / 64 {
                let (_, seed) = kept.pop_first().unwrap();
                total -= charge(&drafts[seed as usize]);
            }
        }
    }
    assert!(kept.len() > 50 && kept.len() < 250);
    let presence = presence(&fixture.store, &drafts).await;
    for (draft, presence) in drafts.iter().zip(&presence) {
        let is_kept = kept.contains(&(class(draft), draft.seed));
        assert_eq!(*presence, if is_kept { Presence::Stored } else { Presence::Dropped });
    }
    // Who was told that it is stored was stored; who was dropped in the same transaction was told so.
    let told: Vec<_> = outcomes.iter().map(|outcome| matches!(outcome, Committed::Stored { .. })).collect();
    assert!(told.iter().zip(&presence).all(|(told, presence)| *told || *presence == Presence::Dropped));
    assert!(told.iter().any(|told| !told));
    assert_eq!(fixture.store.tables().await.unwrap()[0].entries, 300);
}

#[tokio::test]
async fn a_lowered_limit_is_enforced_by_the_sweep() {
    let mut fixture = Fixture::new(StoreOptions::default());
    let drafts: Vec<_> = (0..1200).map(|seed| Draft { seed, length: 30_000, ..Draft::default() }).collect();
    for part in drafts.chunks(200) {
        stored(&fixture.store, part).await;
    }
    fixture.options.max_disk = Some(32 * MIB);
    fixture.reopen().await;
    let swept = fixture.store.sweep().await.unwrap();
    assert!(
        swept.evicted > 200 && swept == Swept { evicted: swept.evicted, ..Swept::default() },
        "{swept:?}"
    );
    let report = verified(&fixture.store).await;
    assert_eq!((report.entries, report.dropped), (1200 - swept.evicted, swept.evicted));
    let charged = fixture.store.stats().await.unwrap().charged_bytes;
    assert!(charged <= charge::budget(32 * MIB), "{charged}");
    assert!(charged > charge::budget(32 * MIB) * 9 / 10, "{charged}: more than needed went");
}

#[tokio::test]
async fn a_lowered_limit_does_not_make_room_for_ids_that_are_not_kept() {
    let mut fixture = Fixture::new(StoreOptions::default());
    for part in 0..40 {
        fixture.store.commit(series(part * 1000, 1000)).await.unwrap();
    }
    fixture.options.max_disk = Some(32 * MIB);
    fixture.reopen().await;
    let swept = fixture.store.sweep().await.unwrap();
    assert!(swept.forgotten > 0, "{swept:?}: fewer went than may be kept as dropped");
    let charged = fixture.store.stats().await.unwrap().charged_bytes;
    let budget = charge::budget(32 * MIB);
    assert!(charged <= budget && charged > budget * 9 / 10, "{charged} of {budget}");
    verified(&fixture.store).await;
}

#[tokio::test]
async fn what_goes_all_at_once_stays_within_the_limit() {
    const COUNT: u64 = 30_000;
    let limit = 128 * MIB;
    let fixture = Fixture::new(StoreOptions { max_disk: Some(limit), ..StoreOptions::default() });
    for round in 0..3 {
        let now = fixture.clock.now();
        for part in 0..COUNT / 1000 {
            let first = round * COUNT + part * 1000;
            let draft =
                |seed| Draft { seed, created: now, expires: Some(now + 10), length: 16, ..Draft::default() };
            let new = (first..first + 1000).map(|seed| draft(seed).new_entry()).collect();
            fixture.store.commit(new).await.unwrap();
        }
        fixture.store.merge().await.unwrap();
        let filled = fixture.store.stats().await.unwrap();
        fixture.clock.set(now + 20);
        let swept = fixture.store.sweep().await.unwrap();
        assert_eq!(swept.expired, COUNT, "round {round}: {swept:?}");
        let after = fixture.store.stats().await.unwrap();
        assert!(filled.disk_bytes <= limit && after.disk_bytes <= limit, "{filled:?}, {after:?}");
    }
    verified(&fixture.store).await;
}

#[tokio::test]
async fn too_many_dropped_ids_are_forgotten_those_first_that_would_be_forgotten_first() {
    let fixture = Fixture::new(StoreOptions { max_dropped: 10, ..StoreOptions::default() });
    let expiring = |seed| Draft { seed, expires: Some(START + 1 + seed), ..Draft::default() };
    let drafts: Vec<_> = (0..30).map(expiring).collect();
    stored(&fixture.store, &drafts).await;
    fixture.clock.set(START + 40);
    let swept = fixture.store.sweep().await.unwrap();
    assert_eq!(swept, Swept { expired: 30, forgotten: 20, ..Swept::default() });
    assert_eq!(fixture.store.stats().await.unwrap().dropped, 10);
    assert_eq!(presence(&fixture.store, &drafts[..20]).await, [Presence::Unknown; 20]);
    assert_eq!(presence(&fixture.store, &drafts[20..]).await, [Presence::Dropped; 10]);
    assert_eq!(verified(&fixture.store).await.dropped, 10);
}

#[tokio::test]
async fn a_sweep_writes_nothing_while_nothing_is_due() {
    let fixture = Fixture::new(StoreOptions { horizon: Some(30 * DAY), ..StoreOptions::default() });
    stored(&fixture.store, &[Draft { seed: 1, expires: Some(START + 10), ..Draft::default() }]).await;
    fixture.store.merge().await.unwrap();
    stored(&fixture.store, &[Draft { seed: 2, expires: Some(START + 10), ..Draft::default() }]).await;
    let written = |store: &Store| {
        let state = store.core.file.read(|txn| schema::State::read(&txn.open_table(schema::STATE)?)).unwrap();
        (state.change, state.position, store.core.delta.generations().len())
    };
    let before = written(&fixture.store);
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept::default());
    assert_eq!(written(&fixture.store), before);
    fixture.clock.set(START + 10);
    // Both of them, also the one that was not merged.
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept { expired: 2, ..Swept::default() });
    // What is merged alone does not end a generation.
    stored(&fixture.store, &[Draft { seed: 3, created: START + 9 * DAY, ..Draft::default() }]).await;
    fixture.clock.set(START + 10 + 7 * DAY);
    let position = written(&fixture.store).1;
    assert_eq!(fixture.store.sweep().await.unwrap(), Swept { forgotten: 2, ..Swept::default() });
    assert_eq!((written(&fixture.store).1, fixture.store.core.delta.generations().len()), (position, 1));
    verified(&fixture.store).await;
}

#[tokio::test]
async fn what_is_durable_is_answered_as_stored_whatever_becomes_of_the_limit() {
    let limits = [(table(0), charge::LEAST_TABLE_LIMIT)].into();
    let fixture = Fixture::new(StoreOptions { table_limits: limits, ..StoreOptions::default() });
    let heavy = |seed| Draft { seed, length: 200_000 + seed as usize, ..Draft::default() };
    crate::store::fault::arm(&fixture.path(), "merge");
    for seed in 0..20 {
        stored(&fixture.store, &[heavy(seed)]).await;
    }
    crate::store::fault::disarm(&fixture.path());
    assert_eq!(arrivals(&fixture.store).await.len(), 20);
    assert!(fixture.store.sweep().await.unwrap().evicted > 0);
    verified(&fixture.store).await;
}

#[tokio::test]
async fn the_evicted_stay_known_for_a_week_and_can_come_back() {
    let limits = [(table(0), charge::LEAST_TABLE_LIMIT)].into();
    let fixture = Fixture::new(StoreOptions { table_limits: limits, ..StoreOptions::default() });
    let drafts: Vec<_> =
        (0..20).map(|seed| Draft { seed, length: 200_000 + seed as usize, ..Draft::default() }).collect();
    let mut evicted = None;
    for draft in &drafts {
        fixture.store.commit(vec![draft.new_entry()]).await.unwrap();
        evicted = presence(&fixture.store, &drafts).await.iter().position(|p| *p == Presence::Dropped);
        if evicted.is_some() {
            break;
        }
    }
    let evicted = [drafts[evicted.unwrap()].clone()];
    assert_eq!(presence(&fixture.store, &evicted).await, [Presence::Dropped]);
    fixture.clock.set(START + 7 * DAY - 1);
    fixture.store.sweep().await.unwrap();
    assert_eq!(presence(&fixture.store, &evicted).await, [Presence::Dropped]);
    fixture.clock.set(START + 7 * DAY);
    assert!(fixture.store.sweep().await.unwrap().forgotten > 0);
    assert_eq!(presence(&fixture.store, &evicted).await, [Presence::Unknown]);
    verified(&fixture.store).await;
}

#[tokio::test]
async fn a_table_of_which_nothing_is_known_leaves_its_place_and_its_number_is_not_given_again() {
    let mut fixture = Fixture::new(StoreOptions::default());
    let expiring = |table, seed| Draft { table, seed, expires: Some(START + 10), ..Draft::default() };
    stored(
        &fixture.store,
        &[expiring(0, 1), expiring(1, 2), Draft { table: 2, seed: 3, ..Draft::default() }],
    )
    .await;
    let known = async |store: &Store| {
        let tables = store.tables().await.unwrap();
        tables.into_iter().map(|summary| (summary.table, summary.entries)).collect::<Vec<_>>()
    };
    fixture.clock.set(START + 10);
    fixture.store.sweep().await.unwrap();
    assert_eq!(known(&fixture.store).await, [(table(0), 0), (table(1), 0), (table(2), 1)]);
    verified(&fixture.store).await;
    fixture.clock.set(START + 10 + 7 * DAY);
    assert_eq!(fixture.store.sweep().await.unwrap().forgotten, 2);
    assert_eq!(known(&fixture.store).await, [(table(2), 1)]);
    assert_eq!(fixture.store.table_key(table(1)).await.unwrap(), None);
    verified(&fixture.store).await;
    // The last one goes too; numbers go on all the same.
    let id = Draft { table: 2, seed: 3, ..Draft::default() }.entry().id();
    fixture.store.withdraw(table(2), vec![id]).await.unwrap();
    fixture.reopen().await;
    stored(&fixture.store, &[Draft { table: 1, seed: 4, ..Draft::default() }]).await;
    assert_eq!(fixture.store.core.live().number_of(&table(1)), Some(4));
    verified(&fixture.store).await;
}

#[tokio::test]
async fn a_damaged_entry_does_not_keep_the_others_from_being_stored_dropped_and_read() {
    type Spoil = fn(&mut [u8]);
    let spoils: [Option<Spoil>; 3] =
        [Some(|record| record[..40].fill(0xee)), Some(|record| record[81 + 8..].fill(0xff)), None];
    for spoil_it in spoils {
        let limits = [(table(1), charge::LEAST_TABLE_LIMIT)].into();
        let options =
            StoreOptions { table_limits: limits, horizon: Some(30 * DAY), ..StoreOptions::default() };
        let fixture = Fixture::new(options);
        let expiring = |seed| Draft { seed, expires: Some(START + 10), ..Draft::default() };
        let heavy = |seed| Draft { table: 1, seed, length: 200_000 + 10 * seed as usize, ..Draft::default() };
        stored(&fixture.store, &[expiring(1), expiring(2), Draft { seed: 3, ..Draft::default() }]).await;
        stored(&fixture.store, &(4..9).map(heavy).collect::<Vec<_>>()).await;
        fixture.store.merge().await.unwrap();
        for arrival in [1, 3, 4, 5, 6, 7, 8] {
            match spoil_it {
                Some(spoil_it) => spoil(&fixture.store, &fixture.path(), arrival, spoil_it),
                None => {
                    let remove = |txn: &redb::WriteTransaction| {
                        txn.open_table(schema::LOCATIONS)?.remove(arrival)?;
                        Ok(((), true))
                    };
                    fixture.store.core.file.write(remove).unwrap();
                }
            }
        }
        let recipients = vec![recipient(1)];
        let page = fixture.store.get(Filter { recipients, ..everything(&fixture.store) }, None, usize::MAX);
        let found: Vec<_> = page.await.unwrap().entries.into_iter().map(|(arrival, _)| arrival).collect();
        assert_eq!(found, [2], "what is sound is found");
        // All entries of the full table are damaged; it takes new ones all the same.
        for seed in 20..40 {
            fixture.store.commit(vec![heavy(seed).new_entry()]).await.unwrap();
        }
        fixture.clock.set(START + 10);
        assert_eq!(fixture.store.sweep().await.unwrap().expired, 2);
        assert_eq!(presence(&fixture.store, &[expiring(2)]).await, [Presence::Dropped]);
        fixture.clock.set(START + 32 * DAY);
        let swept = fixture.store.sweep().await.unwrap();
        assert!(swept.beyond_horizon > 0, "{swept:?}");
        assert_eq!(fixture.store.sweep().await.unwrap(), Swept::default());
        let fresh = Draft { created: START + 32 * DAY, seed: 50, ..Draft::default() };
        stored(&fixture.store, &[fresh]).await;
        assert_eq!(arrivals(&fixture.store).await.len(), 1);
    }
}

#[test]
fn classes_ascend_with_the_effort_per_byte() {
    use record::class;
    let classes = [class(1000, 1000), class(1124, 1000), class(1125, 1000), class(2000, 1000)];
    assert_eq!(classes, [512, 512, 513, 520]);
    assert_eq!([class(0, 1000), class(1, u32::MAX), class(u64::MAX, 0)], [0, 256, 1023]);
}
