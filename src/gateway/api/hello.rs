//! `GET /v1/hello`: the network, and the nodes that are known.

use std::{collections::HashSet, sync::Arc};

use axum::{Extension, extract::State, response::IntoResponse};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{extract::Query, ok, openapi::OrNotFound};
use crate::{
    gateway::{App, problem::Problem, tokens::Access},
    swarm::routes::Route,
};

/// Nodes in one answer, at most.
const MAX_NODES: usize = 256;

/// Which nodes to tell of.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HelloParams {
    /// Only nodes that mirror the table of this space.
    space: Option<String>,
}

/// The network, and the nodes that are known.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HelloAnswer {
    /// What all nodes share, and enforce.
    network: NetworkShown,
    /// The nodes, those met first.
    nodes: Vec<NodeShown>,
}

/// The parameters of the network (SPEC 2).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NetworkShown {
    id: String,
    name: String,
    /// Buckets of each table.
    buckets: u32,
    /// Hashes that an entry of up to `work_base_bytes` costs, on average.
    work_price: u64,
    work_base_bytes: u64,
    /// Puzzles that the work is made of.
    work_puzzles: u64,
    /// Longest entry, in bytes.
    max_entry_bytes: u64,
    /// How far ahead of a node's clock an entry may be made, in seconds.
    max_clock_ahead: u64,
    epoch_seconds: u64,
}

/// A node, as its own signed record describes it (SPEC 7.1).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct NodeShown {
    /// Its peer id.
    node: String,
    /// Where it says it listens, as far as that may lead to it from here.
    addresses: Vec<String>,
    /// Whether it is connected now.
    connected: bool,
    /// Whether it was met, and not only heard of.
    met: bool,
    /// When that was, in unix seconds.
    seen: u64,
    /// The tables it mirrors; absent: every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    tables: Option<Vec<String>>,
    /// For how many seconds it keeps an entry; 0: no limit by age.
    horizon: u64,
    /// How many entries a peer may put per minute.
    puts_per_minute: u64,
}

/// The network with the limits that are enforced, and the nodes that are known, met or heard of.
#[utoipa::path(get, path = "/v1/hello", tag = "entries", params(HelloParams), responses((status = 200, description = "network and nodes", body = HelloAnswer), Problem, OrNotFound))]
pub(super) async fn hello(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
    Query(params): Query<HelloParams>,
) -> Result<impl IntoResponse, Problem> {
    let table = match params.space {
        None => None,
        Some(name) => {
            let space = app.spaces.find(&name).ok().filter(|_| access.sees(&name));
            let unknown = || Problem::not_found("space", &name, "list the spaces with GET /v1/spaces");
            Some(space.ok_or_else(unknown)?.table())
        }
    };
    let connected: HashSet<_> =
        app.client.swarm().serving_peers().await.unwrap_or_default().into_iter().collect();
    let routes = app.client.routes().mirrors(table.as_ref().map(std::slice::from_ref), MAX_NODES);
    let shown = |route: &Route| {
        let record = route.record();
        let tables = record.tables.as_ref();
        NodeShown {
            node: route.peer.to_string(),
            addresses: route.addresses().map(|address: Multiaddr| address.to_string()).collect(),
            connected: connected.contains(&route.peer),
            met: route.met,
            seen: route.seen,
            tables: tables.map(|tables| tables.iter().map(ToString::to_string).collect()),
            horizon: record.horizon,
            puts_per_minute: record.puts_per_minute,
        }
    };
    let network = app.client.network();
    Ok(ok(HelloAnswer {
        network: NetworkShown {
            id: network.id().to_string(),
            name: network.name.clone(),
            buckets: 1 << network.bucket_bits,
            work_price: network.work_price,
            work_base_bytes: network.work_base_bytes,
            work_puzzles: network.work_puzzles,
            max_entry_bytes: network.max_entry_bytes,
            max_clock_ahead: network.max_clock_ahead,
            epoch_seconds: network.epoch_seconds,
        },
        nodes: routes.iter().map(shown).collect(),
    }))
}
