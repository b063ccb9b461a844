//! Puts to a node that several tasks make at once go out together: a request costs a node more than an entry in it
//! (SPEC 8.4).

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::List,
    limits::{MAX_PUT_ENTRIES, MAX_PUT_KEYS, PUT_REQUEST_BYTES},
    message::put::{EntryBytes, KeyBytes, Put, PutRequest},
    refusal::Outcome,
};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::swarm::{Handle, RequestError};

#[cfg(test)]
mod tests;

/// Requests under way to one node. While one is answered the next is on its way; what is put meanwhile waits for a place.
const MAX_UNDER_WAY: usize = 2;
/// What an entry or a key takes in a request besides its own bytes, and what the request takes besides them, at most.
const FRAMING_BYTES: usize = 16;

type Answer = Result<Vec<Outcome>, RequestError>;

/// Entries of one table that are put together, in one request.
#[derive(Debug)]
pub(super) struct Parcel {
    pub(super) entries: Vec<EntryBytes>,
    pub(super) key: KeyBytes,
}

impl Parcel {
    fn entry_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.len() + FRAMING_BYTES).sum()
    }
}

/// What waits to be put, by node.
#[derive(Debug, Default)]
pub(in crate::client) struct Queues {
    of_nodes: Mutex<HashMap<PeerId, Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    under_way: usize,
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    parcel: Parcel,
    answer: oneshot::Sender<Answer>,
}

impl Queues {
    /// Puts entries to a node, together with what others put to it at the same time. Dropped before they are on their way,
    /// they are not put.
    pub(super) async fn put(
        self: &Arc<Self>,
        swarm: &Handle,
        tasks: &TaskTracker,
        node: PeerId,
        parcel: Parcel,
    ) -> Answer {
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut queues = self.lock();
            let queue = queues.entry(node).or_default();
            queue.waiting.push_back(Waiting { parcel, answer });
            let begins = queue.under_way < MAX_UNDER_WAY;
            queue.under_way += usize::from(begins);
            begins
        };
        if begins {
            tasks.spawn(Arc::clone(self).send_all(swarm.clone(), node));
        }
        // Without an answer only if the runtime shuts down.
        answered.await.unwrap_or(Err(RequestError::ShutDown))
    }

    async fn send_all(self: Arc<Self>, swarm: Handle, node: PeerId) {
        while let Some(Batch { entries, keys, lots }) = self.next(node) {
            let answer = match (List::try_from(entries), List::try_from(keys)) {
                (Ok(entries), Ok(keys)) => {
                    let response = swarm.request::<Put>(node, PutRequest { entries, keys }).await;
                    response.map(|response| response.outcomes.into_inner())
                }
                (Err(error), _) | (_, Err(error)) => Err(RequestError::Invalid(error.to_string())),
            };
            share_out(lots, answer);
        }
    }

    /// What to put to a node next; with nothing the task has ended, and its place is free.
    fn next(&self, node: PeerId) -> Option<Batch> {
        let mut queues = self.lock();
        let hash_map::Entry::Occupied(mut queue) = queues.entry(node) else { return None };
        let batch = queue.get_mut().take();
        if batch.lots.is_empty() {
            queue.get_mut().under_way -= 1;
            if queue.get().under_way == 0 {
                queue.remove();
            }
            return None;
        }
        Some(batch)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, Queue>> {
        self.of_nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes out in one request.
#[derive(Debug, Default)]
struct Batch {
    entries: Vec<EntryBytes>,
    keys: Vec<KeyBytes>,
    /// Whose the entries are, in their order.
    lots: Vec<Lot>,
}

#[derive(Debug)]
struct Lot {
    entries: usize,
    answer: oneshot::Sender<Answer>,
}

impl Queue {
    /// Takes what fits one request, in the order in which it came; the first parcel in any case.
    fn take(&mut self) -> Batch {
        let (mut batch, mut bytes) = (Batch::default(), FRAMING_BYTES);
        while let Some(Waiting { parcel, answer }) = self.waiting.pop_front() {
            if answer.is_closed() {
                continue;
            }
            let is_new = !batch.keys.contains(&parcel.key);
            let key_bytes = if is_new { parcel.key.len() + FRAMING_BYTES } else { 0 };
            let after = bytes + parcel.entry_bytes() + key_bytes;
            let fits = batch.entries.len() + parcel.entries.len() <= MAX_PUT_ENTRIES
                && batch.keys.len() + usize::from(is_new) <= MAX_PUT_KEYS
                && after <= PUT_REQUEST_BYTES;
            if !fits && !batch.lots.is_empty() {
                self.waiting.push_front(Waiting { parcel, answer });
                break;
            }
            bytes = after;
            batch.lots.push(Lot { entries: parcel.entries.len(), answer });
            batch.entries.extend(parcel.entries);
            if is_new {
                batch.keys.push(parcel.key);
            }
        }
        batch
    }
}

/// Gives everybody the outcomes of what is his.
fn share_out(lots: Vec<Lot>, answer: Result<Vec<u64>, RequestError>) {
    let expected: usize = lots.iter().map(|lot| lot.entries).sum();
    let answer = answer.and_then(|codes| match codes.len() {
        got if got == expected => Ok(codes),
        got => Err(RequestError::Invalid(format!("{got} outcomes, expected {expected}"))),
    });
    let mut codes = answer.map(IntoIterator::into_iter);
    for Lot { entries, answer } in lots {
        let own = match &mut codes {
            Ok(codes) => Ok(codes.take(entries).map(Outcome::from_code).collect()),
            Err(error) => Err(error.clone()),
        };
        // Who has gone does not want to know.
        let _ = answer.send(own);
    }
}
