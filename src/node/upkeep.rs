//! What a node does now and then: drops what is due, and keeps its routes on disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::home::{Overwrite, write_secret},
    store::Store,
    swarm::{Handle, routes::Routes},
};

const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
const SAVE_INTERVAL: Duration = Duration::from_secs(60);
/// A longer file is not one of ours.
const MAX_ROUTES_BYTES: u64 = 64 << 20;

/// Drops what is expired, beyond the horizon or over a limit, until `shutdown`.
pub(super) async fn sweep(store: Store, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(SWEEP_INTERVAL);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = interval.tick() => match store.sweep().await {
                Ok(swept) if swept.total() > 0 => tracing::info!(?swept, "dropped entries"),
                Ok(_) => {}
                Err(error) => tracing::error!(error = error.with_causes(), "entries that are due could not be dropped"),
            },
        }
    }
}

/// Takes the routes of the last run back.
pub(super) fn load_routes(routes: &Routes, file: &Path, now: u64) {
    match std::fs::metadata(file) {
        Ok(metadata) if metadata.len() <= MAX_ROUTES_BYTES => {}
        Ok(_) => return tracing::warn!(file = %file.display(), "the routes are too large, starting without"),
        Err(_) => return,
    }
    match std::fs::read(file) {
        Ok(bytes) => {
            let good = routes.load(&bytes, now);
            tracing::info!(good, "took back the routes of the last run");
        }
        Err(error) => tracing::warn!(file = %file.display(), %error, "the routes cannot be read"),
    }
}

/// Keeps the routes fresh, and on disk if there is a file, until `shutdown`.
pub(super) async fn keep_routes(
    routes: Arc<Routes>,
    swarm: Handle,
    file: Option<PathBuf>,
    clock: Clock,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SAVE_INTERVAL) => {}
        }
        if let Ok(connected) = swarm.serving_peers().await {
            routes.renew(&connected, clock.now());
        }
        routes.expire(clock.now());
        let Some(file) = file.clone() else { continue };
        let routes = Arc::clone(&routes);
        // It only fails if the program ends.
        let _ = tokio::task::spawn_blocking(move || save_routes(&routes, &file)).await;
    }
}

/// Writes the routes, whole or not at all.
pub(super) fn save_routes(routes: &Routes, file: &Path) {
    if let Err(error) = write_secret(file, &routes.to_bytes(), Overwrite::Yes) {
        let error: &dyn std::error::Error = &error;
        tracing::warn!(file = %file.display(), error, "the routes could not be saved");
    }
}
