//! Bytes that came on the streams of a connection and were not read yet.
//!
//! yamux lets a peer send 256 KiB on each of 512 streams before anything of it is read, and more where it takes the peer for far
//! away, up to a gigabyte a connection, all of which it keeps. Here a connection is not read from while it has much unread
//! and all connections together have too much: the peer has to wait, as on a slow link. What lies unread is counted from
//! the frames as they come in (`metered`), and from what is read of the streams.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{self, AtomicU64, AtomicUsize},
    },
    task::{Context, Poll, Waker},
};

/// What a connection may have unread whatever others have, in bytes: enough that a peer of good will gets on.
const LEAST: usize = 256 << 10;
/// What a stream takes,
const OF_STREAM: usize = 512;
/// and a frame besides its bytes: yamux allocates each by itself,
const OF_FRAME: usize = 64;
/// and has a list of them for each stream, which does not shrink. A short one is what any stream has.
const OF_LIST: usize = 64;
const SHORT_LIST: usize = 16;

/// Bytes that all connections together may have unread. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::transport) struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    used: AtomicUsize,
    connections: AtomicU64,
    /// Who waits for room, by the number of the connection.
    waiting: Mutex<BTreeMap<u64, Waker>>,
}

impl Budget {
    /// So many bytes. What is unread may be more by [`LEAST`], a frame, and what its streams take, for each connection.
    pub(in crate::transport) fn new(most: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            used: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            waiting: Mutex::default(),
        }))
    }

    fn has_room(&self) -> bool {
        self.0.used.load(atomic::Ordering::SeqCst) <= self.0.most
    }

    fn more(&self, bytes: usize) {
        self.0.used.fetch_add(bytes, atomic::Ordering::SeqCst);
    }

    fn less(&self, bytes: usize) {
        let before = self.0.used.fetch_sub(bytes, atomic::Ordering::SeqCst);
        if before > self.0.most && before - bytes <= self.0.most {
            let waiting = std::mem::take(&mut *self.waiting());
            waiting.into_values().for_each(Waker::wake);
        }
    }

    /// Ready if there is room; if not, the task is woken when there is, the latest of those with this number.
    fn poll_room(&self, number: u64, cx: &Context<'_>) -> Poll<()> {
        if self.has_room() {
            return Poll::Ready(());
        }
        self.waiting().insert(number, cx.waker().clone());
        // Room that was made just now woke those who waited before.
        if self.has_room() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u64, Waker>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Budget {
    pub(super) fn used(&self) -> usize {
        self.0.used.load(atomic::Ordering::SeqCst)
    }
}

/// What a connection has unread. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Unread(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    budget: Budget,
    number: u64,
    /// The cost of all that follows.
    all: usize,
    /// What of that stays though all of it is read.
    fixed: usize,
    /// What yamux keeps of each of its streams.
    streams: HashMap<u32, Kept>,
    /// Those of which yamux has to find out that nobody reads them any more.
    dropped: Vec<u32>,
    /// What the last frame opened, if yamux takes it: it hands out the stream before it reads on.
    opening: Option<(u32, Kept)>,
    /// Bytes of a frame that is not whole yet.
    part: usize,
    is_blocked: bool,
    is_closed: bool,
    /// Who waits for room.
    waker: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Kept {
    bytes: usize,
    frames: usize,
    /// The most frames that there were at a time.
    most_frames: usize,
    /// The bytes of the longest: a frame is kept whole until all of it is read.
    longest: usize,
    is_dropped: bool,
}

impl Kept {
    const fn cost(&self) -> usize {
        let bytes = if self.bytes > self.longest { self.bytes } else { self.longest };
        bytes + self.frames * OF_FRAME + self.fixed()
    }

    /// What stays though all of it is read.
    const fn fixed(&self) -> usize {
        OF_STREAM + self.most_frames.saturating_sub(SHORT_LIST) * OF_LIST
    }

    fn take(&mut self, bytes: usize) {
        if bytes > 0 {
            self.bytes += bytes;
            self.frames += 1;
            self.most_frames = self.most_frames.max(self.frames);
            self.longest = self.longest.max(bytes);
        }
    }
}

impl Unread {
    pub(super) fn new(budget: Budget) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            number: budget.0.connections.fetch_add(1, atomic::Ordering::Relaxed),
            budget,
            all: 0,
            fixed: 0,
            streams: HashMap::new(),
            dropped: Vec::new(),
            opening: None,
            part: 0,
            is_blocked: false,
            is_closed: false,
            waker: None,
        })))
    }

    /// yamux has taken the stream that the last frame opened.
    pub(super) fn accepted(&self, stream: u32) {
        let mut inner = self.lock();
        if let Some((_, kept)) = inner.opening.take_if(|(opening, _)| *opening == stream) {
            let before = inner.streams.insert(stream, kept);
            inner.change(before, None);
        }
    }

    /// This end has opened a stream.
    pub(super) fn opened(&self, stream: u32) {
        let mut inner = self.lock();
        let before = inner.streams.insert(stream, Kept::default());
        inner.change(before, Some(Kept::default()));
    }

    /// Nobody will read from the stream any more.
    pub(super) fn dropped(&self, stream: u32) {
        let mut inner = self.lock();
        if let Some(kept) = inner.streams.get_mut(&stream) {
            kept.is_dropped = true;
            inner.dropped.push(stream);
        }
        if inner.is_closed {
            inner.forget_dropped();
        }
    }

    /// Nothing will be read from the connection any more.
    pub(super) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.set_part(0);
        inner.forget_opening();
        inner.forget_dropped();
    }

    /// So many bytes were read from the stream; none: it has none. Says whether nothing is left.
    pub(super) fn read(&self, stream: u32, bytes: usize) -> bool {
        let mut inner = self.lock();
        let Some(kept) = inner.streams.get_mut(&stream) else { return true };
        let before = *kept;
        let is_empty = bytes == 0 || bytes >= kept.bytes;
        if is_empty {
            (kept.bytes, kept.frames, kept.longest) = (0, 0, 0);
        } else {
            // As if all frames were of a length.
            kept.frames = kept.frames.saturating_mul(kept.bytes - bytes).div_ceil(kept.bytes);
            kept.bytes -= bytes;
        }
        let after = *kept;
        inner.change(Some(before), Some(after));
        is_empty
    }

    /// A frame is whole. If the one before was to open a stream and yamux did not take it, it keeps nothing of that.
    fn frame(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.lock();
        inner.set_part(0);
        inner.forget_opening();
        inner
    }

    /// A frame came that is to open a stream, with so many bytes of data.
    pub(super) fn opens(&self, stream: u32, bytes: usize) {
        let mut kept = Kept::default();
        kept.take(bytes);
        let mut inner = self.frame();
        inner.opening = Some((stream, kept));
        inner.change(None, Some(kept));
    }

    /// A frame came with so many bytes of data. Of a stream that is not open yamux keeps nothing; nor of what is over the
    /// stream's window, which counts here until the stream is read.
    pub(super) fn came(&self, stream: u32, bytes: usize) {
        let mut inner = self.frame();
        if let Some(kept) = inner.streams.get_mut(&stream) {
            let before = *kept;
            kept.take(bytes);
            let after = *kept;
            inner.change(Some(before), Some(after));
        }
    }

    /// So many bytes of a frame came that is not whole.
    pub(super) fn came_in_part(&self, bytes: usize) {
        self.lock().set_part(bytes);
    }

    /// Whether the peer does not take what is written. Meanwhile yamux does not look for streams that were dropped.
    pub(super) fn block(&self, is_blocked: bool) {
        self.lock().is_blocked = is_blocked;
    }

    /// Ready unless too much is unread; then the task is woken when it is less. In the midst of a frame it goes on.
    pub(super) fn poll_room(&self, at_frame: bool, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.is_blocked {
            inner.forget_dropped();
        }
        inner.waker = None;
        if !at_frame || inner.has_least() || inner.budget.poll_room(inner.number, cx).is_ready() {
            return Poll::Ready(());
        }
        inner.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the connection waits for something to be read.
    #[cfg(test)]
    pub(super) fn waits(&self) -> bool {
        self.lock().waker.is_some()
    }

    /// Whether yamux may not know of all streams that were dropped.
    #[cfg(test)]
    pub(super) fn is_blocked(&self) -> bool {
        self.lock().is_blocked
    }

    /// What all of it costs.
    #[cfg(test)]
    pub(super) fn all(&self) -> usize {
        self.lock().all
    }

    /// How many streams count.
    #[cfg(test)]
    pub(super) fn streams(&self) -> usize {
        self.lock().streams.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn forget_dropped(&mut self) {
        while let Some(stream) = self.dropped.pop() {
            // Its number may be that of another stream by now.
            if self.streams.get(&stream).is_some_and(|kept| kept.is_dropped) {
                let kept = self.streams.remove(&stream);
                self.change(kept, None);
            }
        }
    }

    fn forget_opening(&mut self) {
        let refused = self.opening.take();
        self.change(refused.map(|(_, kept)| kept), None);
    }

    /// Something is kept in another way than before.
    fn change(&mut self, before: Option<Kept>, after: Option<Kept>) {
        let fixed = |kept: Option<Kept>| kept.map_or(0, |kept| kept.fixed());
        self.fixed = self.fixed + fixed(after) - fixed(before);
        let cost = |kept: Option<Kept>| kept.map_or(0, |kept| kept.cost());
        self.recount(cost(before), cost(after));
    }

    fn recount(&mut self, before: usize, after: usize) {
        // Most frames leave most of it as it is, and the budget is shared by all threads.
        match after.cmp(&before) {
            Ordering::Greater => self.more(after - before),
            Ordering::Less => self.less(before - after),
            Ordering::Equal => {}
        }
    }

    /// Whether the connection has no more than it may have in any case. What reading cannot take off is not held against a peer of
    /// good will, who has little of it.
    fn has_least(&self) -> bool {
        self.all <= LEAST + self.fixed.min(LEAST)
    }

    fn more(&mut self, bytes: usize) {
        self.all += bytes;
        self.budget.more(bytes);
    }

    fn less(&mut self, bytes: usize) {
        self.all -= bytes;
        self.budget.less(bytes);
        if self.has_least()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    fn set_part(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.part, bytes);
        self.recount(before, bytes);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.less(self.all);
        self.budget.waiting().remove(&self.number);
    }
}

#[cfg(test)]
mod tests;
