//! What honest peers do meanwhile.

use std::time::Duration;

use p2pdb::{
    client::ClientError,
    clock::monotonic,
    protocol::{
        entry::Entry,
        filter::Filter,
        id::EntryId,
        message::Status,
        refusal::{Outcome, Refusal},
    },
    swarm::RequestError,
};
use serde_json::Value;

use super::{ROUNDS, Siege, follower, report::Times, status};
use crate::{
    cli::Home,
    cli_nodes::Node,
    support::{entry, eventually, key, table},
};

/// How long it takes until a node reconciles with the same other one again: ten seconds at least, and its turn comes every second
/// or so.
const NEXT_SESSION: Duration = Duration::from_secs(12);

impl Siege {
    pub(super) fn entry(&self, text: &str) -> Entry {
        entry(&self.network, table(), key(1).public_key(), text)
    }

    pub(super) fn prepare(&mut self) {
        self.coming = (0..ROUNDS).map(|number| self.entry(&format!("honest {number}"))).collect();
    }

    pub(super) async fn put(&mut self, entry: Entry) {
        // A node that is busy says so, and is asked again.
        eventually("the node takes an honest entry", || async {
            match self.client.put_to(self.peer, std::slice::from_ref(&entry), table().public_key()).await {
                Ok(outcomes) if outcomes[0] == Outcome::Refused(Refusal::Busy) => None,
                Ok(outcomes) => {
                    assert!(outcomes[0].is_held(), "{outcomes:?}");
                    Some(())
                }
                Err(error) => is_busy(&error),
            }
        })
        .await;
        self.entries.push(entry);
    }

    async fn get(&self, id: EntryId) {
        let found = eventually("an honest get is answered", || async {
            match self.client.get_all(self.peer, &Filter::ids(vec![id])).await {
                Ok(found) => Some(found),
                Err(ClientError::Request(error)) => is_busy(&error),
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(found.await[0].id(), id);
    }

    /// Has a node join that hears nothing, and fetches by reconciliation what it lacks.
    pub(super) async fn join(&mut self) {
        if self.far.1.is_none() {
            // One announced id a minute, so that not even what is put while it is there comes to it by gossip.
            let args = [
                &follower(&self.node.address)[..],
                &["--set", "rates.announce=1", "--set", "sync_interval=1 s"],
            ]
            .concat();
            self.far.1 = Some(Node::run(&self.far.0, &args));
        }
        self.all_at("the node that joins", &self.far.0).await;
    }

    async fn all_at(&self, whose: &str, home: &Home) -> Value {
        eventually(&format!("{whose} has every entry"), || async {
            let status = status(home).await;
            (status["entries"] == self.entries.len()).then_some(status)
        })
        .await
    }

    /// What honest peers need: for a put and for a get of it, the medians of some and the longest; until a node that listens has all that was
    /// put, and until one has it that joins.
    pub(super) async fn honest(&mut self) -> Times {
        let (mut puts, mut gets, mut put_at) = (Vec::new(), Vec::new(), monotonic());
        // Of who is there already.
        let before = match &self.far.1 {
            Some(_) => reconciled(&self.far.0).await,
            None => 0,
        };
        for entry in std::mem::take(&mut self.coming) {
            let id = entry.id();
            let began = monotonic();
            self.put(entry).await;
            put_at = monotonic();
            puts.push(put_at - began);
            self.get(id).await;
            gets.push(put_at.elapsed());
        }
        self.all_at("the node that listens", &self.near.0).await;
        let heard = put_at.elapsed();
        // Who is there already waits for his turn.
        let patience = if self.far.1.is_some() { NEXT_SESSION } else { Duration::ZERO };
        let began = monotonic();
        self.join().await;
        let joined = began.elapsed().saturating_sub(patience);
        let reconciled = reconciled(&self.far.0).await - before;
        if patience.is_zero() {
            self.far.1 = None;
        }
        // One may have been announced to it.
        assert!(reconciled >= ROUNDS - 1, "the node that joins reconciles: {reconciled}");
        self.prepare();
        puts.sort_unstable();
        gets.sort_unstable();
        let longest = puts[ROUNDS - 1].max(gets[ROUNDS - 1]);
        Times { put: puts[ROUNDS / 2], get: gets[ROUNDS / 2], longest, heard, joined }
    }
}

/// Entries that a node got by reconciliation.
async fn reconciled(home: &Home) -> usize {
    status(home).await["gate"]["reconciled"].as_u64().unwrap() as usize
}

/// None if the node said that it is busy; all else is a failure.
fn is_busy<T>(error: &RequestError) -> Option<T> {
    assert!(matches!(error, RequestError::Refused { status: Status::Busy, .. }), "{error}");
    None
}
