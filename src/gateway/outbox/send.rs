//! Sends what is worked for to nodes, until enough of them hold it.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use p2pdb_protocol::{entry::Entry, keys::PublicKey, refusal::Outcome};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::{Job, JobState, NodeAnswer, Outbox, OutboxError, mine::table_key};
use crate::swarm::{Event, RequestError};

/// Jobs that are sent at the same time.
const AT_ONCE: usize = 4;
/// Longest pause between two tries, in seconds.
const LONGEST_PAUSE: u64 = 300;
/// Tries to reach further nodes after one has the entry: the nodes pass it on among themselves.
const EXTRA_TRIES: u32 = 4;
/// Nodes whose answers are kept with a job.
const MAX_ANSWERS: usize = 16;
/// Pause after a failure of the disk.
const PAUSE: Duration = Duration::from_secs(5);

/// A node, and what came of sending an entry to it.
type Sent = (String, Result<Outcome, RequestError>);

impl Outbox {
    /// Sends what is due, until `shutdown`.
    pub(in crate::gateway) async fn send(self: Arc<Self>, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.send_all() => {}
        }
    }

    async fn send_all(&self) {
        if let Err(error) = self.show_unsent().await {
            tracing::error!(%error, "the outbox cannot be read");
        }
        let mut events = self.client.swarm().events();
        // A node that introduces itself may be the one that was missed: what failed is due at once.
        let mut all = false;
        loop {
            let pause = match self.send_due(all).await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!(%error, "the outbox does not get on, trying again");
                    Some(PAUSE)
                }
            };
            let introduced = async {
                loop {
                    match events.recv().await {
                        Ok(Event::Introduced { .. }) | Err(RecvError::Lagged(_)) => return,
                        Ok(_) => {}
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            let later = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            all = tokio::select! {
                () = introduced => true,
                () = self.to_send.notified() => false,
                () = later => false,
            };
        }
    }

    /// The daemon may have died between a proof and the mirror.
    async fn show_unsent(&self) -> Result<(), OutboxError> {
        for (number, job) in self.blocking(|file| file.to_send()).await? {
            if !job.handed_out
                && let Some(entry) = self.entry(number).await?
            {
                self.show(&job, entry).await;
            }
        }
        Ok(())
    }

    /// Sends what is due, or all that waits for a node; says when to look again.
    async fn send_due(&self, all: bool) -> Result<Option<Duration>, OutboxError> {
        let now = self.clock.now();
        let jobs = self.blocking(|file| file.to_send()).await?;
        let is_due = |job: &Job| job.next_try.is_some_and(|at| at <= now) || (all && job.error.is_some());
        let (due, later): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|(_, job)| is_due(job));
        if due.is_empty() {
            let next = later.iter().filter_map(|(_, job)| job.next_try).min();
            return Ok(next.map(|at| Duration::from_secs(at.saturating_sub(now).max(1))));
        }
        let mut sending = stream::iter(due)
            .map(|(number, job)| async move { self.send_one(number, job).await })
            .buffer_unordered(AT_ONCE);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        Ok(Some(Duration::ZERO))
    }

    async fn entry(&self, number: u64) -> Result<Option<Entry>, OutboxError> {
        let network = self.network.clone();
        self.blocking(move |file| file.entry(number, &network)).await
    }

    /// One try to send one job.
    async fn send_one(&self, number: u64, job: Job) -> Result<(), OutboxError> {
        let now = self.clock.now();
        if job.state == JobState::Sending && job.expires.is_some_and(|expires| expires <= now) {
            let expired = move |job: &mut Job| {
                job.state = JobState::Failed;
                job.error = Some("it expired before a node took it".to_owned());
                job.settled = Some(now);
                job.next_try = None;
            };
            self.blocking(move |file| file.tried(number, expired)).await?;
            self.note_change();
            return Ok(());
        }
        let (Some(entry), Some(key)) = (self.entry(number).await?, table_key(&job)) else {
            return Err(OutboxError::Damaged(format!("job {number} has no entry to send")));
        };
        let sent = match self.client.nodes(&[key.table_id()], self.copies).await {
            Ok(nodes) => {
                // From here on it cannot be taken back; this is on the disk before a node hears of it.
                if self.blocking(move |file| file.hand_out(number)).await?.is_none() {
                    return Ok(());
                }
                Ok(self.put_to(&nodes, &entry, &key).await)
            }
            Err(error) => Err(error.to_string()),
        };
        let (now, copies) = (self.clock.now(), self.copies);
        self.blocking(move |file| file.tried(number, |job| enter(job, sent, copies, now))).await?;
        self.note_change();
        Ok(())
    }

    async fn put_to(&self, nodes: &[libp2p::PeerId], entry: &Entry, key: &PublicKey) -> Vec<Sent> {
        let puts = nodes.iter().map(|node| async move {
            let outcomes = self.client.put_to(*node, std::slice::from_ref(entry), key).await;
            let no_outcome = || RequestError::Invalid("no outcome".to_owned());
            let outcome = outcomes.and_then(|outcomes| outcomes.first().copied().ok_or_else(no_outcome));
            (node.to_string(), outcome)
        });
        futures::future::join_all(puts).await
    }
}

