//! The outbox on disk: a change is durable when the call that makes it returns.
//!
//! What a job goes through is one transaction each: accepted (job, sealed entry and idempotency key together), worked (the
//! entry takes the place of the sealed one), handed out, tried, settled. Between any two the process may die.

use std::{path::Path, sync::Arc};

use p2pdb_protocol::{entry::Entry, id::EntryId, network::Network, refusal::Refusal, seal::SealedEntry};
use redb::{Database, ReadableDatabase as _, ReadableTable, ReadableTableMetadata as _, WriteTransaction};

use super::{
    Job, JobState, OutboxError,
    schema::{
        Accepted, BY_ID, ENTRIES, Idempotency, JOBS, KEYS, OPEN, SEALED, SOLVING, before, decode, encode,
        forget, job,
    },
};

/// Jobs that are not settled, at most.
pub(super) const MAX_OPEN: usize = 10_000;
/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 8 << 20;

/// A job whose proof of work is to be done.
#[derive(Debug)]
pub(super) struct Queued {
    pub(super) number: u64,
    /// Unless what the disk has of it is damaged.
    pub(super) sealed: Result<SealedEntry, Refusal>,
    /// The state that the solver was last kept in.
    pub(super) solving: Option<Vec<u8>>,
}

/// The file. Its operations block.
#[derive(Debug, Clone)]
pub(super) struct File {
    database: Arc<Database>,
}

impl File {
    pub(super) fn open(path: &Path) -> Result<Self, OutboxError> {
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
        let file = Self { database: Arc::new(database) };
        file.write(|txn| {
            txn.open_table(JOBS)?;
            txn.open_table(BY_ID)?;
            txn.open_table(OPEN)?;
            txn.open_table(SEALED)?;
            txn.open_table(SOLVING)?;
            txn.open_table(ENTRIES)?;
            txn.open_table(KEYS)?;
            Ok(())
        })?;
        let (open, readable) =
            (file.database.begin_read()?.open_table(OPEN)?.len()?, file.open_jobs()?.len() as u64);
        if open > readable {
            tracing::error!(
                jobs = open - readable,
                "jobs of the outbox are damaged or of another version, and left alone"
            );
        }
        Ok(file)
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, OutboxError>,
    ) -> Result<T, OutboxError> {
        let txn = self.database.begin_write()?;
        let done = change(&txn)?;
        txn.commit()?;
        Ok(done)
    }

    /// What an idempotency key led to before, if anything.
    pub(super) fn before(
        &self,
        app: &str,
        idempotency: &Idempotency,
    ) -> Result<Option<Accepted>, OutboxError> {
        let txn = self.database.begin_read()?;
        before(&txn.open_table(KEYS)?, &txn.open_table(JOBS)?, app, idempotency)
    }

    /// Takes a job on.
    pub(super) fn accept(
        &self,
        job: Job,
        sealed: &SealedEntry,
        idempotency: Option<&Idempotency>,
    ) -> Result<Accepted, OutboxError> {
        self.write(|txn| {
            let mut jobs = txn.open_table(JOBS)?;
            let mut keys = txn.open_table(KEYS)?;
            if let Some(idempotency) = idempotency
                && let Some(accepted) = before(&keys, &jobs, &job.app, idempotency)?
            {
                return Ok(accepted);
            }
            let mut open = txn.open_table(OPEN)?;
            if open.len()? >= MAX_OPEN as u64 {
                return Ok(Accepted::Full);
            }
            let number = jobs.last()?.map_or(1, |(number, _)| number.value() + 1);
            jobs.insert(number, encode(&job).as_slice())?;
            txn.open_table(BY_ID)?.insert(job.id.as_bytes(), number)?;
            open.insert(number, ())?;
            txn.open_table(SEALED)?.insert(number, sealed.to_bytes().as_slice())?;
            if let Some(Idempotency { key, body_hash }) = idempotency {
                keys.insert((job.app.as_str(), key.as_str()), (number, body_hash))?;
            }
            Ok(Accepted::New(job))
        })
    }

    /// The job of an entry.
    pub(super) fn find(&self, id: &EntryId) -> Result<Option<Job>, OutboxError> {
        let txn = self.database.begin_read()?;
        let Some(number) = txn.open_table(BY_ID)?.get(id.as_bytes())?.map(|row| row.value()) else {
            return Ok(None);
        };
        job(&txn.open_table(JOBS)?, number)
    }

