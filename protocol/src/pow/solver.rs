//! Finding the work of an entry, on several threads, with breaks.

use std::{
    num::NonZeroUsize,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use super::{NONCE_BYTES, Puzzle, check, hash::Block};

/// Nonces tried between two looks at what the other threads did: about a millisecond.
const CHUNK: u64 = 1 << 14;
/// Hashes between two reports within one puzzle: about 50 milliseconds of one core.
const REPORT_EVERY: u64 = 1 << 20;
/// The version of the state's format.
const STATE_VERSION: u8 = 1;

/// The work was cancelled; what was found so far is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the proof of work was cancelled")]
pub struct Cancelled;

/// A saved state that is not one of this puzzle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the saved state of the proof of work is damaged or of another entry: begin it anew")]
pub struct StateError;

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Puzzles solved.
    pub solved: u32,
    /// Puzzles in all.
    pub of: u32,
    /// Hashes done, also before a break.
    pub hashes: u64,
}

/// Finds the work of one entry (SPEC 5.2).
///
/// It can be left and taken up again at any moment: [`Solver::state`] is what to save, even while another thread is in
/// [`Solver::solve`], and [`Solver::resume`] takes it up after a restart.
#[derive(Debug)]
pub struct Solver {
    puzzle: Puzzle,
    search: Mutex<Search>,
    /// Held during a report, so that reports come in order.
    report: Mutex<()>,
}

#[derive(Debug)]
struct Search {
    slots: Vec<Slot>,
    hashes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Nonces below `next` were given to some thread. A nonce that a killed thread was given and did not try is never
    /// tried, which costs nothing: each is as good as any other.
    Open {
        next: u64,
    },
    Solved {
        nonce: u64,
    },
}

impl Slot {
    const fn is_solved(self) -> bool {
        matches!(self, Slot::Solved { .. })
    }
}

impl Search {
    /// Gives the next nonces to try to a thread: of the first open puzzle from the thread's own on, so that threads
    /// mostly work on different ones.
    fn next_chunk(&mut self, thread: usize) -> Option<(u32, u64)> {
        let own = thread.checked_rem(self.slots.len())?;
        let (before, after) = self.slots.split_at_mut(own);
        let in_turn = (own..).zip(after).chain((0..).zip(before));
        for (index, slot) in in_turn {
            if let Slot::Open { next } = slot {
                let start = *next;
                *next = start.wrapping_add(CHUNK);
                return Some((u32::try_from(index).ok()?, start));
            }
        }
        None
    }

    fn solved(&self) -> usize {
        self.slots.iter().filter(|slot| slot.is_solved()).count()
    }
}

impl Solver {
    /// A solver that has done nothing yet.
    #[must_use]
    pub fn new(puzzle: Puzzle) -> Self {
        let slots = vec![Slot::Open { next: 0 }; puzzle.puzzles() as usize];
        Self::with(puzzle, Search { slots, hashes: 0 })
    }

    /// A solver that continues where the one that gave this [`Solver::state`] was.
    ///
    /// # Errors
    ///
    /// [`StateError`] if the state belongs to another puzzle or is damaged: a solution in it that is none is noticed.
    pub fn resume(puzzle: Puzzle, state: &[u8]) -> Result<Self, StateError> {
        let mut reader = StateReader(state);
        let head = (reader.take::<1>()?, reader.take::<32>()?, reader.uint()?, reader.take::<4>()?);
        if head != ([STATE_VERSION], puzzle.seed, puzzle.target, puzzle.puzzles.to_be_bytes()) {
            return Err(StateError);
        }
        let hashes = reader.uint()?;
        let mut slots = Vec::new();
        for index in 0..puzzle.puzzles {
            slots.push(match (reader.take::<1>()?, reader.uint()?) {
                ([0], next) => Slot::Open { next },
                ([1], nonce) if Block::new(&puzzle.seed, index).value(nonce) <= puzzle.target => {
                    Slot::Solved { nonce }
                }
                _ => return Err(StateError),
            });
        }
        if reader.0.is_empty() { Ok(Self::with(puzzle, Search { slots, hashes })) } else { Err(StateError) }
    }