/// Enters what came of a try.
///
/// No refusal ends a job that is not held anywhere: the entry was checked here as the nodes do, so that a refusal for good
/// is a lie or of this node alone. It ends when it expires.
fn enter(job: &mut Job, sent: Result<Vec<Sent>, String>, copies: usize, now: u64) {
    job.tries = job.tries.saturating_add(1);
    match sent {
        Ok(answers) => {
            for (node, outcome) in &answers {
                if outcome.as_ref().is_ok_and(|outcome| outcome.is_held()) && !job.holders.contains(node) {
                    job.holders.push(node.clone());
                }
            }
            job.error = None;
            job.answers = answers
                .into_iter()
                .take(MAX_ANSWERS)
                .map(|(node, outcome)| NodeAnswer {
                    node,
                    outcome: outcome
                        .map_or_else(|error| error.to_string(), |outcome| outcome.name().to_owned()),
                })
                .collect();
        }
        Err(error) => job.error = Some(error),
    }
    if job.state == JobState::Sending && !job.holders.is_empty() {
        job.state = JobState::Stored;
        job.settled = Some(now);
        // The tries that found nobody do not count against those that look for more.
        job.tries = 1;
    }
    let pause = (1_u64 << job.tries.min(16)).min(LONGEST_PAUSE);
    job.next_try = Some(now.saturating_add(pause));
    if job.state != JobState::Stored {
        return;
    }
    if job.holders.len() >= copies || job.tries > EXTRA_TRIES {
        job.next_try = None;
        job.error = None;
    }
}

#[cfg(test)]
mod tests {
    use p2pdb_protocol::{id::EntryId, refusal::Refusal};

    use super::*;

    fn job() -> Job {
        Job {
            id: EntryId::from_bytes([1; 32]),
            space: "notes".to_owned(),
            app: String::new(),
            state: JobState::Sending,
            accepted: 100,
            expires: None,
            table_key: String::new(),
            handed_out: true,
            holders: Vec::new(),
            answers: Vec::new(),
            tries: 0,
            next_try: Some(100),
            error: None,
            settled: None,
            idempotency: None,
        }
    }

    fn answer(node: &str, outcome: Outcome) -> Sent {
        (node.to_owned(), Ok(outcome))
    }

    #[test]
    fn nobody_there_is_tried_again_with_growing_pauses() {
        let mut job = job();
        let mut pauses = Vec::new();
        for _ in 0..12 {
            enter(&mut job, Err("nobody".to_owned()), 3, 1000);
            pauses.push(job.next_try.unwrap() - 1000);
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert_eq!((job.state, job.error.as_deref()), (JobState::Sending, Some("nobody")));
    }

    #[test]
    fn no_refusal_ends_a_job_that_nobody_holds() {
        let mut job = job();
        enter(&mut job, Ok(vec![answer("a", Outcome::Refused(Refusal::SignatureInvalid))]), 3, 1000);
        assert_eq!((job.state, job.next_try), (JobState::Sending, Some(1002)));
        assert_eq!(job.answers[0].outcome, "signature_invalid");
    }

    #[test]
    fn one_node_is_enough_and_more_are_tried_for_a_while() {
        let mut job = job();
        for _ in 0..9 {
            enter(&mut job, Err("nobody".to_owned()), 2, 1000);
        }
        enter(&mut job, Ok(vec![answer("a", Outcome::Stored)]), 2, 2000);
        assert_eq!((job.state, job.settled, job.next_try), (JobState::Stored, Some(2000), Some(2002)));
        // The same node once more does not count twice.
        enter(&mut job, Ok(vec![answer("a", Outcome::Known)]), 2, 2002);
        assert_eq!((job.holders.len(), job.next_try), (1, Some(2006)));
        enter(&mut job, Ok(vec![answer("b", Outcome::Known)]), 2, 2006);
        assert_eq!((job.holders.len(), job.next_try, job.settled), (2, None, Some(2000)));
    }

    #[test]
    fn looking_for_more_nodes_ends() {
        let mut job = job();
        enter(&mut job, Ok(vec![answer("a", Outcome::Stored)]), 3, 1000);
        let mut more = 0;
        while job.next_try.is_some() {
            enter(&mut job, Err("nobody".to_owned()), 3, 1000);
            more += 1;
        }
        assert_eq!((more, job.state), (EXTRA_TRIES, JobState::Stored));
    }
}
