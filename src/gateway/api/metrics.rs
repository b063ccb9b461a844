//! `GET /metrics`: the daemon in numbers, in the text format of Prometheus.

use std::{fmt::Write as _, sync::Arc};

use axum::{Extension, extract::State, http::header, response::IntoResponse};

use crate::gateway::{App, problem::Problem, tokens::Access};

/// The daemon in numbers. Only the owner may see them: they tell of all spaces.
#[utoipa::path(get, path = "/metrics", tag = "daemon",
    responses((status = 200, description = "the text format of Prometheus", content_type = "text/plain", body = String), Problem))]
pub(super) async fn metrics(
    State(app): State<Arc<App>>,
    Extension(access): Extension<Arc<Access>>,
) -> Result<impl IntoResponse, Problem> {
    access.permit_owner()?;
    let stats = app.mirror.store().stats().await?;
    let [queued, sending, spreading] = app.outbox.count_open().await?;
    let connected = app.client.swarm().serving_peers().await.map_or(0, |peers| peers.len());
    let (requests, streams) = (app.requests.taken(), app.streams.taken());
    let mut text = String::new();
    for (name, help, value) in [
        ("start_time_seconds", "When the daemon was started.", app.started),
        ("nodes_connected", "Nodes that it is connected with.", connected as u64),
        ("nodes_known", "Nodes that it knows of.", app.client.routes().len() as u64),
        ("spaces", "Spaces.", app.spaces.all().len() as u64),
        ("mirror_entries", "Entries in the mirror.", stats.entries),
        ("mirror_disk_bytes", "What the mirror takes on the disk.", stats.disk_bytes),
        (
            "opened_entries",
            "Entries that are kept in memory as they are shown.",
            app.reader.remembered() as u64,
        ),
        ("outbox_queued", "Jobs whose proof of work is not done.", queued),
        ("outbox_sending", "Jobs that no node holds yet.", sending),
        ("outbox_spreading", "Jobs that are stored, and tried at further nodes.", spreading),
        ("requests", "Requests under way.", requests as u64),
        ("streams", "Streams of events that are open.", streams as u64),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "# HELP p2pdb_gateway_{name} {help}\n# TYPE p2pdb_gateway_{name} gauge\np2pdb_gateway_{name} {value}"
        );
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