    /// Jobs, the newest first, that were accepted before the one of `before`, at most `limit` that `wanted` takes.
    pub(super) fn list(
        &self,
        before: Option<&EntryId>,
        limit: usize,
        wanted: impl Fn(&Job) -> bool,
    ) -> Result<Vec<Job>, OutboxError> {
        let txn = self.database.begin_read()?;
        let number = match before {
            None => u64::MAX,
            Some(id) => txn.open_table(BY_ID)?.get(id.as_bytes())?.map_or(0, |row| row.value()),
        };
        let mut listed = Vec::new();
        for row in txn.open_table(JOBS)?.range(..number)?.rev() {
            let (number, row) = row?;
            if listed.len() == limit {
                break;
            }
            listed.extend(readable(number.value(), decode(row.value()))?.filter(|job| wanted(job)));
        }
        Ok(listed)
    }

    /// How many jobs are queued, being sent, and stored but tried on.
    pub(super) fn count_open(&self) -> Result<[u64; 3], OutboxError> {
        let mut counts = [0; 3];
        for (_, job) in self.open_jobs()? {
            match job.state {
                JobState::Queued => counts[0] += 1,
                JobState::Sending => counts[1] += 1,
                _ => counts[2] += 1,
            }
        }
        Ok(counts)
    }

    /// The job whose work is to be done next: the one accepted first.
    pub(super) fn next_work(&self) -> Result<Option<Queued>, OutboxError> {
        let txn = self.database.begin_read()?;
        let jobs = txn.open_table(JOBS)?;
        for row in txn.open_table(SEALED)?.iter()? {
            let (number, bytes) = row?;
            let number = number.value();
            if readable(number, job(&jobs, number))?.flatten().is_some() {
                let solving = txn.open_table(SOLVING)?.get(number)?.map(|row| row.value().to_vec());
                let sealed = SealedEntry::from_bytes(bytes.value());
                return Ok(Some(Queued { number, sealed, solving }));
            }
        }
        Ok(None)
    }

    /// Whether the work of a job is still wanted.
    pub(super) fn is_queued(&self, number: u64) -> Result<bool, OutboxError> {
        let job = job(&self.database.begin_read()?.open_table(JOBS)?, number)?;
        Ok(job.is_some_and(|job| job.state == JobState::Queued))
    }

    /// A job that no node holds is over, with what went wrong.
    pub(super) fn fail(&self, number: u64, why: String, now: u64) -> Result<Option<Job>, OutboxError> {
        self.change(number, |_, job| {
            let is_open = matches!(job.state, JobState::Queued | JobState::Sending);
            if is_open {
                job.state = JobState::Failed;
                job.settled = Some(now);
            }
            job.error = Some(why);
            job.next_try = None;
            Ok(is_open || job.state == JobState::Stored)
        })
    }

    /// Keeps how far the work of a job is, unless it was cancelled meanwhile.
    pub(super) fn keep_solving(&self, number: u64, state: &[u8]) -> Result<(), OutboxError> {
        self.write(|txn| {
            if txn.open_table(SEALED)?.get(number)?.is_some() {
                txn.open_table(SOLVING)?.insert(number, state)?;
            }
            Ok(())
        })
    }

    /// The work is done: the job is to be sent. Nothing if it was cancelled meanwhile.
    pub(super) fn worked(&self, number: u64, entry: &Entry, now: u64) -> Result<Option<Job>, OutboxError> {
        self.change(number, |txn, job| {
            if job.state != JobState::Queued {
                return Ok(false);
            }
            job.state = JobState::Sending;
            job.next_try = Some(now);
            txn.open_table(SEALED)?.remove(number)?;
            txn.open_table(SOLVING)?.remove(number)?;
            txn.open_table(ENTRIES)?.insert(number, entry.encoded().as_ref())?;
            Ok(true)
        })
    }

    /// The jobs that have an entry to be sent.
    pub(super) fn to_send(&self) -> Result<Vec<(u64, Job)>, OutboxError> {
        Ok(self.open_jobs()?.into_iter().filter(|(_, job)| job.next_try.is_some()).collect())
    }

