//! Runs checks on as many threads as there are cores, off the threads that serve the network.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Bounds how much of the blocking pool the checks take.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    workers: Arc<Semaphore>,
}

impl Pool {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { workers: Arc::new(Semaphore::new(cores)) }
    }

    /// Runs `work` when a worker is free; none if it panicked or the program ends.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let _worker = self.workers.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok()
    }
}
