//! Opening a store: its files, what has to be migrated, what the log has behind the mark, and its threads.

use std::{
    collections::btree_map,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, RwLock},
    thread::{self, JoinHandle},
};

use redb::Error;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::{
    Core, READERS, Store, StoreError, WAITING,
    asking::Pace,
    delta::{Delta, Generation},
    file::{Opener, StoreFile, exists, fault},
    index::Scopes,
    live::Live,
    log::{self, Appender, Frame, Item, Log},
    merge,
    migrate::{self, Migrating},
    options::Settings,
    schema::{Position, damaged},
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
        let lock = log::lock(path, &*settings.disk).map_err(|error| fault(path, error.into()))?;
        let lock = lock.ok_or_else(|| StoreError::InUse { path: path.to_owned() })?;
        let (file, store_id, version) = StoreFile::open(path, opener, &settings)?;
        settings.store_id = store_id;
        migrate::check(&file, version, steps)?;
        let log = Log::open(path, lock, &settings).map_err(|error| file.fault(error))?;
        migrate::run(&Migrating { file: &file, log: &log, settings: &settings }, version, steps)?;

        // redb trusts much of what it reads, and a damaged file can make it panic.
        let mut live = catch_unwind(AssertUnwindSafe(|| file.read(Live::load)))
            .unwrap_or_else(|_| Err(file.fault(damaged("a row could not be read"))))?;
        let newest = live.state.last_received;
        if newest > clock.now().saturating_add(86_400) {
            tracing::warn!(
                newest,
                now = clock.now(),
                "the last entry arrived in the future: a clock is or was wrong, and asking for what arrived lately finds \
                 the wrong entries until it has caught up"
            );
        }
        let (generations, (end, is_whole)) =
            replay(&log, &mut live, &settings).map_err(|error| file.fault(error))?;
        let core = Arc::new(Core {
            file,
            log,
            delta: Delta::new(generations),
            live: RwLock::new(live),
            settings,
            clock,
            scopes: Scopes::default(),
            pace: Pace::default(),
            readers: Arc::new(Semaphore::new(READERS)),
            known: Arc::new(Semaphore::new(READERS)),
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
        let log = Appender::resume(&core.log, end, is_whole);
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

/// Takes up what the log has behind the mark; gives the end of the log, and whether its last segment ends there, too.
fn replay(
    log: &Log,
    live: &mut Live,
    settings: &Settings,
) -> Result<(Vec<Generation>, (Position, bool)), Error> {
    let mark = live.state.position;
    let mut generations = Vec::new();
    let mut growing = Generation::new(live.state.next_arrival, mark);
    let end = log.replay(mark, |segment, frame| {
        if growing.is_full(settings.delta_bytes) {
            let next = Generation::new(growing.next(), growing.end);
            live.take_up(&growing, &settings.network);
            generations.push(std::mem::replace(&mut growing, next));
        }
        take_up(live, &mut growing, segment, &frame)
    })?;
    live.take_up(&growing, &settings.network);
    generations.push(growing);
    let entries: usize = generations.iter().map(|generation| generation.entries.len()).sum();
    if entries > 0 {
        tracing::info!(entries, "took up what was not merged into the indexes yet");
    }
    Ok((generations, end))
}

fn take_up(live: &mut Live, growing: &mut Generation, segment: u32, frame: &Frame) -> Result<(), Error> {
    for item in frame.items() {
        match item? {
            Item::Table { number, table, spki } => {
                let spki = bytes::Bytes::copy_from_slice(spki);
                live.add_table(number, table, spki.clone());
                growing.tables.insert(number, (table, spki));
            }
            Item::Dropped => {}
            Item::Entry { facts, offset, .. } => {
                // The generation that it was written to may have begun earlier, with a frame that named the table.
                if let btree_map::Entry::Vacant(unnamed) = growing.tables.entry(facts.table_no) {
                    let table = live.tables.get(&facts.table_no);
                    let table = table
                        .ok_or_else(|| damaged(format!("table number {} is missing", facts.table_no)))?;
                    unnamed.insert((table.id, table.spki.clone()));
                }
                let location = facts.at(segment, u32::try_from(offset).unwrap_or(u32::MAX));
                growing.add_entry(facts, location);
            }
        }
    }
    growing.reach(Position { segment, offset: frame.end() }, frame.end() - frame.offset);
    Ok(())
}
