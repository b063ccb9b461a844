//! Bytes that were written to the streams of a connection and did not go out yet.
//!
//! yamux would take ten frames of each stream, from hundreds of them. Here the streams of a connection have 512 KiB together, and 256
//! KiB for what is short, and take turns: whoever writes without end must not keep the others from writing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

/// Bytes of all streams.
pub(super) const MOST: usize = 512 << 10;
/// When so little is left, everybody goes on.
const LITTLE: usize = MOST / 2;
/// Bytes of a write that is taken at once.
pub(super) const MAX_WRITE: usize = 16 << 10;
/// A write this short takes no turn: questions, heartbeats and what streams are for must not wait behind answers.
const SHORT: usize = 1 << 10;
/// For which there are so many bytes besides.
pub(super) const FOR_SHORT: usize = 256 << 10;

/// What a connection has unsent. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Unsent(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    used: usize,
    /// The next number in the line.
    next: u64,
    /// Who waits for a turn, by its number: which stream.
    waiting: BTreeMap<u64, (u32, Waker)>,
    /// Streams whose turn it is, and what their numbers were.
    called: HashMap<u32, u64>,
}

impl Unsent {
    /// Takes room for so many bytes that a stream writes. If there is none, the task is woken when it is the stream's turn.
    pub(super) fn poll_take(&self, stream: u32, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let is_short = bytes <= SHORT && inner.used < MOST + FOR_SHORT;
        if !is_short && !inner.may_go(stream) {
            inner.wait(stream, cx);
            // Who came too early for those that were called goes on behind them.
            if inner.used <= LITTLE {
                call(inner);
            }
            return Poll::Pending;
        }
        inner.called.remove(&stream);
        inner.used += bytes;
        Poll::Ready(())
    }

    /// So many bytes went out, or were not written after all.
    pub(super) fn less(&self, bytes: usize) {
        if bytes > 0 {
            let mut inner = self.lock();
            inner.used -= bytes;
            call(inner);
        }
    }

    /// The stream writes no more.
    pub(super) fn forget(&self, stream: u32) {
        let mut inner = self.lock();
        let had_turn = inner.called.remove(&stream).is_some();
        inner.waiting.retain(|_, (waiting, _)| *waiting != stream);
        if had_turn {
            call(inner);
        }
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes those whose turn it is; by then nothing is locked, since who is woken may drop streams.
fn call(mut inner: MutexGuard<'_, Inner>) {
    let called = inner.call();
    drop(inner);
    called.into_iter().for_each(Waker::wake);
}

impl Inner {
    fn may_go(&self, stream: u32) -> bool {
        let is_first = self.waiting.is_empty() && self.has_room();
        self.used <= MOST && (is_first || self.called.contains_key(&stream))
    }

    /// Whether there is room for one more than those that were called.
    fn has_room(&self) -> bool {
        self.used + self.called.len() * MAX_WRITE <= MOST
    }

    fn wait(&mut self, stream: u32, cx: &Context<'_>) {
        if let Some((_, waker)) = self.waiting.values_mut().find(|(waiting, _)| *waiting == stream) {
            waker.clone_from(cx.waker());
            return;
        }
        // Who was called, and found that others had taken the room, has his place in the line again.
        let number = self.called.remove(&stream).unwrap_or(self.next);
        self.next += 1;
        self.waiting.insert(number, (stream, cx.waker().clone()));
    }

    /// Those whose turn it is from now on: as many as there is room for, so that not all are woken for one frame; all, if little is left.
    /// So who waits, waits while some of it has yet to go out, whatever those do that were called.
    fn call(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.used <= LITTLE || self.has_room() {
            let Some((number, (stream, waker))) = self.waiting.pop_first() else { break };
            self.called.insert(stream, number);
            wakers.push(waker);
        }
        wakers
    }
}

#[cfg(test)]
mod tests;
