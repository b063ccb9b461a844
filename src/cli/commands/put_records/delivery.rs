//! Brings batches of entries to nodes, and comes back when they are busy or away.

use std::{cmp::Reverse, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use libp2p::PeerId;
use p2pdb_protocol::{
    entry::Entry,
    keys::PublicKey,
    message::Status,
    refusal::{Outcome, Refusal},
};

use crate::{client::Client, clock::monotonic, swarm::RequestError};

/// A batch is given up if no node takes any of it for so long: a node that is restarted is back by then, and the quota
/// of a minute is refilled.
const PATIENCE: Duration = Duration::from_secs(120);
/// Shortest and longest pause before nodes are asked again.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Where entries of one table go.
pub(super) struct Delivery<'a> {
    pub(super) client: &'a Client,
    pub(super) nodes: &'a [PeerId],
    pub(super) table: &'a PublicKey,
}

/// What became of a batch.
pub(super) struct Delivered {
    /// The best outcome of each entry at any node, in the order of the batch.
    pub(super) outcomes: Vec<Outcome>,
    /// How often the nodes were asked again.
    pub(super) retries: u64,
}

impl Delivery<'_> {
    /// Puts a batch to all nodes at once, again and again until each entry has a final outcome at some node.
    pub(super) async fn deliver(&self, entries: &[Entry]) -> Result<Delivered> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; entries.len()];
        let mut retries = 0;
        let mut progress = monotonic();
        loop {
            let (places, pending): (Vec<usize>, Vec<Entry>) = (entries.iter().enumerate())
                .filter(|(place, _)| outcomes.get(*place).is_some_and(Option::is_none))
                .map(|(place, entry)| (place, entry.clone()))
                .unzip();
            let puts = self.nodes.iter().map(|node| self.client.put_to(*node, &pending, self.table));
            let answers = futures::future::join_all(puts).await;
            for (asked, place) in places.into_iter().enumerate() {
                let answered = answers.iter().flatten().filter_map(|outcomes| outcomes.get(asked).copied());
                let best = answered.filter(|outcome| is_final(*outcome)).max_by_key(|outcome| rank(*outcome));
                if let (Some(slot), Some(best)) = (outcomes.get_mut(place), best) {
                    *slot = Some(best);
                    progress = monotonic();
                }
            }
            if let Some(outcomes) = outcomes.iter().copied().collect() {
                return Ok(Delivered { outcomes, retries });
            }
            let error = worst(answers);
            if progress.elapsed() > PATIENCE || error.as_ref().is_some_and(is_permanent) {
                return Err(error.map_or_else(|| anyhow!("the nodes are busy"), Into::into))
                    .context("the nodes do not take the entries");
            }
            retries += 1;
            let wait = error.as_ref().and_then(retry_after).unwrap_or(SHORTEST_PAUSE);
            tracing::info!(?error, ?wait, "the nodes have to be asked again");
            tokio::time::sleep(wait.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
        }
    }
}

/// Whether asking again would not change it.
fn is_final(outcome: Outcome) -> bool {
    outcome != Outcome::Refused(Refusal::Busy)
}

/// An entry that one node stored is stored, whatever others say.
fn rank(outcome: Outcome) -> Reverse<u8> {
    Reverse(match outcome {
        Outcome::Stored => 0,
        Outcome::Known => 1,
        Outcome::Refused(_) => 2,
    })
}

/// The error that decides: if any node may answer yet, one that does.
fn worst(answers: Vec<Result<Vec<Outcome>, RequestError>>) -> Option<RequestError> {
    let mut errors: Vec<RequestError> = answers.into_iter().filter_map(Result::err).collect();
    errors.sort_by_key(is_permanent);
    errors.into_iter().next()
}

/// Whether asking again makes no sense.
fn is_permanent(error: &RequestError) -> bool {
    match error {
        RequestError::Unreachable { .. } | RequestError::Timeout | RequestError::Closed => false,
        RequestError::Refused { status, .. } => !matches!(status, Status::Busy | Status::RateLimited),
        _ => true,
    }
}

fn retry_after(error: &RequestError) -> Option<Duration> {
    match error {
        RequestError::Refused { retry_after, .. } => *retry_after,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_outcome_counts() {
        let refused = Outcome::Refused(Refusal::QuotaExceeded);
        let best = |outcomes: &[Outcome]| outcomes.iter().copied().max_by_key(|outcome| rank(*outcome));
        assert_eq!(best(&[refused, Outcome::Known, Outcome::Stored]), Some(Outcome::Stored));
        assert_eq!(best(&[Outcome::Known, refused]), Some(Outcome::Known));
        assert!(!is_final(Outcome::Refused(Refusal::Busy)));
    }

    #[test]
    fn a_node_that_may_be_back_is_waited_for() {
        let retry = |status| RequestError::Refused { status, retry_after: Some(Duration::from_secs(3)) };
        let errors = vec![Err(RequestError::ShutDown), Err(RequestError::Closed)];
        assert!(worst(errors).is_some_and(|error| !is_permanent(&error)));
        assert!(!is_permanent(&retry(Status::RateLimited)));
        assert!(is_permanent(&retry(Status::BadRequest)));
        assert_eq!(retry_after(&retry(Status::Busy)), Some(Duration::from_secs(3)));
    }
}
