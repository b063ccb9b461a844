//! The merger: a thread that takes one generation after the other over into the indexes, and changes them in every
//! other way, too.
//!
//! The rows of a generation are written in ascending order in one transaction, with the mark behind which the log is
//! replayed at opening; what is due to be dropped goes in the same one, since it touches the same pages. Nobody waits
//! for that who only wants something to be durable.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::sketch::Element,
};
use redb::ReadableTable;
use tokio::sync::mpsc;

use super::{
    Core, StoreError,
    batch::Batch,
    clean::Cleaner,
    delta, fault,
    index::FreshDigest,
    keys::{Found, FoundBy},
    live::Live,
    log::Kind,
    retention::{self, DUE, EVICTED, Swept},
    schema::{self, Bucket, DropReason, Place, State},
    writer::Answer,
};

/// Jobs that wait for the merger, at most.
pub(super) const JOBS: usize = 16;

/// Ids that are taken out of the sketches in memory while everybody else waits.
const PART: usize = 1024;

/// What the merger can be asked for; all but the digests include that every generation that waits for it is merged.
pub(super) enum Job {
    Merge(Answer<()>),
    /// What must go so that these tables, and all together, keep to their limits, at most so many: who it was.
    Evict(Vec<u32>, usize, Answer<Vec<u64>>),
    Sweep(Answer<Swept>),
    /// These entries of a table go, and their ids stay known.
    Withdraw(TableId, Vec<EntryId>, Answer<()>),
    Digests(Vec<FreshDigest>),
    Compact(Answer<bool>),
}

/// Serves jobs until nobody has any.
pub(super) fn run(core: &Arc<Core>, mut jobs: mpsc::Receiver<Job>) {
    let mut cleaner = Cleaner::default();
    while let Some(job) = jobs.blocking_recv() {
        // Whoever asked may have gone away meanwhile; the work was done all the same.
        match job {
            Job::Merge(answer) => {
                let merged = guarded(core, || merge_all(core));
                clean(core, &mut cleaner);
                let _ = answer.send(merged);
            }
            Job::Evict(tables, most, answer) => {
                let _ = answer.send(guarded(core, || evict(core, &tables, most)));
                clean(core, &mut cleaner);
            }
            Job::Sweep(answer) => {
                let swept = guarded(core, || sweep(core));
                clean(core, &mut cleaner);
                let _ = answer.send(swept);
            }
            Job::Withdraw(table, ids, answer) => {
                let _ = answer.send(guarded(core, || withdraw(core, &table, &ids)));
                clean(core, &mut cleaner);
            }
            Job::Digests(digests) => {
                // They are computed again when somebody asks.
                let _ = guarded(core, || save_digests(core, &digests));
            }
            Job::Compact(answer) => {
                let _ = answer.send(guarded(core, || compact(core, &mut cleaner)));
            }
        }
    }
}

fn clean(core: &Core, cleaner: &mut Cleaner) {
    if let Err(error) = guarded(core, || cleaner.clean(core)) {
        tracing::warn!(error = error.with_causes(), "segments of the log could not be rewritten");
    }
}

fn compact(core: &Core, cleaner: &mut Cleaner) -> Result<bool, StoreError> {
    merge_all(core)?;
    let before = core.size()?.0;
    cleaner.clean_all(core)?;
    core.file.compact()?;
    Ok(core.size()?.0 < before)
}

fn evict(core: &Core, tables: &[u32], most: usize) -> Result<Vec<u64>, StoreError> {
    merge_but(core, 1)?;
    step(core, |batch| {
        let evicted = retention::evict(batch, tables, most)?;
        batch.forget((evicted.len() + EVICTED) as u64)?;
        fault::point(core.file.path(), "evict")?;
        Ok(evicted)
    })
}

fn withdraw(core: &Core, table: &TableId, ids: &[EntryId]) -> Result<(), StoreError> {
    merge_all(core)?;
    let Some(table_no) = core.live().number_of(table) else { return Ok(()) };
    let found = core.view(|view| {
        let mut found = Vec::new();
        for id in ids {
            if let Some(Place::Stored { arrival, created }) = view.place(table_no, *id)? {
                let epoch = core.settings.network.epoch(created);
                found.push(Found { arrival, key: FoundBy::Epoch(table_no, epoch, *id) });
            }
        }
        Ok(found)
    })?;
    step(core, |batch| batch.remove(&found, Some(DropReason::Retracted)))
}

/// Merges every generation that is not growing any more.
fn merge_all(core: &Core) -> Result<(), StoreError> {
    merge_but(core, 0)
}

/// Merges all but the last `left` of them.
fn merge_but(core: &Core, left: usize) -> Result<(), StoreError> {
    while let Some((oldest, waiting)) = core.delta.oldest_frozen()
        && waiting > left
    {
        // More than came in, so that a store at its limit stays there.
        let most = DUE.max(2 * delta::read(&oldest).entries.len());
        let swept = step(core, |batch| retention::retire(batch, most))?;
        core.live_mut().swept.add(swept);
    }
    Ok(())
}

