//! Puts an entry to several nodes and says what each of them did with it.

use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::{Blob, List, TooLong},
    entry::Entry,
    keys::PublicKey,
    message::put::{Put, PutRequest},
    refusal::Outcome,
};

use crate::{
    client::{Client, ClientError},
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
    /// Puts an entry to as many mirrors of its table as the client is set to, or as there are.
    ///
    /// # Errors
    /// If no mirror can be reached. That nodes refuse the entry is no error, but in the report.
    pub async fn put(&self, entry: &Entry, table: &PublicKey) -> Result<PutReport, ClientError> {
        let nodes = self.nodes(&[entry.header().table], self.inner.nodes).await?;
        let puts = nodes.into_iter().map(|node| async move {
            let outcomes = self.put_to(node, std::slice::from_ref(entry), table).await;
            let outcome = outcomes.and_then(|outcomes| {
                outcomes.first().copied().ok_or_else(|| RequestError::Invalid("no outcome".to_owned()))
            });
            NodePut { node, outcome }
        });
        Ok(PutReport { nodes: futures::future::join_all(puts).await })
    }

    /// Puts entries of one table to one node: at most [`p2pdb_protocol::limits::MAX_PUT_ENTRIES`], and 1 MiB in all.
    ///
    /// # Errors
    /// If the node does not answer, or not for each of the entries.
    pub async fn put_to(
        &self,
        node: PeerId,
        entries: &[Entry],
        table: &PublicKey,
    ) -> Result<Vec<Outcome>, RequestError> {
        let too_long = |error: TooLong| RequestError::Invalid(error.to_string());
        let encoded = entries.iter().map(|entry| Blob::try_from(entry.encoded().clone()));
        let encoded = encoded.collect::<Result<Vec<_>, _>>().map_err(too_long)?;
        let key = Blob::try_from(table.der().to_vec()).map_err(too_long)?;
        let request = PutRequest {
            entries: List::try_from(encoded).map_err(too_long)?,
            keys: List::try_from(vec![key]).map_err(too_long)?,
        };
        let response = self.inner.swarm.request::<Put>(node, request).await?;
        if response.outcomes.len() != entries.len() {
            let text = format!("{} outcomes, expected {}", response.outcomes.len(), entries.len());
            return Err(RequestError::Invalid(text));
        }
        Ok(response.outcomes.into_inner().into_iter().map(Outcome::from_code).collect())
    }
}
