//! The threads that check entries: as many as there are cores, off those that serve the network.

use std::{
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    thread,
};

use tokio::{runtime::Handle, sync::broadcast};

use super::{
    Admitted, CHUNK,
    batch::{Batch, Work},
    checks::Checks,
    turns::Turns,
};

/// The workers and what they share. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Workers {
    shared: Arc<Shared>,
    started: OnceLock<()>,
}

#[derive(Debug)]
struct Shared {
    checks: Arc<Checks>,
    turns: Turns<Work>,
    admitted: broadcast::Sender<Admitted>,
}

impl Workers {
    pub(super) fn new(checks: Checks, admitted: broadcast::Sender<Admitted>) -> Self {
        let shared = Arc::new(Shared { checks: Arc::new(checks), turns: Turns::new(), admitted });
        Self { shared, started: OnceLock::new() }
    }

    pub(super) fn checks(&self) -> &Checks {
        &self.shared.checks
    }

    pub(super) fn admitted(&self) -> broadcast::Receiver<Admitted> {
        self.shared.admitted.subscribe()
    }

    /// Queues work for the workers, which the first one starts.
    pub(super) fn push(&self, work: Work) {
        self.started.get_or_init(|| self.start());
        self.shared.turns.push(work.way.lane(), work.entries.len(), work);
    }

    fn start(&self) {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let runtime = Handle::current();
        let mut running = 0;
        for number in 0..cores {
            let (shared, runtime) = (Arc::clone(&self.shared), runtime.clone());
            let worker = thread::Builder::new().name(format!("verify-{number}"));
            match worker.spawn(move || shared.run(&runtime)) {
                Ok(_) => running += 1,
                Err(error) => tracing::error!(%error, "a worker of the gate could not be started"),
            }
        }
        if running == 0 {
            // What nobody will ever look at is answered busy.
            self.shared.turns.close();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.turns.close();
    }
}

impl Shared {
    fn run(&self, runtime: &Handle) {
        while let Some(works) = self.turns.take(CHUNK) {
            // A fault in a check must not end the worker; what was not judged is answered busy.
            let checked =
                catch_unwind(AssertUnwindSafe(|| Batch::new(Arc::clone(&self.checks), works).check(runtime)));
            match checked {
                Ok(Some(verified)) => drop(runtime.spawn(verified.commit(self.admitted.clone()))),
                Ok(None) => {}
                Err(_) => tracing::error!("a check of entries panicked"),
            }
        }
    }
}
