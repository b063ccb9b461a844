//! Does the proof of work of accepted entries, one after the other, and keeps how far it is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use p2pdb_protocol::{entry::Entry, keys::PublicKey, pow::Solver};
use tokio_util::sync::CancellationToken;

use super::{EXPIRED, Job, Mining, Outbox, OutboxError, file::Queued};
use crate::clock::monotonic;

/// How often the state of the solver is kept besides after each puzzle: what a crash costs at most.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// Pause after a failure of the disk.
const PAUSE: Duration = Duration::from_secs(5);

impl Outbox {
    /// Does the work of one job after the other, until `shutdown`.
    pub(in crate::gateway) async fn mine(self: Arc<Self>, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            match self.mine_next(&shutdown).await {
                Ok(true) => {}
                Ok(false) => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.to_mine.notified() => {}
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the outbox does not get on, trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Does the work of the next job; whether there was one.
    async fn mine_next(&self, shutdown: &CancellationToken) -> Result<bool, OutboxError> {
        let Some(Queued { number, sealed, solving }) = self.blocking(|file| file.next_work()).await? else {
            return Ok(false);
        };
        let sealed = match sealed {
            Ok(sealed) => sealed,
            Err(refusal) => return self.fail(number, format!("its entry is damaged: {refusal}")).await,
        };
        if sealed.header().expires.is_some_and(|expires| expires <= self.clock.now()) {
            return self.fail(number, EXPIRED.to_owned()).await;
        }
        let puzzle = sealed.puzzle(&self.network);
        let solver = solving.and_then(|state| {
            Solver::resume(puzzle, &state)
                .inspect_err(|error| tracing::warn!(id = %sealed.id(), %error, "begun anew"))
                .ok()
        });
        let solver = Arc::new(solver.unwrap_or_else(|| Solver::new(puzzle)));
        let cancel = Arc::new(AtomicBool::new(false));
        let progress = solver.progress();
        *self.lock() = Some(Mining {
            id: sealed.id(),
            progress,
            hashes_before: progress.hashes,
            started: monotonic(),
            cancel: Arc::clone(&cancel),
        });
        // Whoever cancels it from here on sees that it is mined; who did so before is seen here.
        let solved = match self.blocking(move |file| file.is_queued(number)).await {
            Ok(true) => self.solve(number, &solver, &cancel, shutdown).await,
            Ok(false) | Err(_) => None,
        };
        *self.lock() = None;
        let Some(work) = solved else {
            // Cancelled, or the daemon stops: what is done is kept.
            let state = solver.state();
            self.blocking(move |file| file.keep_solving(number, &state)).await?;
            self.note_change();
            return Ok(true);
        };
        let entry = match sealed.finish(&work, &self.network) {
            Ok(entry) => entry,
            Err(refusal) => return self.fail(number, format!("its entry is damaged: {refusal}")).await,
        };
        let (worked, now) = (entry.clone(), self.clock.now());
        let Some(job) = self.blocking(move |file| file.worked(number, &worked, now)).await? else {
            return Ok(true);
        };
        // Its writer reads it from now on, whether or not a node can be reached.
        self.show(&job, entry).await;
        self.note_change();
        self.to_send.notify_one();
        Ok(true)
    }

    /// The job is over, and the next one has its turn.
    async fn fail(&self, number: u64, why: String) -> Result<bool, OutboxError> {
        let now = self.clock.now();
        self.blocking(move |file| file.fail(number, why, now)).await?;
        self.note_change();
        Ok(true)
    }

    /// Solves, on threads of its own, and keeps the state meanwhile. Nothing if it was cancelled.
    async fn solve(
        &self,
        number: u64,
        solver: &Arc<Solver>,
        cancel: &Arc<AtomicBool>,
        shutdown: &CancellationToken,
    ) -> Option<Vec<u8>> {
        let (progress, mut reports) = tokio::sync::watch::channel(solver.progress());
        let solving = {
            let (solver, cancel, threads) = (Arc::clone(solver), Arc::clone(cancel), self.threads);
            tokio::task::spawn_blocking(move || {
                solver.solve(threads, &cancel, &|report| _ = progress.send_replace(report)).ok()
            })
        };
        tokio::pin!(solving);
        let mut kept = solver.progress().solved;
        let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + KEEP_EVERY, KEEP_EVERY);
        loop {
            let keep = tokio::select! {
                solved = &mut solving => return solved.ok().flatten(),
                () = shutdown.cancelled(), if !cancel.load(Ordering::Relaxed) => {
                    cancel.store(true, Ordering::Relaxed);
                    false
                }
                Ok(()) = reports.changed() => {
                    let progress = *reports.borrow_and_update();
                    if let Some(mining) = &mut *self.lock() {
                        mining.progress = progress;
                    }
                    self.note_change();
                    progress.solved > std::mem::replace(&mut kept, progress.solved)
                }
                _ = interval.tick() => true,
            };
            if keep {
                let state = solver.state();
                if let Err(error) = self.blocking(move |file| file.keep_solving(number, &state)).await {
                    tracing::warn!(%error, "how far the proof of work is cannot be kept");
                }
            }
        }
    }

    /// Puts an own entry into the mirror.
    pub(super) async fn show(&self, job: &Job, entry: Entry) {
        let Some(key) = table_key(job) else { return };
        if let Err(error) = self.mirror.commit(vec![entry], &key).await {
            tracing::warn!(id = %job.id, %error, "an own entry is not in the mirror yet");
        }
    }
}

/// The key of the job's table.
pub(super) fn table_key(job: &Job) -> Option<PublicKey> {
    let der = data_encoding::BASE64.decode(job.table_key.as_bytes()).ok()?;
    PublicKey::from_der(&der)
        .inspect_err(|error| tracing::error!(id = %job.id, %error, "the table's key of a job is damaged"))
        .ok()
}
