//! The one writer: a thread that takes whatever is queued into one frame of the log and answers when it is durable.

mod intake;

use std::{sync::Arc, thread::JoinHandle};

use p2pdb_protocol::id::{EntryId, TableId};
use tokio::sync::{mpsc, oneshot};

pub use self::intake::{Committed, NewEntry};
use super::{
    Core, StoreError,
    index::FreshDigest,
    log::Appender,
    merge::{Job, guarded},
    retention::{EVICTED, Swept},
};

/// Requests that wait for the writer, at most; who has another one waits before it is taken.
pub(super) const QUEUE: usize = 256;
/// Entries of one frame, unless a single request has more.
const GROUP_ENTRIES: usize = 4096;

/// Where the answer to a request goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer can be asked for.
pub(super) enum Request {
    Commit(Vec<NewEntry>, Answer<Vec<Committed>>),
    /// Merge all that was committed before.
    Merge(Answer<()>),
    Digests(Vec<FreshDigest>),
    Sweep(Answer<Swept>),
    Withdraw(TableId, Vec<EntryId>, Answer<()>),
    Compact(Answer<bool>),
    Close(Answer<()>),
}

/// The requests that share one frame.
#[derive(Default)]
struct Group {
    commits: Vec<(Vec<NewEntry>, Answer<Vec<Committed>>)>,
    entries: usize,
    bytes: usize,
}

/// What the writer works with.
pub(super) struct Writer {
    pub(super) core: Arc<Core>,
    pub(super) log: Appender,
    pub(super) jobs: mpsc::Sender<Job>,
    /// Tells when the generation that was full last is merged.
    pub(super) merging: Option<oneshot::Receiver<Result<(), StoreError>>>,
    pub(super) merger: JoinHandle<()>,
}

impl Writer {
    /// Serves requests until the store is closed or its last handle is gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut group = Group::default();
            let mut next = Some(first);
            let mut alone = None;
            while let Some(request) = next {
                alone = group.add(request);
                let is_full = group.entries >= GROUP_ENTRIES || group.bytes >= self.core.settings.batch_bytes;
                if alone.is_some() || is_full {
                    break;
                }
                next = requests.try_recv().ok();
            }
            self.commit(group);
            match alone {
                Some(Request::Merge(answer)) => self.ask(Job::Merge(answer)),
                Some(Request::Sweep(answer)) => {
                    if self.core.is_due_in_delta() {
                        self.core.delta.freeze();
                    }
                    let _ = self.jobs.blocking_send(Job::Sweep(answer));
                }
                Some(Request::Withdraw(table, ids, answer)) => self.ask(Job::Withdraw(table, ids, answer)),
                Some(Request::Compact(answer)) => self.ask(Job::Compact(answer)),
                // If the merger is busy, the next one who asks computes them again.
                Some(Request::Digests(digests)) => drop(self.jobs.try_send(Job::Digests(digests))),
                Some(Request::Close(answer)) => {
                    requests.close();
                    return self.close(answer);
                }
                _ => {}
            }
        }
    }

    fn commit(&mut self, group: Group) {
        let core = Arc::clone(&self.core);
        if !group.commits.is_empty() {
            let (new, answers): (Vec<_>, Vec<_>) = group.commits.into_iter().unzip();
            let lengths: Vec<_> = new.iter().map(Vec::len).collect();
            let new: Vec<_> = new.into_iter().flatten().collect();
            match guarded(&core, || self.store(&new)) {
                Ok(outcomes) => {
                    let mut outcomes = outcomes.into_iter();
                    for (answer, length) in answers.into_iter().zip(lengths) {
                        // Whoever asked may have gone away meanwhile; the work was done all the same.
                        let _ = answer.send(Ok(outcomes.by_ref().take(length).collect()));
                    }
                }
                Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
            }
        }
        if self.is_full()
            && let Err(error) = self.make_room()
        {
            tracing::warn!(
                error = error.with_causes(),
                "the log could not be merged into the indexes, and is tried again"
            );
        }
    }

    fn is_full(&self) -> bool {
        let most = self.core.settings.delta_bytes;
        self.core.delta.grow(|last| last.is_full(most)).unwrap_or(false)
    }

    /// Makes sure that the delta can take another frame: when the last generation is full, it is merged while the next
    /// one grows, and who comes too early waits.
    fn make_room(&mut self) -> Result<(), StoreError> {
        let most = self.core.settings.delta_bytes;
        if self.core.delta.is_full(most) {
            if let Some(merging) = self.merging.take() {
                // What became of it shows.
                let _ = merging.blocking_recv();
            }
            if self.core.delta.is_full(most) {
                let (answer, merged) = oneshot::channel();
                self.ask(Job::Merge(answer));
                return merged.blocking_recv().unwrap_or(Err(StoreError::Closed));
            }
        }
        if self.is_full() {
            let (answer, merged) = oneshot::channel();
            self.ask(Job::Merge(answer));
            self.merging = Some(merged);
        }
        Ok(())
    }

    /// Asks the merger for something that begins with merging all there is.
    fn ask(&self, job: Job) {
        self.core.delta.freeze();
        // If it is gone, so is the answer, and that is one.
        let _ = self.jobs.blocking_send(job);
    }

    /// Drops what must go so that `tables`, and all together, keep to their limits; the arrival numbers of that.
    fn evict(&self, tables: Vec<u32>, new: usize) -> Result<Vec<u64>, StoreError> {
        let (answer, evicted) = oneshot::channel();
        // At least as many as came in, so that a store at its limit stays there.
        self.ask(Job::Evict(tables, 2 * new + EVICTED, answer));
        evicted.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }

    fn close(self, answer: Answer<()>) {
        let (done, merged) = oneshot::channel();
        self.ask(Job::Merge(done));
        if let Ok(Err(error)) = merged.blocking_recv() {
            tracing::warn!(error = error.with_causes(), "the log is merged at the next opening");
        }
        // It may be rewriting segments.
        drop(self.jobs);
        if self.merger.join().is_err() {
            tracing::error!("the merger of the store panicked");
        }
        let closed = self.core.file.close();
        self.core.log.unlock();
        let _ = answer.send(closed);
    }
}

impl Group {
    /// Takes a request, or gives back one that cannot share a frame.
    fn add(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::Commit(entries, answer) => {
                self.entries += entries.len();
                self.bytes += entries.iter().map(|new| new.entry.encoded().len()).sum::<usize>();
                self.commits.push((entries, answer));
            }
            alone => return Some(alone),
        }
        None
    }
}
