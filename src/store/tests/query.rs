//! get against a model that looks at every entry.

use std::time::Duration;

use p2pdb_protocol::{bucket::bucket_of, filter::Cursor, keys::PublicKey};
use proptest::{collection::vec, option, prelude::*, sample::subsequence};

use super::*;
use crate::{
    clock::monotonic,
    store::{
        asking::Watch,
        query::{self, Bounds, Reach},
        view::View,
    },
};

struct Model {
    arrival: u64,
    received: u64,
    entry: Entry,
}

impl Model {
    fn matches(&self, filter: &Filter, allowed: Option<&BTreeSet<TableId>>, now: u64) -> bool {
        let header = self.entry.header();
        let listed = |list: &[EntryId]| list.is_empty() || list.contains(&self.entry.id());
        listed(&filter.ids)
            && (filter.tables.is_empty() || filter.tables.contains(&header.table))
            && allowed.is_none_or(|allowed| allowed.contains(&header.table))
            && (filter.recipients.is_empty()
                || header.recipients.iter().any(|key| filter.recipients.contains(&key.recipient)))
            && filter.bucket.is_none_or(|bucket| bucket == bucket_of(&self.entry.id(), network().bucket_bits))
            && filter.seconds_since.is_none_or(|seconds| self.received + seconds >= now)
            && filter.created_from.is_none_or(|from| header.created >= from)
            && filter.created_until.is_none_or(|until| header.created < until)
    }
}

/// What happens to the store before a batch.
#[derive(Debug, Clone, Copy)]
enum Event {
    Nothing,
    Merge,
    Reopen,
    Kill,
}

/// Batches of (table, created, recipients, length), how many seconds pass before each, and what else.
fn population() -> impl Strategy<Value = Vec<(u64, Event, Vec<Draft>)>> {
    let draft = (0usize..3, 0u64..1000, subsequence(vec![0u8, 1, 2, 5], 1..=4), 100usize..2000).prop_map(
        |(table, created, recipients, length)| Draft {
            table,
            created: START + created,
            recipients,
            length,
            ..Draft::default()
        },
    );
    let event = prop_oneof![Just(Event::Nothing), Just(Event::Merge), Just(Event::Reopen), Just(Event::Kill)];
    vec((0u64..300, event, vec(draft, 0..25)), 1..6)
}

#[derive(Debug, Clone)]
struct Ask {
    /// Indices of entries, and whether an unknown id is asked for, too.
    ids: Option<(Vec<prop::sample::Index>, bool)>,
    tables: Vec<usize>,
    recipients: Vec<u8>,
    bucket: Option<u16>,
    seconds_since: Option<u64>,
    created_from: Option<u64>,
    created_until: Option<u64>,
    /// A cursor of this store or of another one.
    cursor: Option<(bool, u64)>,
    limit: usize,
    allowed: Option<Vec<usize>>,
    most_bytes: usize,
}

fn ask() -> impl Strategy<Value = Ask> {
    let conditions = (
        option::of((vec(any::<prop::sample::Index>(), 0..12), any::<bool>())),
        option::of(subsequence(vec![0usize, 1, 2], 1..=3)),
        option::of(subsequence(vec![0u8, 1, 2, 9], 1..=3)),
        option::of(0u16..8),
        option::of(0u64..1500),
        option::of(START..START + 1000),
        option::of(START..START + 1000),
        option::of((any::<bool>(), 0u64..130)),
    );
    let rest = (1usize..30, option::of(subsequence(vec![0usize, 1, 2], 0..=3)), 1usize..40_000);
    (conditions, rest).prop_map(|(conditions, (limit, allowed, most_bytes))| {
        let (ids, tables, recipients, bucket, seconds_since, created_from, created_until, cursor) =
            conditions;
        Ask {
            ids,
            tables: tables.unwrap_or_default(),
            recipients: recipients.unwrap_or_default(),
            bucket,
            seconds_since,
            created_from,
            created_until,
            cursor,
            limit,
            allowed,
            most_bytes,
        }
    })
}

fn filter(ask: &Ask, models: &[Model], store: [u8; 8]) -> Filter {
    let ids = ask.ids.as_ref().map_or(Vec::new(), |(indices, unknown)| {
        let known = indices.iter().filter(|_| !models.is_empty()).map(|index| index.get(models).entry.id());
        known.chain(unknown.then_some(EntryId::from_bytes([5; 32]))).collect()
    });
    let cursor = ask.cursor.map(|(own, arrival)| Cursor { store: if own { store } else { [0; 8] }, arrival });
    Filter {
        ids,
        tables: ask.tables.iter().map(|number| table(*number)).collect(),
        recipients: ask.recipients.iter().map(|number| recipient(*number)).collect(),
        bucket: ask.bucket,
        seconds_since: ask.seconds_since,
        created_from: ask.created_from,
        created_until: ask.created_until,
        cursor,
        limit: ask.limit,
    }
}