    fn with(puzzle: Puzzle, search: Search) -> Self {
        Self { puzzle, search: Mutex::new(search), report: Mutex::new(()) }
    }

    /// What [`Solver::resume`] needs: the solutions found, and how far the search for the others is. 53 bytes and 9 for
    /// each puzzle.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let search = self.lock();
        let mut state = vec![STATE_VERSION];
        state.extend(self.puzzle.seed);
        state.extend(self.puzzle.target.to_be_bytes());
        state.extend(self.puzzle.puzzles.to_be_bytes());
        state.extend(search.hashes.to_be_bytes());
        for slot in &search.slots {
            let (tag, number) = match slot {
                Slot::Open { next } => (0, next),
                Slot::Solved { nonce } => (1, nonce),
            };
            state.push(tag);
            state.extend(number.to_be_bytes());
        }
        state
    }

    /// How far the work is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let search = self.lock();
        let solved = u32::try_from(search.solved()).unwrap_or(u32::MAX);
        Progress { solved, of: self.puzzle.puzzles, hashes: search.hashes }
    }

    /// Works on `threads` threads, of which the calling one is the first, until all puzzles are solved, and returns the
    /// work (SPEC 5.3).
    ///
    /// `report` is called on these threads, one call at a time and in order: after every solution, and some twenty times
    /// a second and core in between. It may call [`Solver::state`].
    ///
    /// # Errors
    ///
    /// [`Cancelled`] within milliseconds after `cancel` became true. Solving may then be continued.
    pub fn solve(
        &self,
        threads: NonZeroUsize,
        cancel: &AtomicBool,
        report: &(dyn Fn(Progress) + Sync),
    ) -> Result<Vec<u8>, Cancelled> {
        thread::scope(|scope| {
            for thread in 1..threads.get() {
                scope.spawn(move || self.work(thread, cancel, report));
            }
            self.work(0, cancel, report);
        });
        let mut work = Vec::with_capacity(self.puzzle.work_bytes());
        for slot in &self.lock().slots {
            let Slot::Solved { nonce } = slot else { return Err(Cancelled) };
            work.extend(nonce.to_be_bytes());
        }
        debug_assert!(check(&self.puzzle, &work).is_ok(), "solved, so it must check");
        Ok(work)
    }

    fn work(&self, thread: usize, cancel: &AtomicBool, report: &(dyn Fn(Progress) + Sync)) {
        while !cancel.load(Ordering::Relaxed) {
            // The guard must not live longer than this line.
            let chunk = self.lock().next_chunk(thread);
            let Some((index, start)) = chunk else { return };
            let found = Block::new(&self.puzzle.seed, index).search(start, CHUNK, self.puzzle.target);
            let tried = found.map_or(CHUNK, |nonce| nonce.wrapping_sub(start).wrapping_add(1));
            if self.enter(index, found, tried) {
                let _in_order = self.report.lock().unwrap_or_else(PoisonError::into_inner);
                report(self.progress());
            }
        }
    }

    /// Enters the result of a chunk and returns whether it is worth a report.
    fn enter(&self, index: u32, found: Option<u64>, tried: u64) -> bool {
        let mut search = self.lock();
        let before = search.hashes;
        search.hashes = before.saturating_add(tried);
        let passes_mark = before / REPORT_EVERY != search.hashes / REPORT_EVERY;
        let open = search.slots.get_mut(index as usize).filter(|slot| !slot.is_solved());
        match (open, found) {
            (Some(slot), Some(nonce)) => {
                *slot = Slot::Solved { nonce };
                true
            }
            // Another thread was faster, or nothing was found.
            _ => passes_mark,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Search> {
        // Every change is complete when the lock is released, so a panic elsewhere spoils nothing.
        self.search.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct StateReader<'a>(&'a [u8]);

impl StateReader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], StateError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(StateError)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn uint(&mut self) -> Result<u64, StateError> {
        self.take::<NONCE_BYTES>().map(u64::from_be_bytes)
    }
}
