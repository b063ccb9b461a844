//! Files of older, newer and present versions.

use redb::{ReadableTable, TableDefinition};

use super::*;
use crate::store::migrate::{Migrating, STEPS, Step};

const ADDED: TableDefinition<u64, u64> = TableDefinition::new("added");

/// What a later version could do: fill a new table from the entries.
fn add_lengths(migrating: &Migrating<'_>) -> Result<(), StoreError> {
    migrating.file.write(|txn| {
        let (entries, mut added) = (txn.open_table(schema::LOCATIONS)?, txn.open_table(ADDED)?);
        for row in entries.iter()? {
            let (arrival, row) = row?;
            added.insert(arrival.value(), u64::from(record::Location::from_row(row.value()).length))?;
        }
        Ok(((), true))
    })
}

fn fail(migrating: &Migrating<'_>) -> Result<(), StoreError> {
    migrating.file.write(|txn| {
        txn.open_table(ADDED)?.insert(0, 0)?;
        Err(schema::damaged("this step fails"))
    })
}

/// The steps there are, and these.
fn and(steps: &[Step]) -> Vec<Step> {
    [STEPS, steps].concat()
}

fn open_with(fixture: &Fixture, steps: &[Step]) -> Result<Store, StoreError> {
    let settings = Settings::new(network(), StoreOptions::default()).unwrap();
    let opener = Arc::new(|path: &Path| redb::Builder::new().create(path));
    Store::open_with(&fixture.path(), settings, fixture.clock.clone(), opener, steps)
}

fn added(store: &Store) -> u64 {
    use redb::ReadableTableMetadata;
    store.core.file.read(|txn| Ok(txn.open_table(ADDED)?.len()?)).unwrap()
}

#[tokio::test]
async fn steps_run_once_each_and_an_older_program_refuses_the_result() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 5)).await.unwrap();
    fixture.store.close().await.unwrap();

    let store = open_with(&fixture, &and(&[add_lengths])).unwrap();
    assert_eq!(added(&store), 5);
    store.commit(series(5, 1)).await.unwrap();
    store.close().await.unwrap();
    // Not run again: the entry that came since is not in the new table.
    let store = open_with(&fixture, &and(&[add_lengths])).unwrap();
    assert_eq!(added(&store), 5);
    store.close().await.unwrap();

    let error = open_with(&fixture, STEPS).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { newest: 2, got: 3, .. }), "{error}");
    assert!(error.to_string().contains("run a newer p2pdb"));
    let store = open_with(&fixture, &and(&[add_lengths])).unwrap();
    assert_eq!(verified(&store).await.entries, 6);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_file_as_it_was() {
    let fixture = Fixture::new(StoreOptions::default());
    fixture.store.commit(series(0, 5)).await.unwrap();
    fixture.store.close().await.unwrap();
    assert!(matches!(open_with(&fixture, &and(&[add_lengths, fail])), Err(StoreError::Damaged { .. })));
    // The first step holds, the second is tried again, and no older program takes the file meanwhile.
    assert!(matches!(
        open_with(&fixture, &and(&[add_lengths])),
        Err(StoreError::NewerSchema { newest: 3, got: 4, .. })
    ));
    let store = open_with(&fixture, &and(&[fail, add_lengths])).unwrap();
    assert_eq!(added(&store), 5);
}

/// The file was written by the first version and must open for ever; see the test below for how it was made.
#[tokio::test]
async fn a_file_of_version_1_opens() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    std::fs::write(&path, include_bytes!("v1.redb")).unwrap();
    let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    let report = verified(&store).await;
    assert_eq!((report.entries, report.dropped), (11, 1));
    let expected = Draft { seed: 3, ..Draft::default() };
    let filter = Filter { ids: Vec::new(), recipients: vec![recipient(1)], ..everything(&store) };
    let page = store.get(filter, None, usize::MAX).await.unwrap();
    let bodies: Vec<_> = page
        .entries
        .iter()
        .map(|(_, encoded)| Entry::from_trusted(encoded.clone(), &network()).unwrap().header().body_hash)
        .collect();
    assert!(bodies.contains(&expected.entry().header().body_hash));
}

/// Writes that file: `cargo test --lib write_the_file_of_this_version -- --ignored`, with `STORE_FIXTURE=path`.
#[tokio::test]
#[ignore = "makes the fixture of a new version"]
async fn write_the_file_of_this_version() {
    let fixture = Fixture::new(StoreOptions::default());
    let mut new = series(0, 10);
    new.push(Draft { seed: 10, table: 1, expires: Some(START + 5), ..Draft::default() }.new_entry());
    new.push(Draft { seed: 11, recipients: vec![0, 1, 2], ..Draft::default() }.new_entry());
    fixture.store.commit(new.clone()).await.unwrap();
    fixture.store.drop_for_good(table(0), new[0].entry.id(), DropReason::Retracted).await.unwrap();
    fixture.store.index(table(0), 0).await.unwrap();
    fixture.store.compact().await.unwrap();
    fixture.store.close().await.unwrap();
    std::fs::copy(fixture.path(), std::env::var_os("STORE_FIXTURE").unwrap()).unwrap();
}