async fn check(
    batches: Vec<(u64, Event, Vec<Draft>)>,
    dropped: Vec<prop::sample::Index>,
    asks: Vec<Ask>,
    bounds: Bounds,
) {
    let directory = tempfile::tempdir().unwrap();
    let clock = Clock::manual(START);
    let mut path = directory.path().join("store");
    let mut store = open_bounded(&path, &clock, bounds);
    let mut models: Vec<Model> = Vec::new();
    let mut seed = 0;
    for (number, (seconds, event, drafts)) in batches.into_iter().enumerate() {
        clock.set(clock.now() + seconds);
        match event {
            Event::Nothing => {}
            Event::Merge => store.merge().await.unwrap(),
            Event::Reopen => {
                store.close().await.unwrap();
                store = open_bounded(&path, &clock, bounds);
            }
            Event::Kill => {
                // A copy of the open files is what a kill leaves.
                let killed = path.with_extension(number.to_string());
                copy(&path, &killed);
                store.close().await.unwrap();
                path = killed;
                store = open_bounded(&path, &clock, bounds);
            }
        }
        let mut new = Vec::new();
        for draft in drafts {
            seed += 1;
            let draft = Draft { seed, ..draft };
            models.push(Model { arrival: seed, received: clock.now(), entry: draft.entry() });
            new.push(draft.new_entry());
        }
        store.commit(new).await.unwrap();
    }
    if !models.is_empty() {
        for index in dropped {
            let entry = &index.get(&models).entry;
            store.withdraw(entry.header().table, vec![entry.id()]).await.unwrap();
        }
    }
    let mut gone = BTreeSet::new();
    for model in &models {
        let presence = store.known(model.entry.header().table, vec![model.entry.id()]).await.unwrap();
        if presence == [Presence::Dropped] {
            gone.insert(model.arrival);
        }
    }
    for ask in asks {
        let mut filter = filter(&ask, &models, store.id());
        let allowed: Option<BTreeSet<_>> =
            ask.allowed.as_ref().map(|allowed| allowed.iter().map(|n| table(*n)).collect());
        let after = filter.cursor.map_or(0, |c| if c.store == store.id() { c.arrival } else { 0 });
        let expected: Vec<_> = models
            .iter()
            .filter(|model| model.arrival > after && !gone.contains(&model.arrival))
            .filter(|model| model.matches(&filter, allowed.as_ref(), clock.now()))
            .map(|model| (model.arrival, model.entry.encoded().clone()))
            .collect();
        let allowed = allowed.map(Arc::new);
        let mut found = Vec::new();
        loop {
            let page = store.get(filter.clone(), allowed.clone(), ask.most_bytes).await.unwrap();
            let again = async |reach| {
                let (filter, allowed, most) = (filter.clone(), allowed.clone(), ask.most_bytes);
                let read = move |view: &View<'_>| {
                    query::get(view, &filter, allowed.as_deref(), view.core.clock.now(), most, reach)
                };
                store.look(read).await.unwrap()
            };
            assert_eq!(again(Reach::Whole).await.as_ref(), Some(&page));
            let never_slow = Watch { began: monotonic() + Duration::from_secs(3600), waits: None };
            if let Some(short) = again(Reach::Short(never_slow)).await {
                assert_eq!(short, page);
            }
            let slow = Watch { began: monotonic().checked_sub(Duration::from_secs(1)).unwrap(), waits: None };
            // Where there is no candidate there is nothing to wait for.
            assert_eq!(again(Reach::Short(slow)).await.filter(|short| !short.entries.is_empty()), None);
            let bytes: usize = page.entries.iter().map(|(_, encoded)| encoded.len()).sum();
            assert!(page.entries.len() <= ask.limit && (bytes <= ask.most_bytes || page.entries.len() == 1));
            let tables: BTreeSet<_> = page
                .entries
                .iter()
                .map(|(_, encoded)| Entry::from_trusted(encoded.clone(), &network()).unwrap().header().table)
                .collect();
            let keys: Vec<_> =
                page.keys.iter().map(|spki| PublicKey::from_der(spki).unwrap().table_id()).collect();
            assert_eq!(keys.len(), tables.len(), "every key once");
            assert_eq!(keys.into_iter().collect::<BTreeSet<_>>(), tables);
            found.extend(page.entries);
            let before = filter
                .cursor
                .replace(page.next)
                .map_or(0, |cursor| if cursor.store == store.id() { cursor.arrival } else { 0 });
            if !page.more {
                assert_eq!(page.next.arrival, seed, "behind everything looked at");
                break;
            }
            assert!(page.next.arrival > before, "every page gets further");
        }
        assert_eq!(found, expected, "{ask:?}");
    }
}

