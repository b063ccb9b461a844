//! Puts an entry to several nodes and says what each of them did with it.

pub(super) mod queue;

use std::collections::HashSet;

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::{Blob, TooLong},
    entry::Entry,
    keys::PublicKey,
    refusal::Outcome,
};

use crate::{
    client::{Client, ClientError, Inner, put::queue::Parcel},
    swarm::RequestError,
};

/// What one node did with an entry.
#[derive(Debug)]
pub struct NodePut {
    /// The node.
    pub node: PeerId,
    /// Its outcome, or why there is none.
    pub outcome: Result<Outcome, RequestError>,
}

impl NodePut {
    /// Whether the node holds the entry now.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.outcome.as_ref().is_ok_and(|outcome| outcome.is_held())
    }
}

/// What became of an entry that was put.
#[derive(Debug)]
pub struct PutReport {
    /// Each node that was asked.
    pub nodes: Vec<NodePut>,
}

impl PutReport {
    /// The nodes that hold the entry now, durably.
    pub fn holders(&self) -> impl Iterator<Item = PeerId> + '_ {
        self.nodes.iter().filter(|put| put.is_held()).map(|put| put.node)
    }
}

impl Client {
    /// Puts an entry to as many mirrors of its table as the client is set to. Where one refuses it, is busy or does not
    /// answer, the next mirror is tried, until so many hold it or there is none left.
    ///
    /// # Errors
    /// If no mirror can be reached. That nodes refuse the entry is no error, but in the report.
    pub async fn put(&self, entry: &Entry, table: &PublicKey) -> Result<PutReport, ClientError> {
        let tables = [entry.header().table];
        let want = self.inner.nodes;
        let mut candidates = self.candidates(&tables, want).await?;
        let mut tried = HashSet::new();
        let mut under_way = FuturesUnordered::new();
        let mut report = PutReport { nodes: Vec::new() };
        loop {
            let mut wanted = want.saturating_sub(report.holders().count() + under_way.len());
            while wanted > 0
                && let Some(node) = candidates.pop()
            {
                if tried.insert(node) {
                    under_way.push(self.put_one(node, entry, table));
                    wanted -= 1;
                }
            }
            match under_way.next().await {
                Some(put) => report.nodes.push(put),
                None => return Ok(report),
            }
            if candidates.is_empty() && report.holders().count() + under_way.len() < want {
                // Others may have been met meanwhile.
                candidates = self.connected_mirrors(&tables).await.unwrap_or_default();
            }
        }
    }

    async fn put_one(&self, node: PeerId, entry: &Entry, table: &PublicKey) -> NodePut {
        let outcomes = self.put_to(node, std::slice::from_ref(entry), table).await;
        let outcome = outcomes.and_then(|outcomes| {
            outcomes.first().copied().ok_or_else(|| RequestError::Invalid("no outcome".to_owned()))
        });
        NodePut { node, outcome }
    }

    /// Puts entries of one table to one node: at most [`p2pdb_protocol::limits::MAX_PUT_ENTRIES`], and 1 MiB in all.
    ///
    /// While two requests to the node are under way, what several tasks put to it waits and goes out together in the next:
    /// for each of them it is as if it were alone, but that a refusal of the whole request meets all.
    ///
    /// # Errors
    /// If the node does not answer, or not for each of the entries.
    pub async fn put_to(
        &self,
        node: PeerId,
        entries: &[Entry],
        table: &PublicKey,
    ) -> Result<Vec<Outcome>, RequestError> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let too_long = |error: TooLong| RequestError::Invalid(error.to_string());
        let encoded = entries.iter().map(|entry| Blob::try_from(entry.encoded().clone()));
        let parcel = Parcel {
            entries: encoded.collect::<Result<Vec<_>, _>>().map_err(too_long)?,
            key: Blob::try_from(table.der().to_vec()).map_err(too_long)?,
        };
        let Inner { puts, swarm, tasks, .. } = &*self.inner;
        puts.put(swarm, tasks, node, parcel).await
    }
}
