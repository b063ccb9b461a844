//! The file behind a store: opening it, one transaction on it, and getting over a failed one.

use std::{
    fs::{self, File},
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use p2pdb_protocol::id::NetworkId;
use redb::{
    Database, DatabaseError, Error, ReadTransaction, ReadableDatabase, TableHandle, WriteTransaction,
};

use super::{
    error::StoreError,
    fault::point,
    frozen,
    log::{Disk, on_disk, parent},
    options::Settings,
    schema::{self, META, SCHEMA_VERSION, STATE, State, damaged},
};

/// The first bytes of every redb file.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// Opens the database; tests put one on a failing disk.
pub(super) type Opener = Arc<dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync>;

/// The database, replaced as a whole after a failed write, since redb refuses to go on after one.
pub(super) struct StoreFile {
    path: PathBuf,
    opener: Opener,
    slot: RwLock<Slot>,
}

struct Slot {
    database: Option<Database>,
    /// Counts the times the database was opened, so that one failure leads to one reopening.
    generation: u64,
    closed: bool,
    /// Why it can be read only.
    read_only: Option<StoreError>,
}

impl StoreFile {
    /// Opens or creates the file; gives the name of the store and the version of its schema, too.
    pub(super) fn open(
        path: &Path,
        opener: Opener,
        settings: &Settings,
    ) -> Result<(Self, [u8; 8], u32), StoreError> {
        let network = settings.network.id();
        if !exists(path)? {
            create(path, &opener, &*settings.disk, network).map_err(|error| fault(path, error))?;
        }
        let slot = RwLock::new(Slot { database: None, generation: 0, closed: false, read_only: None });
        let file = Self { path: path.to_owned(), opener, slot };
        file.recover(0)?;
        let found = file.read(|txn| {
            if !txn.list_tables()?.any(|table| table.name() == META.name()) {
                return Ok(None);
            }
            let meta = txn.open_table(META)?;
            Ok(Some((fixed(&meta, "schema")?, fixed(&meta, "network")?, fixed(&meta, "store")?)))
        })?;
        let (version, got, store_id) = found.ok_or(StoreError::Foreign { path: path.to_owned() })?;
        let got = NetworkId::from_bytes(got);
        if got != network {
            return Err(StoreError::OtherNetwork { path: file.path, expected: network, got });
        }
        Ok((file, store_id, u32::from_be_bytes(version)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `read` on a snapshot. Keep it short: the space of what is dropped meanwhile cannot be reused.
    pub(super) fn read<T>(
        &self,
        read: impl Fn(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let attempt = |database: &Database| read(&database.begin_read()?);
        match self.with_database(attempt) {
            // A write failed and nobody reopened the file yet: reading does not depend on that write.
            Err((generation, error)) if is_broken(&error) => {
                self.recover(generation)?;
                self.with_database(attempt).map_err(|(_, error)| self.fault(error))
            }
            result => result.map_err(|(_, error)| self.fault(error)),
        }
    }

    /// As [`Self::read`], but fails where that would try once more.
    pub(super) fn read_once<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        self.with_database(|database| read(&database.begin_read()?)).map_err(|(_, error)| self.fault(error))
    }

    /// As [`Self::read_once`], but gives up where that would wait for somebody who opens or closes the file, or fails as long as
    /// nobody does.
    pub(super) fn read_at_once<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, Error>,
    ) -> Option<Result<T, StoreError>> {
        let slot = self.slot.try_read().ok()?;
        match slot.database.as_ref()?.begin_read().map_err(Error::from).and_then(|txn| read(&txn)) {
            Err(error) if is_broken(&error) => None,
            result => Some(result.map_err(|error| self.fault(error))),
        }
    }

    /// Runs `write` in a transaction that is durable when this returns, if `write` says that it changed anything.
    pub(super) fn write<T>(
        &self,
        write: impl FnOnce(&WriteTransaction) -> Result<(T, bool), Error>,
    ) -> Result<T, StoreError> {
        self.thaw()?;
        let attempt = |database: &Database| {
            let mut txn = database.begin_write()?;
            // Entries come from strangers, who can forge redb's checksums: two phases do not rely on them. Quick
            // repair makes opening after a kill independent of the size of the file.
            txn.set_two_phase_commit(true);
            txn.set_quick_repair(true);
            let (value, changed) = write(&txn)?;
            if changed {
                txn.commit()?
            } else {
                txn.abort()?
            }
            Ok(value)
        };
        self.with_database(attempt).map_err(|(generation, error)| {
            if is_broken(&error)
                && let Err(error) = self.recover(generation)
            {
                tracing::error!(
                    error = error.with_causes(),
                    "the store could not be reopened after a failed write"
                );
            }
            self.fault(error)
        })
    }

    /// Makes the file as small as it can be; whether it became smaller.
    ///
    /// It is closed and opened anew after: compacting leaves a file that would have to be repaired after a kill,
    /// closing one that need not be.
    pub(super) fn compact(&self) -> Result<bool, StoreError> {
        self.thaw()?;
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        let mut database = slot.database.take().ok_or(StoreError::Closed)?;
        let generation = slot.generation;
        let smaller = point(&self.path, "compact").map_err(Error::from).and_then(|()| {
            let smaller = database.compact()?;
            point(&self.path, "compacted")?;
            Ok(smaller)
        });
        let closed = database.close();
        drop(slot);
        self.recover(generation)?;
        // If that failed, closing says no more than that something did.
        let smaller = smaller.map_err(|error| self.fault(error))?;
        closed.map_err(|error| self.fault(error.into()))?;
        Ok(smaller)
    }

    /// Closes the file; whatever is asked later fails.
    pub(super) fn close(&self) -> Result<(), StoreError> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        slot.closed = true;
        match slot.database.take() {
            Some(database) if slot.read_only.is_none() => {
                database.close().map_err(|error| self.fault(error.into()))
            }
            // What cannot be written needs no last words.
            _ => Ok(()),
        }
    }

    /// Length of the file, and what it takes on the disk, in bytes.
    pub(super) fn size(&self) -> Result<(u64, u64), StoreError> {
        let metadata = fs::metadata(&self.path).map_err(|error| self.fault(error.into()))?;
        Ok((metadata.len(), on_disk(&metadata)))
    }

    /// Says an error of redb in the words of the store.
    pub(super) fn fault(&self, error: Error) -> StoreError {
        fault(&self.path, error)
    }

    /// Runs `run` and gives the generation that it ran on with its error.
    fn with_database<T>(&self, run: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, (u64, Error)> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        match &slot.database {
            Some(database) => run(database),
            None if slot.closed => Err(Error::DatabaseClosed),
            None => Err(Error::PreviousIo),
        }
        .map_err(|error| (slot.generation, error))
    }

    /// Makes sure that it can be written, as far as is known: a disk that turned read-only may have been mended.
    fn thaw(&self) -> Result<(), StoreError> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = &slot.read_only else { return Ok(()) };
        // Readers have to wait while it is opened anew.
        let probe = fs::OpenOptions::new().write(true).open(&self.path);
        if probe.is_err_and(|error| error.kind() == io::ErrorKind::ReadOnlyFilesystem) {
            return Err(error.clone());
        }
        let generation = slot.generation;
        drop(slot);
        self.recover(generation)?;
        self.slot.read().unwrap_or_else(PoisonError::into_inner).read_only.clone().map_or(Ok(()), Err)
    }

    /// Whether it is open for reading alone. What it says then was seen in memory, and need not be on the disk.
    pub(super) fn is_frozen(&self) -> bool {
        self.slot.read().unwrap_or_else(PoisonError::into_inner).read_only.is_some()
    }

    /// Opens the database anew, unless somebody did since `failed`; for reading alone, if the disk has turned read-only since it
    /// was opened first.
    fn recover(&self, failed: u64) -> Result<(), StoreError> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.closed {
            return Err(StoreError::Closed);
        }
        if slot.generation == failed || slot.database.is_none() {
            slot.database = None;
            slot.generation += 1;
            slot.read_only = None;
            // redb trusts much of what it reads, and a damaged file can make it panic.
            let open = |opener: &dyn Fn(&Path) -> Result<Database, DatabaseError>| {
                catch_unwind(AssertUnwindSafe(|| opener(&self.path)))
                    .unwrap_or_else(|_| {
                        Err(redb::StorageError::Corrupted("its header misleads".into()).into())
                    })
                    .map_err(|error| self.fault(error.into()))
            };
            slot.database = match open(&*self.opener) {
                Err(error) if failed > 0 && is_read_only(&error) => {
                    slot.read_only = Some(error);
                    Some(open(&frozen::open)?)
                }
                opened => Some(opened?),
            };
        }
        Ok(())
    }
}

