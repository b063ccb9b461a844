//! Two queues that are served in turn, so that neither live puts nor a long reconciliation keeps the other waiting.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::Way;

/// Batches of the live lane for each one of the bulk lane, if work waits in both: a put has somebody waiting for it.
const LIVE_PER_BULK: u32 = 3;

/// A queue of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// What somebody waits for.
    Live,
    /// What has time.
    Bulk,
}

impl Way {
    pub(super) const fn lane(self) -> Lane {
        match self {
            Way::Put | Way::Announce => Lane::Live,
            Way::Sync | Way::Import => Lane::Bulk,
        }
    }
}

/// The two queues, for the workers that serve them. What may wait is bounded by who fills them.
#[derive(Debug)]
pub(super) struct Turns<T> {
    queues: Mutex<Queues<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct Queues<T> {
    /// Work and how much it is.
    live: VecDeque<(usize, T)>,
    bulk: VecDeque<(usize, T)>,
    /// Live batches since the last one of the bulk lane.
    live_in_a_row: u32,
    closed: bool,
}

impl<T> Turns<T> {
    pub(super) const fn new() -> Self {
        let queues = Queues { live: VecDeque::new(), bulk: VecDeque::new(), live_in_a_row: 0, closed: false };
        Self { queues: Mutex::new(queues), filled: Condvar::new() }
    }

    /// Queues work of this size; gives it back by dropping it if nobody serves the queues any more.
    pub(super) fn push(&self, lane: Lane, size: usize, work: T) {
        let mut queues = self.lock();
        if queues.closed {
            return;
        }
        queues.lane(lane).push_back((size, work));
        drop(queues);
        self.filled.notify_one();
    }

    /// Waits for work and takes a batch of one lane: as much as `most`, or a single larger piece. None once the queues
    /// are closed.
    pub(super) fn take(&self, most: usize) -> Option<Vec<T>> {
        let mut queues = self.lock();
        while queues.live.is_empty() && queues.bulk.is_empty() && !queues.closed {
            queues = self.filled.wait(queues).unwrap_or_else(PoisonError::into_inner);
        }
        if queues.closed { None } else { Some(queues.next_batch(most)) }
    }

    /// Drops what waits, and lets the workers end.
    pub(super) fn close(&self) {
        let mut queues = self.lock();
        queues.closed = true;
        queues.live.clear();
        queues.bulk.clear();
        drop(queues);
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Queues<T>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Queues<T> {
    const fn lane(&mut self, lane: Lane) -> &mut VecDeque<(usize, T)> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Bulk => &mut self.bulk,
        }
    }

    fn next_batch(&mut self, most: usize) -> Vec<T> {
        let is_live = self.bulk.is_empty() || (!self.live.is_empty() && self.live_in_a_row < LIVE_PER_BULK);
        // Who had the lanes for himself owes nothing to who comes now.
        let alone = self.live.is_empty() || self.bulk.is_empty();
        self.live_in_a_row = if is_live && !alone { self.live_in_a_row + 1 } else { 0 };
        let queue = self.lane(if is_live { Lane::Live } else { Lane::Bulk });
        let (mut batch, mut size) = (Vec::new(), 0);
        while let Some((next, _)) = queue.front()
            && (batch.is_empty() || size + next <= most)
        {
            size += next;
            batch.extend(queue.pop_front().map(|(_, work)| work));
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn neither_lane_starves_the_other() {
        let turns = Turns::new();
        for _ in 0..40 {
            turns.push(Lane::Bulk, 8, "bulk");
            turns.push(Lane::Live, 8, "live");
        }
        let served: Vec<_> = (0..20).map(|_| turns.take(16).unwrap()).collect();
        assert!(served.iter().all(|batch| batch.len() == 2 && batch[0] == batch[1]), "of one lane each");
        let lanes: Vec<_> = served.iter().map(|batch| batch[0]).collect();
        assert_eq!(lanes, ["live", "live", "live", "bulk"].repeat(5));
    }

    #[test]
    fn a_lane_that_comes_late_waits_for_one_batch_at_most() {
        let turns = Turns::new();
        for _ in 0..10 {
            turns.push(Lane::Bulk, 1, "bulk");
        }
        assert_eq!(turns.take(2).unwrap(), ["bulk"; 2]);
        turns.push(Lane::Live, 1, "live");
        assert_eq!(turns.take(2).unwrap(), ["live"]);
        assert_eq!(turns.take(2).unwrap(), ["bulk"; 2]);
    }

    #[test]
    fn a_batch_is_as_large_as_may_be_and_a_large_piece_comes_alone() {
        let turns = Turns::new();
        for size in [3, 3, 3, 100, 3] {
            turns.push(Lane::Live, size, size);
        }
        assert_eq!(
            [8, 8, 8, 8].map(|most| turns.take(most).unwrap()),
            [vec![3, 3], vec![3], vec![100], vec![3]]
        );
        turns.push(Lane::Live, 1, 1);
        turns.close();
        assert_eq!(turns.take(8), None);
    }
}
