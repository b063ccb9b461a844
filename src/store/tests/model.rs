//! Whatever is done to a store, in any order: what was committed is there until it is dropped for a reason, and its indexes are
//! its data. `PROPTEST_CASES=10000` tries more.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*, sample::Index};

use super::{query::copy, *};

#[derive(Debug, Clone)]
enum Operation {
    Commit(Vec<Draft>),
    Retract(Index),
    Sweep,
    Merge,
    Compact,
    Verify,
    Reopen,
    Kill,
    /// The clock is set, ahead or back, by so many seconds.
    Clock(i64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let draft = (0usize..3, 0u64..5 * DAY, prop::option::of(1u64..3 * DAY), 100usize..8000);
    let draft = draft.prop_map(|(table, created, expires, length)| Draft {
        table,
        created: START - created,
        expires: expires.map(|expires| START + expires),
        length,
        ..Draft::default()
    });
    prop_oneof![
        6 => vec(draft, 1..20).prop_map(Operation::Commit),
        2 => any::<Index>().prop_map(Operation::Retract),
        2 => Just(Operation::Sweep),
        2 => Just(Operation::Merge),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Verify),
        1 => Just(Operation::Reopen),
        2 => Just(Operation::Kill),
        2 => (-2 * DAY as i64..2 * DAY as i64).prop_map(Operation::Clock),
    ]
}

/// A store that merges and begins segments all the time.
fn open_tight(path: &Path, clock: &Clock) -> Store {
    let mut settings = Settings::new(network(), StoreOptions::default()).unwrap();
    (settings.delta_bytes, settings.segment_bytes) = (60 << 10, 90 << 10);
    let opener = |path: &Path| redb::Builder::new().create(path);
    Store::open_with(path, settings, clock.clone(), Arc::new(opener), crate::store::migrate::STEPS).unwrap()
}

async fn check(operations: Vec<Operation>) {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let (mut path, mut latest) = (directory.path().join("store"), START);
    let mut store = open_tight(&path, &clock);
    let (mut committed, mut retracted) = (Vec::<(Draft, Entry)>::new(), BTreeSet::new());
    for (number, operation) in operations.into_iter().enumerate() {
        match operation {
            Operation::Commit(drafts) => {
                let mut new = Vec::new();
                for draft in drafts {
                    let draft = Draft { seed: committed.len() as u64, ..draft };
                    new.push(draft.new_entry());
                    committed.push((draft.clone(), draft.entry()));
                }
                store.commit(new).await.unwrap();
            }
            Operation::Retract(_) if committed.is_empty() => {}
            Operation::Retract(index) => {
                let (draft, entry) = index.get(&committed);
                store.withdraw(table(draft.table), vec![entry.id()]).await.unwrap();
                retracted.insert(entry.id());
            }
            Operation::Sweep => drop(store.sweep().await.unwrap()),
            Operation::Merge => store.merge().await.unwrap(),
            Operation::Compact => drop(store.compact().await.unwrap()),
            Operation::Verify => drop(verified(&store).await),
            Operation::Reopen => {
                store.close().await.unwrap();
                store = open_tight(&path, &clock);
            }
            Operation::Kill => {
                // A copy of the open files is what a kill leaves.
                let killed = path.with_extension(number.to_string());
                copy(&path, &killed);
                store.close().await.unwrap();
                path = killed;
                store = open_tight(&path, &clock);
            }
            Operation::Clock(seconds) => {
                clock.set(clock.now().saturating_add_signed(seconds));
                latest = latest.max(clock.now());
            }
        }
    }
    verified(&store).await;
    let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
    for (draft, entry) in &committed {
        let known = store.known(table(draft.table), vec![entry.id()]).await.unwrap()[0];
        if retracted.contains(&entry.id()) {
            assert_ne!(known, Presence::Stored);
            continue;
        }
        // Only what expired by some clock may be gone; the memory of it may be, too, once that is a week ago.
        assert!(
            known == Presence::Stored || draft.expires.is_some_and(|expires| expires <= latest),
            "{draft:?}"
        );
        if known == Presence::Stored {
            *counts.entry(draft.table).or_default() += 1;
            let alive = draft.expires.is_none_or(|expires| expires > clock.now());
            let page = store.get(Filter::ids(vec![entry.id()]), None, usize::MAX).await.unwrap();
            let found = page.entries.first().map(|(_, encoded)| encoded);
            assert!(found == Some(entry.encoded()) || !alive, "{draft:?}");
        }
    }
    for (number, count) in counts {
        let index = store.index(table(number), 0).await.unwrap();
        assert_eq!(index.buckets.iter().map(|bucket| bucket.count).sum::<u64>(), count, "table {number}");
    }
    store.close().await.unwrap();
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_is_there_until_it_is_dropped_for_a_reason(operations in vec(operation(), 1..40)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check(operations));
    }
}
