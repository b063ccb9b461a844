//! `/health` and `/v1/status`: whether the daemon is there, and how it is.

use std::sync::Arc;

use axum::{Extension, extract::State, response::IntoResponse};
use serde::Serialize;
use utoipa::ToSchema;

use super::ok;
use crate::gateway::{App, problem::Problem, tokens::Access};

/// That the daemon is there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// Always `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the daemon is there; needs no token.
#[utoipa::path(get, path = "/health", tag = "daemon", security(()), responses((status = 200, description = "it is there", body = Health)))]
pub(super) async fn health() -> impl IntoResponse {
    ok(Health { status: "ok" })
}

/// How the daemon is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Version of the program.
    version: &'static str,
    /// The daemon's clock, in unix seconds.
    now: u64,
    /// When it was started, in unix seconds.
    started: u64,
    /// Id of the network.
    network: String,
    /// Name of the network.
    network_name: String,
    /// Nodes that it is connected with.
    nodes_connected: usize,
    /// Nodes that it knows of.
    nodes_known: usize,
    /// Spaces that the token is for.
    spaces: usize,
    /// Entries in the mirror.
    entries: u64,
    /// What the mirror takes on the disk, in bytes.
    disk_bytes: u64,
    /// What the outbox has to do.
    outbox: OutboxStatus,
}

/// What the outbox has to do.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OutboxStatus {
    /// Jobs whose proof of work is not done.
    queued: u64,
    /// Jobs that no node holds yet.
    sending: u64,
    /// Jobs that are stored, and tried at further nodes.
    spreading: u64,
}

/// How the daemon is.
#[utoipa::path(get, path = "/v1/status", tag = "daemon",
    responses((status = 200, description = "how it is", body = Status), Problem))]
pub(super) async fn status(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
) -> Result<impl IntoResponse, Problem> {
    let stats = app.mirror.store().stats().await?;
    let [queued, sending, spreading] = app.outbox.count_open().await?;
    let network = app.client.network();
    Ok(ok(Status {
        version: env!("CARGO_PKG_VERSION"),
        now: app.clock.now(),
        started: app.started,
        network: network.id().to_string(),
        network_name: network.name.clone(),
        nodes_connected: app.client.swarm().serving_peers().await.map_or(0, |peers| peers.len()),
        nodes_known: app.client.routes().len(),
        spaces: app.spaces.all().iter().filter(|space| access.sees(space.name.as_ref())).count(),
        entries: stats.entries,
        disk_bytes: stats.disk_bytes,
        outbox: OutboxStatus { queued, sending, spreading },
    }))
}
