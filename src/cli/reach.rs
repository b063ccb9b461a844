//! How commands reach the network: as a client that listens nowhere.

use std::collections::HashSet;

use anyhow::{Result, anyhow};
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::id::TableId;

use crate::{
    cli::{
        context::Context,
        failure::{Advise as _, Exit},
        node_config::bootstrap_addresses,
    },
    client::{Client, ClientConfig},
    config::{Period, bootstrap::parse_address},
    node::admin,
};

/// Nodes to ask, and how long to wait for them.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Nodes")]
pub(super) struct ReachArgs {
    /// Ask this node and no other; may be repeated [default: nodes found from the bootstrap lists]
    #[arg(long = "peer", value_name = "MULTIADDR", value_parser = parse_address)]
    peers: Vec<Multiaddr>,
    /// How long to wait for a first node
    #[arg(long, value_name = "PERIOD", default_value = "20 seconds")]
    timeout: Period,
    /// How many nodes to ask
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    nodes: u8,
}

impl ReachArgs {
    /// Whether the nodes to ask are named.
    pub(super) fn names_nodes(&self) -> bool {
        !self.peers.is_empty()
    }

    /// Starts a client of the home's network.
    pub(super) async fn client(&self, context: &Context) -> Result<Client> {
        let network = context.network()?;
        let bootstrap = match self.peers.as_slice() {
            [] => known_nodes(context).await?,
            peers => peers.to_vec(),
        };
        if bootstrap.is_empty() {
            return Err(anyhow!("no node of the network {} is known", network.network.name)).exit(
                Exit::Unreachable,
                "name one with --peer MULTIADDR, add one to `bootstrap.peers` in config.toml, or start one with \
                 `p2pdb run`",
            );
        }
        Ok(Client::start(ClientConfig {
            network: network.network,
            bootstrap,
            nodes: self.nodes.into(),
            patience: self.timeout.into(),
        })
        .await?)
    }

    /// The nodes to ask: those that are named, else some that mirror the tables.
    pub(super) async fn nodes(&self, client: &Client, tables: &[TableId]) -> Result<Vec<PeerId>> {
        if self.peers.is_empty() {
            return Ok(client.nodes(tables, self.nodes.into()).await?);
        }
        let mut nodes = Vec::new();
        let mut failures = Vec::new();
        for address in &self.peers {
            let reached = async {
                let node = client.connect(address.clone()).await?;
                client.hello(node, None).await.map(|_| node)
            };
            match reached.await {
                Ok(node) => nodes.push(node),
                Err(error) => failures.push((address, error)),
            }
        }
        if nodes.is_empty()
            && let Some((_, error)) = failures.pop()
        {
            return Err(error.into());
        }
        for (address, error) in failures {
            tracing::warn!(%address, %error, "going on without a node");
        }
        let mut known = HashSet::new();
        nodes.retain(|node| known.insert(*node));
        Ok(nodes)
    }
}

/// The node that runs on this home, if one does, and the home's bootstrap addresses.
pub(super) async fn known_nodes(context: &Context) -> Result<Vec<Multiaddr>> {
    let home = context.home()?;
    let mut nodes = Vec::new();
    if let Ok(status) = admin::ask(&home.admin_socket(), &admin::Request::Status).await {
        nodes.extend(own_address(&status));
    }
    nodes.extend(bootstrap_addresses(&home, &context.config()?, &context.network()?)?);
    Ok(nodes)
}

/// An address of the node with this status, by which this machine reaches it.
fn own_address(status: &serde_json::Value) -> Option<Multiaddr> {
    let peer = status.get("peer")?.as_str()?.parse().ok()?;
    let listening = status.get("swarm")?.get("listening")?.as_array()?;
    let mut addresses: Vec<Multiaddr> =
        listening.iter().filter_map(|address| address.as_str()?.parse().ok()).collect();
    addresses.sort_by_key(|address| !address.to_string().starts_with("/ip4/127."));
    addresses.into_iter().next()?.with_p2p(peer).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_on_this_machine_is_reached_by_loopback() {
        let peer = "12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
        let listening = ["/ip4/192.0.2.1/tcp/4711", "/ip4/127.0.0.1/tcp/4711"];
        let status = serde_json::json!({ "peer": peer, "swarm": { "listening": listening } });
        let expected = format!("/ip4/127.0.0.1/tcp/4711/p2p/{peer}");
        assert_eq!(own_address(&status).unwrap().to_string(), expected);
        assert_eq!(own_address(&serde_json::json!({ "peer": peer, "swarm": { "listening": [] } })), None);
    }
}
