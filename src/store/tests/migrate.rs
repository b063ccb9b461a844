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
    assert_is_the_fixture(&path, 11).await;
}

/// As above; the log has what is not merged, as a kill leaves it.
#[tokio::test]
async fn files_of_version_2_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/tests/v2");
    std::fs::copy(files.join("store"), &path).unwrap();
    let log = log::directory_of(&path);
    std::fs::create_dir(&log).unwrap();
    std::fs::copy(files.join("0000000001.seg"), log.join("0000000001.seg")).unwrap();
    assert_is_the_fixture(&path, 13).await;
}

async fn assert_is_the_fixture(path: &Path, entries: u64) {
    let store = open(path, StoreOptions::default(), &Clock::manual(START)).unwrap();
    let report = verified(&store).await;
    assert_eq!((report.entries, report.dropped), (entries, 1));
    let filter = Filter { ids: Vec::new(), recipients: vec![recipient(1)], ..everything(&store) };
    let page = store.get(filter, None, usize::MAX).await.unwrap();
    let found: Vec<_> = page.entries.iter().map(|(_, encoded)| encoded.clone()).collect();
    let expected = Draft { seed: 3, ..Draft::default() }.entry();
    assert!(found.contains(expected.encoded()));
}

#[tokio::test]
async fn an_entry_of_version_1_that_cannot_be_read_is_unknown_and_can_be_stored_again() {
    const ENTRIES: TableDefinition<u64, &[u8]> = TableDefinition::new("entries");
    let spoils: [fn(&mut Vec<u8>); 3] = [
        |row| row.truncate(20),
        |row| {
            let body = row.len() - 256 - 8 - 10;
            row[body] ^= 1;
        },
        // The key for a recipient: another entry as good as this, but for its signature.
        |row| {
            let wrapped = row.windows(8).position(|bytes| bytes == [7; 8]).unwrap();
            row[wrapped] ^= 1;
        },
    ];
    for spoil in spoils {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        std::fs::write(&path, include_bytes!("v1.redb")).unwrap();
        let database = redb::Database::create(&path).unwrap();
        let txn = database.begin_write().unwrap();
        let lost = {
            let mut entries = txn.open_table(ENTRIES).unwrap();
            // The one that expires.
            let arrival = entries.iter().unwrap().rev().nth(1).unwrap().unwrap().0.value();
            let row = entries.get(arrival).unwrap().unwrap().value().to_vec();
            let mut spoilt = row.clone();
            spoil(&mut spoilt);
            entries.insert(arrival, spoilt.as_slice()).unwrap();
            Entry::from_trusted(Bytes::copy_from_slice(&row[60..]), &network()).unwrap()
        };
        txn.commit().unwrap();
        database.close().unwrap();
        assert!(lost.header().expires.is_some());

        let store = open(&path, StoreOptions::default(), &Clock::manual(START)).unwrap();
        let (table, id) = (lost.header().table, lost.id());
        assert_eq!(verified(&store).await.entries, 10);
        assert_eq!(store.known(table, vec![id]).await.unwrap(), [Presence::Unknown]);
        let outcomes = store.commit(vec![NewEntry { entry: lost, key: key(1) }]).await.unwrap();
        assert!(matches!(outcomes[0], Committed::Stored { .. }), "{outcomes:?}");
        assert_eq!(store.known(table, vec![id]).await.unwrap(), [Presence::Stored]);
        assert_eq!(verified(&store).await.entries, 11);
    }
}

/// Writes those files into the directory `STORE_FIXTURE`:
/// `cargo test --lib write_the_files_of_this_version -- --ignored`.
#[tokio::test]
#[ignore = "makes the fixture of a new version"]
async fn write_the_files_of_this_version() {
    let fixture = Fixture::new(StoreOptions::default());
    let mut new = series(0, 10);
    new.push(Draft { seed: 10, table: 1, expires: Some(START + 5), ..Draft::default() }.new_entry());
    new.push(Draft { seed: 11, recipients: vec![0, 1, 2], ..Draft::default() }.new_entry());
    fixture.store.commit(new.clone()).await.unwrap();
    fixture.store.withdraw(table(0), vec![new[0].entry.id()]).await.unwrap();
    fixture.store.index(table(0), 0).await.unwrap();
    fixture.store.compact().await.unwrap();
    // Not merged: what lies behind the mark is a part of the format, too.
    fixture.store.commit(series(20, 2)).await.unwrap();
    let to = std::path::PathBuf::from(std::env::var_os("STORE_FIXTURE").unwrap());
    std::fs::create_dir_all(&to).unwrap();
    std::fs::copy(fixture.path(), to.join("store")).unwrap();
    for segment in std::fs::read_dir(log::directory_of(&fixture.path())).unwrap() {
        let segment = segment.unwrap();
        if segment.file_name() != "lock" {
            std::fs::copy(segment.path(), to.join(segment.file_name())).unwrap();
        }
    }
}