/// One transaction: merges the oldest generation that waits for it, then does `work`.
pub(super) fn step<T>(
    core: &Core,
    work: impl FnOnce(&mut Batch<'_>) -> Result<T, redb::Error>,
) -> Result<T, StoreError> {
    catch_up(core)?;
    let oldest = core.delta.oldest_frozen().map(|(oldest, _)| oldest);
    // A table that is named in what is merged later may be named nowhere else.
    let is_needed = |table_no| {
        let mut later = core.delta.generations().into_iter().skip(usize::from(oldest.is_some()));
        later.any(|generation| delta::read(&generation).concerns(table_no))
    };
    let (value, retired) = core.file.write(|txn| {
        let mut batch = Batch::open(txn, &core.log, &core.settings, core.clock.now())?;
        if let Some(oldest) = &oldest {
            batch.merge(&delta::read(oldest))?;
        }
        let value = work(&mut batch)?;
        fault::point(core.file.path(), "merge")?;
        let retired = batch.finish(is_needed)?;
        let changed = retired.is_some();
        Ok(((value, retired), changed))
    })?;
    let Some(retired) = retired else { return Ok(value) };
    if let Some(oldest) = oldest {
        core.delta.forget(delta::read(&oldest).end);
    }
    core.delta.all(|generations| {
        let concerns = |table_no| generations.iter().any(|generation| generation.concerns(table_no));
        core.live_mut().merged(&retired, concerns);
    });
    for part in retired.left.chunks(PART) {
        let elements: Vec<_> = part.iter().map(|(cell, id)| (*cell, Element::of(id))).collect();
        let mut live = core.live_mut();
        elements.iter().for_each(|(cell, element)| live.left(*cell, element));
    }
    fault::point(core.file.path(), "merged").map_err(|error| core.file.fault(error.into()))?;
    delete_dead(core)?;
    Ok(value)
}

/// Makes memory what the file says, if that changed unseen: a commit that failed may have taken effect all the same.
fn catch_up(core: &Core) -> Result<(), StoreError> {
    let known = core.live().state.change;
    let changed = core.file.read(|txn| {
        let state = State::read(&txn.open_table(schema::STATE)?)?;
        if state.change == known { Ok(None) } else { Live::load(txn).map(Some) }
    })?;
    let Some(mut live) = changed else { return Ok(()) };
    tracing::warn!("a write that failed took effect all the same");
    let merged = live.state.position;
    core.delta.forget(merged);
    core.delta.all(|generations| {
        for generation in generations.iter().filter(|generation| generation.end > merged) {
            live.take_up(generation, &core.settings.network);
        }
        let mut known = core.live_mut();
        live.swept = std::mem::take(&mut known.swept);
        *known = live;
    });
    Ok(())
}

fn sweep(core: &Core) -> Result<Swept, StoreError> {
    merge_but(core, 1)?;
    let mut swept = step(core, retention::sweep)?;
    swept.add(core.take_swept());
    Ok(swept)
}

/// Deletes segments of which nothing is stored or will be replayed any more.
pub(super) fn delete_dead(core: &Core) -> Result<(), StoreError> {
    if core.file.is_frozen() {
        // The log may be all that there is of what it says.
        return Ok(());
    }
    let dead = core.file.read(|txn| {
        let mark = State::read(&txn.open_table(schema::STATE)?)?.position;
        let rows = txn.open_table(schema::SEGMENTS)?;
        let mut dead = Vec::new();
        for (number, segment) in core.log.segments().iter() {
            let is_merged = segment.kind == Kind::Moved || *number < mark.segment;
            if is_merged && rows.get(number)?.is_none() {
                dead.push(*number);
            }
        }
        Ok(dead)
    })?;
    for number in dead {
        core.log.delete(number).map_err(|error| core.file.fault(error))?;
    }
    Ok(())
}

/// Notes digests that a reader computed, where their bucket did not change since.
fn save_digests(core: &Core, digests: &[FreshDigest]) -> Result<(), StoreError> {
    core.file.write(|txn| {
        let mut rows = txn.open_table(schema::BUCKETS)?;
        let mut saved = false;
        for fresh in digests {
            let Some(bucket) = rows.get(fresh.key)?.map(|row| Bucket::from_row(row.value())) else {
                continue;
            };
            if bucket.changed == fresh.changed && bucket.digested != fresh.changed {
                let bucket = Bucket { digested: fresh.changed, digest: fresh.digest, ..bucket };
                rows.insert(fresh.key, bucket.as_row())?;
                saved = true;
            }
        }
        Ok(((), saved))
    })
}

/// A damaged file can make redb panic: that must not end a thread that others wait for.
pub(super) fn guarded<T>(core: &Core, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(core.panicked()))
}
