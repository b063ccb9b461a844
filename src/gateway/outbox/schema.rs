//! The tables of the outbox file, and the rows of jobs.

use redb::{ReadableTable, ReadableTableMetadata as _, TableDefinition, WriteTransaction};

use super::{Job, OutboxError};

/// Settled jobs that are remembered with their idempotency keys, at most.
const MAX_SETTLED: usize = 10_000;

/// Key: the job's number, ascending by acceptance. Value: the [`Job`] as JSON.
pub(super) const JOBS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("jobs");
/// Key: id of the entry. Value: the job's number.
pub(super) const BY_ID: TableDefinition<'_, &[u8; 32], u64> = TableDefinition::new("by_id");
/// The jobs that are not over, so that a start need not look at all. Key: the job's number. Value: nothing.
pub(super) const OPEN: TableDefinition<'_, u64, ()> = TableDefinition::new("open");
/// Key: the job's number. Value: the sealed entry, until its work is done.
pub(super) const SEALED: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("sealed");
/// Key: the job's number. Value: the state of the solver.
pub(super) const SOLVING: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("solving");
/// Key: the job's number. Value: the entry with its work, until the job is over.
pub(super) const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Key: app and idempotency key. Value: the job's number, and the SHA-256 of the body.
pub(super) const KEYS: TableDefinition<'_, (&str, &str), (u64, &[u8; 32])> = TableDefinition::new("keys");

/// What came of a put.
#[derive(Debug)]
pub(in crate::gateway) enum Accepted {
    /// It is a job now.
    New(Job),
    /// It was put before, with the same idempotency key and body.
    Before(Job),
    /// The idempotency key is of another body.
    KeyReused,
    /// There are [`MAX_OPEN`] jobs already.
    Full,
}

/// An idempotency key and the body that it stands for.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct Idempotency {
    /// The id of the table, and what the app calls the request.
    pub(in crate::gateway) key: String,
    pub(in crate::gateway) body_hash: [u8; 32],
}

/// Forgets the oldest settled jobs over the bound.
pub(super) fn forget(txn: &WriteTransaction) -> Result<(), OutboxError> {
    let mut jobs = txn.open_table(JOBS)?;
    let open = txn.open_table(OPEN)?;
    let mut surplus = jobs.len()?.saturating_sub(open.len()?).saturating_sub(MAX_SETTLED as u64);
    let mut old = Vec::new();
    for row in jobs.iter()? {
        if surplus == 0 {
            break;
        }
        let (number, row) = row?;
        if open.get(number.value())?.is_none() {
            old.push((number.value(), decode(row.value())));
            surplus -= 1;
        }
    }
    for (number, job) in old {
        jobs.remove(number)?;
        // Of a damaged one nothing else is known.
        let Ok(job) = job else { continue };
        txn.open_table(BY_ID)?.remove(job.id.as_bytes())?;
        if let Some(key) = &job.idempotency {
            txn.open_table(KEYS)?.remove((job.app.as_str(), key.as_str()))?;
        }
    }
    Ok(())
}

pub(super) fn before(
    keys: &impl ReadableTable<(&'static str, &'static str), (u64, &'static [u8; 32])>,
    jobs: &impl ReadableTable<u64, &'static [u8]>,
    app: &str,
    idempotency: &Idempotency,
) -> Result<Option<Accepted>, OutboxError> {
    let Some(row) = keys.get((app, idempotency.key.as_str()))? else { return Ok(None) };
    let (number, body_hash) = row.value();
    if *body_hash != idempotency.body_hash {
        return Ok(Some(Accepted::KeyReused));
    }
    Ok(job(jobs, number)?.map(Accepted::Before))
}

pub(super) fn job(
    jobs: &impl ReadableTable<u64, &'static [u8]>,
    number: u64,
) -> Result<Option<Job>, OutboxError> {
    jobs.get(number)?.map(|row| decode(row.value())).transpose()
}

pub(super) fn encode(job: &Job) -> Vec<u8> {
    // Strings, numbers and lists of them always have a JSON form.
    serde_json::to_vec(job).unwrap_or_default()
}

pub(super) fn decode(row: &[u8]) -> Result<Job, OutboxError> {
    serde_json::from_slice(row).map_err(|error| OutboxError::Damaged(error.to_string()))
}
