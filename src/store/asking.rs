//! How a handle gets its answers: from the writer, from a view on the spot or off the async threads, or in turn.

use std::{
    ffi::c_long,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard},
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

use super::{
    Core, Store, StoreError,
    live::Live,
    query::Reach,
    view::{Before, View},
    writer::{Answer, Request},
};
use crate::clock::monotonic;

/// A short read that takes longer than this, and waited meanwhile, comes from the disk, and is given up.
const QUICK: Duration = Duration::from_millis(2);
/// So is one that takes longer than this, whatever the system says of its waiting.
const LONG: Duration = Duration::from_millis(50);
/// After one of those, reads keep off the async threads for so long; then one of them tries again.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether what is read lies in memory. Then a short read takes less time than it takes to hand it to another thread and its
/// answer back, and is made on the spot. On a disk it can take a hundred times as long, and would hold up everything else
/// that the async thread has to do: the first one that does shows it.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    /// Whether a short read may be tried.
    pub(super) fn try_read(&self, now: Instant) -> bool {
        let mut slow_at = self.lock();
        match *slow_at {
            None => true,
            Some(at) if now.saturating_duration_since(at) < PAUSE => false,
            Some(_) => {
                // The others wait for what comes of it.
                *slow_at = Some(now);
                true
            }
        }
    }

    /// Notes whether a short read was slow.
    fn took(&self, began: Instant, ended: Instant, is_slow: bool) {
        let mut slow_at = self.lock();
        // One that began before another was slow says nothing of what comes after it.
        if is_slow || slow_at.is_none_or(|slow_at| began >= slow_at) {
            *slow_at = is_slow.then_some(ended);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A short read under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Watch {
    pub(super) began: Instant,
    /// How often its thread had waited before, if that can be known.
    pub(super) waits: Option<c_long>,
}

impl Watch {
    fn begin(began: Instant) -> Self {
        Self { began, waits: waits() }
    }

    /// Whether it takes long because of the disk. Who takes long without having waited for anything was only not given the
    /// processor, as happens all the time where there is more to do than there are cores for.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow_at(monotonic())
    }

    fn is_slow_at(&self, now: Instant) -> bool {
        let took = now.saturating_duration_since(self.began);
        took > LONG || took > QUICK && self.waits.is_none_or(|before| waits() != Some(before))
    }
}

/// How often this thread has given up the processor to wait for something, if the system says so.
fn waits() -> Option<c_long> {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::resource::{UsageWho, getrusage};
        getrusage(UsageWho::RUSAGE_THREAD).ok().map(|usage| usage.voluntary_context_switches())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

impl Core {
    pub(super) fn panicked(&self) -> StoreError {
        let reason = "a row could not be read".to_owned();
        StoreError::Damaged { path: self.file.path().to_owned(), reason }
    }

    /// Length of the index file and the log, and what they take on the disk, in bytes.
    pub(super) fn size(&self) -> Result<(u64, u64), StoreError> {
        let (length, on_disk) = self.file.size()?;
        let log = self.log.size().map_err(|error| self.file.fault(error.into()))?;
        Ok((length + log.0, on_disk + log.1))
    }

    /// Runs `read` on a view. Keep it short, as [`StoreFile::read`].
    pub(super) fn view<T>(
        &self,
        read: impl Fn(&View<'_>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let before = Before::take(self);
        self.file.read(|txn| read(&before.view(self, txn)?))
    }

    /// What `read` finds on the spot; nothing if it may take longer.
    fn on_the_spot<T>(
        &self,
        read: impl Fn(&View<'_>, Reach) -> Result<Option<T>, redb::Error>,
    ) -> Option<Result<T, StoreError>> {
        let began = monotonic();
        if !self.pace.try_read(began) {
            return None;
        }
        let watch = Watch::begin(began);
        let reach = Reach::Short(watch);
        let before = Before::take(self);
        let read = || self.file.read_at_once(|txn| read(&before.view(self, txn)?, reach));
        let found = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Some(Err(self.panicked())));
        let (found, ended) = (found.and_then(Result::transpose), monotonic());
        let is_slow = watch.is_slow_at(ended);
        // What gave up early has read nothing, and says nothing.
        if found.is_some() || is_slow {
            self.pace.took(began, ended, is_slow);
        }
        found
    }

    pub(super) fn live(&self) -> RwLockReadGuard<'_, Live> {
        self.live.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn live_mut(&self) -> RwLockWriteGuard<'_, Live> {
        self.live.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    pub(super) async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }

    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if self.requests.is_closed() { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Reads a view, off the async threads.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>) -> Result<T, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.blocking(self.readers(), move |core| core.view(read)).await
    }

    /// Reads a view on the spot, if it is a short read and those are quick just now; else off the async threads.
    pub(super) async fn quickly<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>, Reach) -> Result<Option<T>, redb::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.check_open()?;
        if let Some(found) = self.core.on_the_spot(&read) {
            return found;
        }
        self.look(move |view| read(view, Reach::Whole)).await?.ok_or(StoreError::Busy)
    }

    /// Reads with the number of ids that may be looked at: a few like anything else, any number when it has its turn.
    pub(super) async fn in_turn<T: Send + 'static>(
        &self,
        read: impl Fn(&View<'_>, u64) -> Result<Option<T>, redb::Error> + Clone + Send + 'static,
    ) -> Result<T, StoreError> {
        let short = read.clone();
        if let Some(answer) = self.look(move |view| short(view, view.settings().bounds.listed)).await? {
            return Ok(answer);
        }
        let _place = self.core.waiting.try_acquire().map_err(|_| StoreError::Busy)?;
        let long = move |core: &Core| core.view(|view| read(view, u64::MAX));
        self.blocking(Arc::clone(&self.core.long), long).await?.ok_or(StoreError::Busy)
    }

    pub(super) fn readers(&self) -> Arc<Semaphore> {
        Arc::clone(&self.core.readers)
    }

    /// Works off the async threads, when `turns` permits.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        turns: Arc<Semaphore>,
        work: impl FnOnce(&Core) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let core = Arc::clone(&self.core);
        let permit = turns.acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let task = tokio::task::spawn_blocking(move || {
            // Held until the work ends, also if nobody waits for it any more.
            let _permit = permit;
            work(&core)
        });
        task.await.unwrap_or_else(|error| {
            if error.is_panic() { Err(self.core.panicked()) } else { Err(StoreError::Closed) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_slow_read_one_at_a_time_tries_again_until_one_is_quick() {
        let (pace, now) = (Pace::default(), monotonic());
        assert!(pace.try_read(now) && pace.try_read(now));
        let slow = now + 2 * QUICK;
        pace.took(now, slow, true);
        assert!(!pace.try_read(slow + PAUSE / 2));
        let later = slow + PAUSE;
        assert!(pace.try_read(later) && !pace.try_read(later));
        pace.took(later, later + 2 * QUICK, true);
        assert!(!pace.try_read(later + PAUSE));
        let latest = later + 2 * PAUSE;
        assert!(pace.try_read(latest));
        pace.took(latest, latest + QUICK, false);
        assert!(pace.try_read(latest + QUICK) && pace.try_read(latest + QUICK));
        pace.took(latest, latest + 3 * QUICK, true);
        pace.took(latest, latest + QUICK, false);
        assert!(!pace.try_read(latest + 4 * QUICK), "the quick one had begun before the slow one ended");
    }

    #[test]
    fn a_read_is_slow_if_it_waited_and_not_if_it_worked() {
        let watch = Watch::begin(monotonic());
        assert!(!watch.is_slow_at(watch.began + QUICK));
        while monotonic() <= watch.began + 2 * QUICK {
            std::hint::spin_loop();
        }
        if cfg!(target_os = "linux") {
            assert!(!watch.is_slow(), "it only took its time");
        }
        assert!(watch.is_slow_at(watch.began + 2 * LONG), "nothing takes that long in memory");
        std::thread::sleep(QUICK);
        assert!(watch.is_slow(), "it waited");
    }
}
