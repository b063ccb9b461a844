//! Bytes that were written to the streams of a connection and did not go out yet.
//!
//! yamux would take ten frames of each stream, from hundreds of them. Here the streams of a connection have that many bytes
//! together, and take turns: whoever writes without end must not keep the others from writing.

use std::{
    collections::{HashSet, VecDeque},
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
    /// Who waits for a turn, by stream: the first has waited longest.
    waiting: VecDeque<(u32, Waker)>,
    /// Those whose turn it is.
    called: HashSet<u32>,
}

impl Unsent {
    /// Takes room for so many bytes that a stream writes. If there is none, the task is woken when it is the stream's turn.
    pub(super) fn poll_take(&self, stream: u32, bytes: usize, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        let is_short = bytes <= SHORT && inner.used < MOST + FOR_SHORT;
        if !is_short && !inner.may_go(stream) {
            inner.wait(stream, cx);
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
            let called = inner.call();
            drop(inner);
            called.into_iter().for_each(Waker::wake);
        }
    }

    /// The stream writes no more.
    pub(super) fn forget(&self, stream: u32) {
        let mut inner = self.lock();
        let had_turn = inner.called.remove(&stream);
        inner.waiting.retain(|(waiting, _)| *waiting != stream);
        let called = if had_turn { inner.call() } else { Vec::new() };
        drop(inner);
        called.into_iter().for_each(Waker::wake);
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn may_go(&self, stream: u32) -> bool {
        let has_turn = self.waiting.is_empty() || self.called.contains(&stream);
        self.used <= LITTLE || (self.used <= MOST && has_turn)
    }

    fn wait(&mut self, stream: u32, cx: &Context<'_>) {
        match self.waiting.iter_mut().find(|(waiting, _)| *waiting == stream) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            // Short writes took the room of its turn: it is the next.
            None if self.called.remove(&stream) => self.waiting.push_front((stream, cx.waker().clone())),
            None => self.waiting.push_back((stream, cx.waker().clone())),
        }
    }

    /// Those whose turn it is from now on: as many as there is room for, so that not all are woken for one frame. Who waits, waits
    /// while there is more than little: some of it has yet to go out.
    fn call(&mut self) -> Vec<Waker> {
        let mut wakers = Vec::new();
        while self.used <= LITTLE || self.used + self.called.len() * MAX_WRITE <= MOST {
            let Some((stream, waker)) = self.waiting.pop_front() else { break };
            self.called.insert(stream);
            wakers.push(waker);
        }
        wakers
    }
}

#[cfg(test)]
mod tests;