/// Copies a store as it is on the disk at this moment.
pub(super) fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
    let (from, to) = (log::directory_of(from), log::directory_of(to));
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_filter_alone_and_combined_finds_what_the_model_finds(
        batches in population(),
        dropped in vec(any::<prop::sample::Index>(), 0..6),
        asks in vec(ask(), 40),
        tight in any::<bool>(),
        rows in 1usize..20,
        sorted in 0u64..10,
        // Enough for every id in every table: of more, some are not found.
        lookups in 39usize..60,
    ) {
        let bounds = if tight {
            Bounds { rows, bytes: 8000, lookups, sorted, ..Bounds::default() }
        } else {
            Bounds::default()
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(batches, dropped, asks, bounds));
    }
}

#[tokio::test]
async fn a_reader_that_continues_at_next_misses_nothing() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 10)).await.unwrap();
    let mut filter = Filter { recipients: vec![recipient(2)], cursor: None, ..everything(&fixture.store) };
    let page = fixture.store.get(filter.clone(), None, usize::MAX).await.unwrap();
    assert!(page.entries.is_empty() && !page.more);
    assert_eq!(page.next.arrival, 10);
    let draft = Draft { seed: 99, recipients: vec![2, 5], ..Draft::default() };
    fixture.store.commit(vec![draft.new_entry()]).await.unwrap();
    filter.cursor = Some(page.next);
    let page = fixture.store.get(filter, None, usize::MAX).await.unwrap();
    assert_eq!(page.entries, [(11, draft.entry().encoded().clone())]);
}

#[tokio::test]
async fn arrival_times_never_descend_when_the_clock_is_set_back() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 2)).await.unwrap();
    fixture.clock.set(START - 500);
    fixture.store.commit(series(2, 2)).await.unwrap();
    fixture.clock.set(START + 10);
    fixture.store.commit(series(4, 2)).await.unwrap();
    for (seconds, expected) in [(5, vec![5, 6]), (10, vec![1, 2, 3, 4, 5, 6])] {
        let filter = Filter { seconds_since: Some(seconds), cursor: None, ..everything(&fixture.store) };
        let page = fixture.store.get(filter, None, usize::MAX).await.unwrap();
        assert_eq!(page.entries.into_iter().map(|(arrival, _)| arrival).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test]
async fn ids_are_looked_up_and_never_searched_for() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds { rows: 4, lookups: 4, ..Bounds::default() };
    let store = open_bounded(&directory.path().join("store"), &Clock::manual(START), bounds);
    let mut new = series(0, 30);
    new.push(Draft { table: 1, seed: 30, ..Draft::default() }.new_entry());
    store.commit(new.clone()).await.unwrap();
    let mut ids: Vec<_> = new[20..].iter().map(|new| new.entry.id()).collect();
    ids.sort_unstable();
    let found = async |filter: Filter| {
        let page = store.get(filter, None, usize::MAX).await.unwrap();
        assert!(!page.more, "it was not searched for");
        let id = |(_, encoded): (u64, Bytes)| Entry::from_trusted(encoded, &network()).unwrap().id();
        page.entries.into_iter().map(id).collect::<BTreeSet<_>>()
    };
    // Two ids in two tables; of more ids, two.
    for asked in [1, 2, 3, 11] {
        let filter = Filter { limit: 1000, ..Filter::ids(ids[..asked].to_vec()) };
        assert_eq!(found(filter).await, ids[..asked.min(2)].iter().copied().collect());
    }
    // Four with their table.
    let ids: Vec<_> = new[20..24].iter().map(|new| new.entry.id()).collect();
    let filter = Filter::ids(ids.clone()).with_table(table(0));
    let page = store.get(filter, None, usize::MAX).await.unwrap();
    assert_eq!(page.entries.iter().map(|(arrival, _)| *arrival).collect::<Vec<_>>(), [21, 22, 23, 24]);
}

#[tokio::test]
async fn an_entry_is_not_hashed_again_to_be_found_or_dropped() {
    let fixture = Fixture::new(StoreOptions::default());
    let new = series(0, 3);
    fixture.store.commit(new.clone()).await.unwrap();
    let id = new[1].entry.id();
    fixture.store.merge().await.unwrap();
    // With another body the entry has another id; only a verification computes it.
    spoil(&fixture.store, &fixture.path(), 2, |record| {
        let body = record.len() - 256 - 8 - 10;
        record[body] ^= 1;
    });
    let bucket = Some(bucket_of(&id, network().bucket_bits));
    let filter = Filter { bucket, recipients: vec![recipient(1)], ..Filter::ids(vec![id]) };
    let page = fixture.store.get(filter, None, usize::MAX).await.unwrap();
    assert_eq!(page.entries.iter().map(|(arrival, _)| *arrival).collect::<Vec<_>>(), [2]);
    assert!(fixture.store.verify(|_| {}).await.unwrap().problems > 0);
    fixture.store.withdraw(table(0), vec![id]).await.unwrap();
    // The frame has it still.
    let report = fixture.store.verify(|_| {}).await.unwrap();
    assert_eq!((report.entries, report.problems), (2, 1), "{report:?}");
}
