//! The one writer: a thread that takes whatever is queued into one transaction and answers when it is durable.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use p2pdb_protocol::id::{EntryId, TableId};
use redb::ReadableTable;
use tokio::sync::{mpsc, oneshot};

use super::{
    Core, StoreError,
    batch::{Batch, Committed, NewEntry},
    index::FreshDigest,
    retention::{self, STEP, Swept},
    schema::{self, Bucket, DropReason},
};

/// Requests that wait for the writer, at most; who has another one waits before it is taken.
pub(super) const QUEUE: usize = 256;
/// Entries of one transaction, unless a single request has more.
const GROUP_ENTRIES: usize = 4096;

/// Where the answer to a request goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer can be asked for.
pub(super) enum Request {
    Commit(Vec<NewEntry>, Answer<Vec<Committed>>),
    Drop(TableId, EntryId, DropReason, Answer<()>),
    Digests(Vec<FreshDigest>),
    Sweep(Answer<Swept>),
    Compact(Answer<bool>),
    Close(Answer<()>),
}

/// The requests that share one transaction.
#[derive(Default)]
struct Group {
    commits: Vec<(Vec<NewEntry>, Answer<Vec<Committed>>)>,
    drops: Vec<(TableId, EntryId, DropReason, Answer<()>)>,
    digests: Vec<FreshDigest>,
    entries: usize,
    bytes: usize,
}

/// Serves requests until the store is closed or its last handle is gone.
pub(super) fn run(core: &Arc<Core>, mut requests: mpsc::Receiver<Request>) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = Group::default();
        let mut next = Some(first);
        let mut alone = None;
        while let Some(request) = next {
            alone = group.add(request);
            if alone.is_some() || group.entries >= GROUP_ENTRIES || group.bytes >= core.settings.batch_bytes {
                break;
            }
            next = requests.try_recv().ok();
        }
        group.commit(core);
        // Whoever asked may have gone away meanwhile; the work was done all the same.
        match alone {
            Some(Request::Sweep(answer)) => drop(answer.send(guarded(core, || sweep(core)))),
            Some(Request::Compact(answer)) => {
                drop(answer.send(guarded(core, || core.file.compact())));
            }
            Some(Request::Close(answer)) => {
                requests.close();
                drop(answer.send(core.file.close()));
            }
            _ => {}
        }
    }
}

impl Group {
    /// Takes a request, or gives back one that cannot share a transaction.
    fn add(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::Commit(entries, answer) => {
                self.entries += entries.len();
                self.bytes += entries.iter().map(|new| new.entry.encoded().len()).sum::<usize>();
                self.commits.push((entries, answer));
            }
            Request::Drop(table, id, reason, answer) => {
                self.entries += 1;
                self.drops.push((table, id, reason, answer));
            }
            Request::Digests(mut digests) => self.digests.append(&mut digests),
            alone => return Some(alone),
        }
        None
    }

    fn commit(self, core: &Core) {
        let Self { mut commits, drops, digests, .. } = self;
        if commits.is_empty() && drops.is_empty() && digests.is_empty() {
            return;
        }
        let mut new = Vec::with_capacity(self.entries);
        let lengths: Vec<_> = commits.iter().map(|(entries, _)| entries.len()).collect();
        for (entries, _) in &mut commits {
            new.append(entries);
        }
        let result = guarded(core, || {
            core.file.write(|txn| {
                let digested = save_digests(txn, &digests)?;
                let mut batch = Batch::open(txn, &core.settings, core.clock.now())?;
                let mut outcomes = batch.insert(&new)?;
                for (table, id, reason, _) in &drops {
                    batch.drop_for_good(*table, *id, *reason)?;
                }
                let touched = batch.touched();
                // At least as many as came in, so that a store at its limit stays there.
                let evicted = retention::evict(&mut batch, &touched, 2 * new.len() + STEP)?;
                batch.forget((evicted.len() + drops.len()) as u64)?;
                let evicted: HashSet<_> = evicted.into_iter().collect();
                for outcome in &mut outcomes {
                    if matches!(outcome, Committed::Stored { arrival } if evicted.contains(arrival)) {
                        *outcome = Committed::Dropped;
                    }
                }
                Ok((outcomes, batch.finish()? || digested))
            })
        });
        match result {
            Ok(outcomes) => {
                let mut outcomes = outcomes.into_iter();
                for ((_, answer), length) in commits.into_iter().zip(lengths) {
                    let _ = answer.send(Ok(outcomes.by_ref().take(length).collect()));
                }
                drops.into_iter().for_each(|(.., answer)| drop(answer.send(Ok(()))));
            }
            Err(error) => {
                commits.into_iter().for_each(|(_, answer)| drop(answer.send(Err(error.clone()))));
                drops.into_iter().for_each(|(.., answer)| drop(answer.send(Err(error.clone()))));
            }
        }
    }
}

fn sweep(core: &Core) -> Result<Swept, StoreError> {
    core.file.write(|txn| {
        let mut batch = Batch::open(txn, &core.settings, core.clock.now())?;
        let swept = retention::sweep(&mut batch)?;
        Ok((swept, batch.finish()?))
    })
}

/// Notes digests that a reader computed, where their bucket did not change since.
fn save_digests(txn: &redb::WriteTransaction, digests: &[FreshDigest]) -> Result<bool, redb::Error> {
    let mut rows = txn.open_table(schema::BUCKETS)?;
    let mut saved = false;
    for fresh in digests {
        let Some(bucket) = rows.get(fresh.key)?.map(|row| Bucket::from_row(row.value())) else { continue };
        if bucket.changed == fresh.changed && bucket.digested != fresh.changed {
            rows.insert(
                fresh.key,
                Bucket { digested: fresh.changed, digest: fresh.digest, ..bucket }.as_row(),
            )?;
            saved = true;
        }
    }
    Ok(saved)
}

/// A damaged file can make redb panic: that must not end the writer, which others wait for.
fn guarded<T>(core: &Core, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(core.panicked()))
}