/// Whether redb answers nothing more until the database is opened anew.
fn is_broken(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::Backend(_) | Error::PreviousIo)
}

fn is_read_only(error: &StoreError) -> bool {
    matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::ReadOnlyFilesystem)
}

pub(super) fn fault(path: &Path, error: Error) -> StoreError {
    let path = path.to_owned();
    match error {
        Error::Io(source) => {
            let source = Arc::new(source);
            match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    StoreError::DiskFull { path, source }
                }
                _ => StoreError::Io { path, source },
            }
        }
        Error::DatabaseAlreadyOpen | Error::LockProtocolMismatch => StoreError::InUse { path },
        Error::DatabaseClosed => StoreError::Closed,
        Error::Corrupted(reason) => StoreError::Damaged { path, reason },
        error @ (Error::TableTypeMismatch { .. }
        | Error::TypeDefinitionChanged { .. }
        | Error::TableDoesNotExist(_)
        | Error::UpgradeRequired(_)) => StoreError::Damaged { path, reason: error.to_string() },
        other => StoreError::Io { path, source: Arc::new(io::Error::other(other)) },
    }
}

/// Whether there is a database already; an error if there is something else.
pub(super) fn exists(path: &Path) -> Result<bool, StoreError> {
    let mut start = Vec::new();
    match File::open(path).and_then(|file| file.take(MAGIC.len() as u64).read_to_end(&mut start)) {
        Ok(_) if start == MAGIC => Ok(true),
        Ok(_) => Err(StoreError::Foreign { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(fault(path, error.into())),
    }
}

/// Makes a new store beside `path` and moves it there when it is whole, so that being killed meanwhile
/// leaves nothing that looks like a damaged store, and who does the same at the same time is not disturbed.
fn create(path: &Path, opener: &Opener, disk: &dyn Disk, network: NetworkId) -> Result<(), Error> {
    let (mut store_id, mut suffix) = ([0; 8], [0; 8]);
    getrandom::fill(&mut store_id).map_err(io::Error::other)?;
    getrandom::fill(&mut suffix).map_err(io::Error::other)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{:016x}.new", u64::from_be_bytes(suffix)));
    let unfinished = PathBuf::from(unfinished);
    let made =
        create_at(&unfinished, opener, network, store_id).and_then(|()| Ok(put_in_place(&unfinished, path)?));
    // Gone already if it was moved.
    let _ = fs::remove_file(&unfinished);
    made?;
    Ok(disk.sync_directory(parent(path))?)
}

fn create_at(path: &Path, opener: &Opener, network: NetworkId, store_id: [u8; 8]) -> Result<(), Error> {
    let database = opener(path)?;
    let txn = database.begin_write()?;
    initialize(&txn, network, store_id)?;
    txn.commit()?;
    Ok(database.close()?)
}

/// Gives the file its name, unless that is taken: then somebody else was faster, and his file is as good.
fn put_in_place(unfinished: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(unfinished, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Not every file system has links.
        Err(_) => fs::rename(unfinished, path),
        Ok(()) => Ok(()),
    }
}

fn fixed<const N: usize>(
    meta: &impl redb::ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<[u8; N], Error> {
    let value = meta.get(name)?.ok_or_else(|| damaged(format!("its {name} is not noted")))?;
    value.value().try_into().map_err(|_| damaged(format!("its {name} is not {N} bytes long")))
}

fn initialize(txn: &WriteTransaction, network: NetworkId, store_id: [u8; 8]) -> Result<(), Error> {
    let mut meta = txn.open_table(META)?;
    meta.insert("schema", SCHEMA_VERSION.to_be_bytes().as_slice())?;
    meta.insert("network", network.as_bytes().as_slice())?;
    meta.insert("store", store_id.as_slice())?;
    txn.open_table(STATE)?.insert((), State::NEW.to_row())?;
    open_tables(txn)
}

/// Makes the tables that there are not yet.
pub(super) fn open_tables(txn: &WriteTransaction) -> Result<(), Error> {
    txn.open_table(schema::TABLES)?;
    txn.open_table(schema::TABLE_NUMBERS)?;
    txn.open_table(schema::TABLE_TOTALS)?;
    txn.open_table(schema::LOCATIONS)?;
    txn.open_table(schema::SEGMENTS)?;
    txn.open_table(schema::BY_ID)?;
    txn.open_table(schema::BY_TABLE)?;
    txn.open_table(schema::BY_RECIPIENT)?;
    txn.open_table(schema::BY_RECEIVED)?;
    txn.open_table(schema::BY_CLASS)?;
    txn.open_table(schema::BY_EPOCH)?;
    txn.open_table(schema::BY_EXPIRY)?;
    txn.open_table(schema::BUCKETS)?;
    txn.open_table(schema::SUMMARIES)?;
    txn.open_table(schema::GROUPS)?;
    txn.open_table(schema::DROPPED)?;
    Ok(())
}
