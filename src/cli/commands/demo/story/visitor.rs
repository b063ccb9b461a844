//! Clients that come to one node.

use anyhow::{Context as _, Result};
use libp2p::PeerId;
use p2pdb_protocol::{entry::Entry, network::Network, refusal::Outcome};

use super::{super::process::NodeProcess, DEADLINE, People};
use crate::client::{Client, ClientConfig};

/// A client that has just come, connected with one node.
pub(super) struct Visitor {
    pub(super) client: Client,
    pub(super) node: PeerId,
}

impl Visitor {
    pub(super) async fn new(network: &Network, node: &NodeProcess) -> Result<Self> {
        let client = Client::start(ClientConfig {
            network: network.clone(),
            bootstrap: vec![node.address().clone()],
            nodes: 3,
            patience: DEADLINE,
        })
        .await?;
        let met = async {
            let peer = client.connect(node.address().clone()).await?;
            client.hello(peer, None).await.map(|_| peer)
        };
        match met.await {
            Ok(peer) => Ok(Self { client, node: peer }),
            Err(error) => {
                // That it ended tells more than that it does not answer.
                node.check_alive()?;
                Err(error).with_context(|| format!("node {} does not answer a client", node.name))
            }
        }
    }

    pub(super) async fn put(&self, entry: &Entry, people: &People) -> Result<Vec<Outcome>> {
        Ok(self.client.put_to(self.node, std::slice::from_ref(entry), people.table.public_key()).await?)
    }
}
