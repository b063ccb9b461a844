//! Opening a store: its files, what has to be migrated, what the log has behind the mark, and its threads.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, RwLock},
    thread::{self, JoinHandle},
};

use p2pdb_protocol::{
    network::Network,
    reconcile::sketch::{Element, Summary},
};
use redb::{Error, ReadTransaction};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Core, READERS, Store, StoreError, WAITING,
    delta::{Delta, Dropping, Generation},
    file::{Opener, StoreFile, exists, fault},
    index::Scopes,
    live::Live,
    log::{self, Appender, Frame, Item, Log},
    merge,
    migrate::{self, Migrating},
    options::Settings,
    record::Location,
    schema::{self, Place, Position},
    writer::{self, Writer},
};
use crate::clock::Clock;

impl Store {
    pub(super) fn open_with(
        path: &Path,
        mut settings: Settings,
        clock: Clock,
        opener: Opener,
        steps: &[migrate::Step],
    ) -> Result<Self, StoreError> {
        // What is something else gets no log beside it.
        exists(path)?;
        let lock = log::lock(path).map_err(|error| fault(path, error.into()))?;
        let lock = lock.ok_or_else(|| StoreError::InUse { path: path.to_owned() })?;
        let (file, store_id, version) = StoreFile::open(path, opener, settings.network.id())?;
        settings.store_id = store_id;
        migrate::check(&file, version, steps)?;
        let log =
            Log::open(path, lock, store_id, settings.segment_bytes).map_err(|error| file.fault(error))?;
        migrate::run(&Migrating { file: &file, log: &log, settings: &settings }, version, steps)?;

        // redb trusts much of what it reads, and a damaged file can make it panic.
        let mut live = catch_unwind(AssertUnwindSafe(|| file.read(Live::load)))
            .unwrap_or_else(|_| Err(file.fault(schema::damaged("a row could not be read"))))?;
        let newest = live.state.last_received;
        if newest > clock.now().saturating_add(86_400) {
            tracing::warn!(
                newest,
                now = clock.now(),
                "the last entry arrived in the future: a clock is or was wrong, and asking for what arrived lately finds \
                 the wrong entries until it has caught up"
            );
        }
        let (generations, end) = file.read_once(|txn| replay(txn, &log, &mut live, &settings))?;
        let core = Arc::new(Core {
            file,
            log,
            delta: Delta::new(generations),
            live: RwLock::new(live),
            settings,
            clock,
            scopes: Scopes::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            long: Arc::new(Semaphore::new(1)),
            waiting: Semaphore::new(WAITING),
            verifying: Arc::new(Semaphore::new(1)),
        });
        merge::delete_dead(&core)?;
        let (requests, queue) = mpsc::channel(writer::QUEUE);
        let (jobs, work) = mpsc::channel(merge::JOBS);
        // Many may wait already. Nobody waits for the answer.
        let _ = jobs.try_send(merge::Job::Merge(oneshot::channel().0));
        let merging = Arc::clone(&core);
        let merger = spawn(&core, "store-merger", move || merge::run(&merging, work))?;
        let log = Appender::resume(&core.log, end);
        let writer = Writer { core: Arc::clone(&core), log, jobs, merging: None, merger };
        spawn(&core, "store-writer", move || writer.run(queue))?;
        Ok(Self { core, requests })
    }
}

fn spawn(
    core: &Core,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StoreError> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map_err(|error| core.file.fault(error.into()))
}

/// Takes up what the log has behind the mark; gives the end of the log, too.
fn replay(
    txn: &ReadTransaction,
    log: &Log,
    live: &mut Live,
    settings: &Settings,
) -> Result<(Vec<Generation>, Position), Error> {
    let mark = live.state.position;
    let mut generations = vec![Generation::new(live.state.next_arrival, mark)];
    let end = log.replay(mark, |segment, frame| {
        if let Some(last) = generations.last().filter(|last| last.is_full(settings.delta_bytes)) {
            let next = Generation::new(last.next(), last.end);
            generations.push(next);
        }
        take_up(txn, live, &settings.network, &mut generations, segment, &frame)
    })?;
    if generations.iter().any(|generation| !generation.is_empty()) {
        let entries: usize = generations.iter().map(|generation| generation.entries.len()).sum();
        tracing::info!(entries, "took up what was not merged into the indexes yet");
    }
    Ok((generations, end))
}

fn take_up(
    txn: &ReadTransaction,
    live: &mut Live,
    network: &Network,
    generations: &mut [Generation],
    segment: u32,
    frame: &Frame,
) -> Result<(), Error> {
    for item in frame.items() {
        let dropping = match item? {
            Item::Table { number, table, spki } => {
                let spki = bytes::Bytes::copy_from_slice(spki);
                live.add_table(number, table, spki.clone());
                if let Some(last) = generations.last_mut() {
                    last.tables.insert(number, (table, spki));
                }
                continue;
            }
            Item::Entry { facts, offset, .. } => {
                let location = facts.at(segment, u32::try_from(offset).unwrap_or(u32::MAX));
                live.stored(&facts, &location);
                let mut id = Summary::default();
                id.insert(&Element::of(&facts.id));
                live.came(facts.cell(network), &id);
                if let Some(last) = generations.last_mut() {
                    last.add_entry(facts, location);
                }
                continue;
            }
            Item::Dropped { table_no, id, reason } => Dropping { table_no, id, reason, at: frame.received() },
        };
        let entry = location(txn, generations, &dropping)?;
        let entry = entry.map(|(location, created)| (location, network.epoch(created)));
        live.dropped(dropping.table_no, &dropping.id, entry);
        if let Some(last) = generations.last_mut() {
            last.add_drop(dropping);
        }
    }
    if let Some(last) = generations.last_mut() {
        last.reach(Position { segment, offset: frame.end() }, frame.end() - frame.offset);
    }
    Ok(())
}

/// Where the entry is that is dropped, if it was stored.
fn location(
    txn: &ReadTransaction,
    generations: &[Generation],
    Dropping { table_no, id, .. }: &Dropping,
) -> Result<Option<(Location, u64)>, Error> {
    let fresh = generations.iter().rev().find_map(|generation| generation.place(*table_no, *id));
    let place = match fresh {
        None => schema::place(&txn.open_table(schema::BY_ID)?, *table_no, id)?,
        fresh => fresh,
    };
    let Some(Place::Stored { arrival, created }) = place else { return Ok(None) };
    if let Some((_, location)) = generations.iter().find_map(|generation| generation.entry(arrival)) {
        return Ok(Some((*location, created)));
    }
    let row = txn.open_table(schema::LOCATIONS)?.get(arrival)?;
    Ok(row.map(|row| (Location::from_row(row.value()), created)))
}