    /// The entry of a job.
    pub(super) fn entry(&self, number: u64, network: &Network) -> Result<Option<Entry>, OutboxError> {
        let txn = self.database.begin_read()?;
        let row = txn.open_table(ENTRIES)?.get(number)?;
        row.map(|row| {
            Entry::from_trusted(row.value().to_vec().into(), network)
                .map_err(|refusal| OutboxError::Damaged(format!("job {number}: {refusal}")))
        })
        .transpose()
    }

    /// From here on a node may have it: a try begins. Nothing if it was cancelled meanwhile.
    pub(super) fn hand_out(&self, number: u64) -> Result<Option<Job>, OutboxError> {
        self.change(number, |_, job| {
            job.handed_out = true;
            job.answers.clear();
            Ok(matches!(job.state, JobState::Sending | JobState::Stored))
        })
    }

    /// Enters what came of a try to send.
    pub(super) fn tried(
        &self,
        number: u64,
        change: impl FnOnce(&mut Job),
    ) -> Result<Option<Job>, OutboxError> {
        self.change(number, |_, job| {
            if !matches!(job.state, JobState::Sending | JobState::Stored) {
                return Ok(false);
            }
            change(job);
            Ok(true)
        })
    }

    /// Withdraws a job; gives it up if a node may have it, unless one says that it holds it. The job as it is then, and the
    /// entry of one that is withdrawn, if it was worked for already.
    pub(super) fn cancel(
        &self,
        id: &EntryId,
        network: &Network,
        now: u64,
    ) -> Result<Option<(Job, Option<Entry>)>, OutboxError> {
        let number =
            self.database.begin_read()?.open_table(BY_ID)?.get(id.as_bytes())?.map(|row| row.value());
        let Some(number) = number else { return Ok(None) };
        // A damaged one is cancelled as well.
        let entry = readable(number, self.entry(number, network))?.flatten();
        let cancelled = self.change(number, |_, job| {
            let is_open = matches!(job.state, JobState::Queued | JobState::Sending);
            if is_open {
                job.state = if job.handed_out { JobState::Abandoned } else { JobState::Cancelled };
                job.settled = Some(now);
                job.next_try = None;
            }
            Ok(is_open)
        })?;
        let Some(job) = cancelled else { return Ok(self.find(id)?.map(|job| (job, None))) };
        let entry = entry.filter(|_| job.state == JobState::Cancelled);
        Ok(Some((job, entry)))
    }

    fn open_jobs(&self) -> Result<Vec<(u64, Job)>, OutboxError> {
        let txn = self.database.begin_read()?;
        let jobs = txn.open_table(JOBS)?;
        let mut open = Vec::new();
        for row in txn.open_table(OPEN)?.iter()? {
            let number = row?.0.value();
            open.extend(readable(number, job(&jobs, number))?.flatten().map(|job| (number, job)));
        }
        Ok(open)
    }

    /// Changes a job, unless `change` says that it does not want to. A job with nothing left to do is over: its entry is
    /// in the mirror and on the nodes, or nowhere.
    fn change(
        &self,
        number: u64,
        change: impl FnOnce(&WriteTransaction, &mut Job) -> Result<bool, OutboxError>,
    ) -> Result<Option<Job>, OutboxError> {
        let txn = self.database.begin_write()?;
        let Some(mut job) = job(&txn.open_table(JOBS)?, number)? else { return Ok(None) };
        if !change(&txn, &mut job)? {
            return Ok(None);
        }
        txn.open_table(JOBS)?.insert(number, encode(&job).as_slice())?;
        if job.state.is_settled() && job.next_try.is_none() {
            txn.open_table(OPEN)?.remove(number)?;
            txn.open_table(SEALED)?.remove(number)?;
            txn.open_table(SOLVING)?.remove(number)?;
            txn.open_table(ENTRIES)?.remove(number)?;
            forget(&txn)?;
        }
        txn.commit()?;
        Ok(Some(job))
    }
}

/// Leaves a damaged row, or one of another version, where it is: the other jobs go on.
fn readable<T>(number: u64, row: Result<T, OutboxError>) -> Result<Option<T>, OutboxError> {
    match row {
        Err(OutboxError::Damaged(error)) => {
            tracing::debug!(number, error, "a job is passed over");
            Ok(None)
        }
        row => row.map(Some),
    }
}

#[cfg(test)]
mod tests;
