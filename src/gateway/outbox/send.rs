//! Sends what is worked for to nodes, until enough of them hold it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::PeerId;
use p2pdb_protocol::{entry::Entry, keys::PublicKey, refusal::Outcome};
use tokio::{sync::broadcast::error::RecvError, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{EXPIRED, Job, JobState, NodeAnswer, Outbox, OutboxError, mine::table_key};
use crate::swarm::{Event, RequestError};

/// Jobs that are sent at the same time, and those among them of one table: its nodes may be slow.
const AT_ONCE: usize = 16;
const OF_TABLE: usize = 4;
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
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.send_all(&mut tasks) => {}
        }
        tasks.shutdown().await;
    }

    async fn send_all(self: &Arc<Self>, tasks: &mut JoinSet<u64>) {
        if let Err(error) = self.show_unsent().await {
            tracing::error!(%error, "the outbox cannot be read");
        }
        let mut events = self.client.swarm().events();
        let mut sending = Sending::default();
        loop {
            let pause = match self.blocking(|file| file.to_send()).await {
                Ok(jobs) => {
                    let now = self.clock.now();
                    let (turns, next) = sending.choose(jobs, now);
                    for (number, job) in turns {
                        tasks.spawn(Arc::clone(self).send_one(number, job));
                    }
                    next.map(|at| Duration::from_secs(at.saturating_sub(now).max(1)))
                }
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
            tokio::select! {
                Some(done) = tasks.join_next() => match done {
                    Ok(number) => _ = sending.under_way.remove(&number),
                    // Which one it was is not known.
                    Err(_) => sending.under_way.clear(),
                },
                // A node that introduces itself may be the one that was missed: what failed is due at once.
                () = introduced => sending.hurry = self.clock.now(),
                () = self.to_send.notified() => {}
                () = later => {}
            }
        }
    }

    /// The daemon may have died between a proof and the mirror.
    async fn show_unsent(&self) -> Result<(), OutboxError> {
        for (number, job) in self.blocking(|file| file.to_send()).await? {
            if !job.handed_out
                && let Ok(Some(entry)) = self.entry(number).await
            {
                self.show(&job, entry).await;
            }
        }
        Ok(())
    }

    async fn entry(&self, number: u64) -> Result<Option<Entry>, OutboxError> {
        let network = self.network.clone();
        self.blocking(move |file| file.entry(number, &network)).await
    }

    /// One try to send one job. What goes wrong with it is its own affair.
    async fn send_one(self: Arc<Self>, number: u64, job: Job) -> u64 {
        let failed = match self.try_one(number, &job).await {
            Err(OutboxError::Damaged(why)) => {
                tracing::error!(number, why, "a job is given up");
                let now = self.clock.now();
                self.blocking(move |file| file.fail(number, why, now)).await.map(drop)
            }
            tried => tried,
        };
        self.note_change();
        if let Err(error) = failed {
            tracing::error!(number, %error, "a job does not get on, trying again");
            tokio::time::sleep(PAUSE).await;
        }
        number
    }

    async fn try_one(&self, number: u64, job: &Job) -> Result<(), OutboxError> {
        let now = self.clock.now();
        if job.state == JobState::Sending && job.expires.is_some_and(|expires| expires <= now) {
            return self.blocking(move |file| file.fail(number, EXPIRED.to_owned(), now)).await.map(drop);
        }
        let Some(entry) = self.entry(number).await? else {
            // Who cancelled it meanwhile has its entry removed.
            let is_open = self.find(job.id).await?.is_some_and(|job| job.next_try.is_some());
            return if is_open { Err(OutboxError::Damaged("it has no entry".to_owned())) } else { Ok(()) };
        };
        let key = table_key(job).ok_or_else(|| OutboxError::Damaged("its table has no key".to_owned()))?;
        let reached = match self.client.nodes(&[key.table_id()], self.copies).await {
            Ok(nodes) => {
                // From here on it cannot be taken back; this is on the disk before a node hears of it.
                if self.blocking(move |file| file.hand_out(number)).await?.is_none() {
                    return Ok(());
                }
                let mut puts: FuturesUnordered<_> =
                    nodes.into_iter().map(|node| self.put_to(node, &entry, &key)).collect();
                // One that holds it is enough for whoever waits: the slow ones are entered when they answer.
                while let Some(sent) = puts.next().await {
                    let now = self.clock.now();
                    self.blocking(move |file| file.tried(number, |job| heard(job, sent, now))).await?;
                    self.note_change();
                }
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        };
        let (now, copies) = (self.clock.now(), self.copies);
        self.blocking(move |file| file.tried(number, |job| enter(job, reached, copies, now))).await.map(drop)
    }

    async fn put_to(&self, node: PeerId, entry: &Entry, key: &PublicKey) -> Sent {
        let outcomes = self.client.put_to(node, std::slice::from_ref(entry), key).await;
        let no_outcome = || RequestError::Invalid("no outcome".to_owned());
        let outcome = outcomes.and_then(|outcomes| outcomes.first().copied().ok_or_else(no_outcome));
        (node.to_string(), outcome)
    }
}

/// What is being sent.
#[derive(Debug, Default)]
struct Sending {
    /// The jobs, and their tables' keys.
    under_way: HashMap<u64, String>,
    /// Jobs that found no node before this time are due, in unix seconds.
    hurry: u64,
}

impl Sending {
    /// The jobs to begin with now, which count as under way; and when to look again, unless a job ends before that.
    fn choose(&mut self, jobs: Vec<(u64, Job)>, now: u64) -> (Vec<(u64, Job)>, Option<u64>) {
        let mut of_table: HashMap<String, usize> = HashMap::new();
        for table in self.under_way.values() {
            *of_table.entry(table.clone()).or_default() += 1;
        }
        let (mut turns, mut next) = (Vec::new(), None);
        for (number, job) in jobs {
            let Some(at) = job.next_try.filter(|_| !self.under_way.contains_key(&number)) else { continue };
            // The pause behind a try says when that was.
            let missed = job.error.is_some() && at.saturating_sub(pause(job.tries)) <= self.hurry;
            if at > now && !missed {
                next = Some(next.map_or(at, |next: u64| next.min(at)));
                continue;
            }
            let places = of_table.entry(job.table_key.clone()).or_default();
            if *places < OF_TABLE && self.under_way.len() < AT_ONCE {
                *places += 1;
                self.under_way.insert(number, job.table_key.clone());
                turns.push((number, job));
            }
        }
        (turns, next)
    }
}

/// The pause after so many tries, in seconds.
fn pause(tries: u32) -> u64 {
    (1_u64 << tries.min(16)).min(LONGEST_PAUSE)
}

/// Enters what a node did with the entry.
fn heard(job: &mut Job, (node, outcome): Sent, now: u64) {
    if outcome.as_ref().is_ok_and(|outcome| outcome.is_held()) && !job.holders.contains(&node) {
        job.holders.push(node.clone());
    }
    if job.answers.len() < MAX_ANSWERS {
        let outcome = outcome.map_or_else(|error| error.to_string(), |outcome| outcome.name().to_owned());
        job.answers.push(NodeAnswer { node, outcome });
    }
    if job.state == JobState::Sending && !job.holders.is_empty() {
        job.state = JobState::Stored;
        job.settled = Some(now);
        // The tries that found nobody do not count against those that look for more.
        job.tries = 0;
    }
}

/// Enters the end of a try, or why no node was reached.
///
/// No refusal ends a job that is not held anywhere: the entry was checked here as the nodes do, so that a refusal for good
/// is a lie or of this node alone. It ends when it expires, or is given up.
fn enter(job: &mut Job, reached: Result<(), String>, copies: usize, now: u64) {
    job.tries = job.tries.saturating_add(1);
    job.error = reached.err();
    job.next_try = Some(now.saturating_add(pause(job.tries)));
    if job.state == JobState::Stored && (job.holders.len() >= copies || job.tries > EXTRA_TRIES) {
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

    /// A whole try.
    fn enter(job: &mut Job, sent: Result<Vec<Sent>, String>, copies: usize, now: u64) {
        let reached = sent.map(|answers| {
            job.answers.clear();
            answers.into_iter().for_each(|sent| heard(job, sent, now));
        });
        super::enter(job, reached, copies, now);
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

    #[test]
    fn a_job_is_stored_when_the_first_node_holds_it() {
        let mut job = job();
        heard(&mut job, answer("fast", Outcome::Stored), 1000);
        assert_eq!((job.state, job.settled), (JobState::Stored, Some(1000)));
        assert!(job.next_try.is_some(), "the others are still being waited for");
    }

    #[test]
    fn a_table_whose_nodes_hang_leaves_places_for_others() {
        let of =
            |table: &str, next_try| Job { table_key: table.to_owned(), next_try: Some(next_try), ..job() };
        let mut jobs: Vec<(u64, Job)> = (0..100).map(|number| (number, of("hangs", 100))).collect();
        jobs.push((100, of("other", 100)));
        jobs.push((101, of("other", 500)));
        let mut sending = Sending::default();
        let (turns, next) = sending.choose(jobs.clone(), 200);
        let numbers: Vec<u64> = turns.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, next), (vec![0, 1, 2, 3, 100], Some(500)));
        assert!(sending.choose(jobs.clone(), 200).0.is_empty(), "all of these are under way");
        // One that ends lets the next one of its table in.
        sending.under_way.remove(&2);
        jobs.remove(2);
        assert_eq!(sending.choose(jobs, 200).0.first().map(|(number, _)| *number), Some(4));
    }

    #[test]
    fn a_node_that_shows_up_makes_due_what_was_missed_before_and_that_once() {
        let mut missed = job();
        enter(&mut missed, Err("nobody".to_owned()), 1, 1000);
        let mut sending = Sending { hurry: 999, ..Sending::default() };
        assert_eq!(sending.choose(vec![(1, missed.clone())], 1001).1, Some(1002));
        sending.hurry = 1001;
        assert_eq!(sending.choose(vec![(1, missed.clone())], 1001).0.len(), 1);
        sending.under_way.clear();
        enter(&mut missed, Err("nobody".to_owned()), 1, 1006);
        assert!(sending.choose(vec![(1, missed)], 1007).0.is_empty());
    }
}
