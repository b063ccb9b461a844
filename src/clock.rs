//! The one place where the program reads the time; everything else takes it from a [`Clock`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// A source of the time, shared by its clones.
#[derive(Debug, Clone, Default)]
pub struct Clock(Source);

#[derive(Debug, Clone, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands still until it is moved, for tests and simulations.
    #[must_use]
    pub fn manual(now: u64) -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(now))))
    }

    /// The time in whole seconds since 1970-01-01T00:00:00Z; 0 if the machine is set to before that.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's time")]
    pub fn now(&self) -> u64 {
        match &self.0 {
            Source::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            Source::Manual(now) => now.load(Ordering::Relaxed),
        }
    }

    /// Moves a manual clock to this time; the machine's clock is left alone.
    pub fn set(&self, now: u64) {
        if let Source::Manual(clock) = &self.0 {
            clock.store(now, Ordering::Relaxed);
        }
    }
}

/// A moment that never goes back, for measuring how long something takes.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's time")]
pub fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_for_all_its_clones() {
        let clock = Clock::manual(5);
        let clone = clock.clone();
        clock.set(7);
        assert_eq!(clone.now(), 7);
    }

    #[test]
    fn the_system_clock_is_past_the_year_2025() {
        assert!(Clock::system().now() > 1_735_689_600);
    }
}
