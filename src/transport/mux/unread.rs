//! Bytes that came on the streams of a connection and were not read yet.
//!
//! yamux lets a peer send 256 KiB on each of 512 streams before anything of it is read, and more where it takes the peer for far
//! away, up to a gigabyte a connection, all of which it keeps. Here a connection is not read from while it has much unread
//! and all connections together have too much: the peer has to wait, as on a slow link. What lies unread is counted from
//! the frames as they come in, and from what is read of the streams.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::gather::Gathered;

/// What a connection may have unread whatever others have, in bytes: enough that a peer of good will gets on.
const LEAST: usize = 256 << 10;
/// What yamux takes to keep a frame, besides its bytes.
const FRAME_OVERHEAD: usize = 64;

/// What all connections together may have unread. Clones share it.
#[derive(Debug, Clone)]
pub(in crate::transport) struct Budget {
    most: usize,
    used: Arc<AtomicUsize>,
}

impl Budget {
    /// So many bytes, and [`LEAST`] for each connection besides.
    pub(in crate::transport) fn new(most: usize) -> Self {
        Self { most, used: Arc::default() }
    }
}

#[cfg(test)]
impl Budget {
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What a connection has unread. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Unread(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// Of each stream that is open here, the cost of what it has unread.
    streams: HashMap<u32, Cost>,
    all: usize,
    budget: Budget,
    /// Who waits for room.
    waiting: Option<Waker>,
}

#[derive(Debug, Default)]
struct Cost {
    bytes: usize,
    frames: usize,
}

impl Cost {
    const fn all(&self) -> usize {
        self.bytes + self.frames * FRAME_OVERHEAD
    }
}

impl Unread {
    pub(super) fn new(budget: Budget) -> Self {
        Self(Arc::new(Mutex::new(Inner { streams: HashMap::new(), all: 0, budget, waiting: None })))
    }

    /// A stream from which somebody will read.
    pub(super) fn opened(&self, stream: u32) {
        self.lock().streams.entry(stream).or_default();
    }

    /// Nobody will read from the stream any more: what it has is thrown away.
    pub(super) fn closed(&self, stream: u32) {
        let mut inner = self.lock();
        let cost = inner.streams.remove(&stream).unwrap_or_default();
        inner.less(cost.all());
    }

    /// So many bytes were read from the stream.
    pub(super) fn read(&self, stream: u32, bytes: usize) {
        let mut inner = self.lock();
        let Some(cost) = inner.streams.get_mut(&stream) else { return };
        let before = cost.all();
        cost.bytes = cost.bytes.saturating_sub(bytes);
        if cost.bytes == 0 {
            cost.frames = 0;
        }
        let less = before - cost.all();
        inner.less(less);
    }

    /// A frame with so many bytes of data came on a stream, the first if it `opens` it. Of a stream that is not open yamux
    /// keeps nothing.
    fn came(&self, stream: u32, bytes: usize, opens: bool) {
        let mut inner = self.lock();
        if opens {
            inner.streams.entry(stream).or_default();
        }
        if let Some(cost) = inner.streams.get_mut(&stream).filter(|_| bytes > 0) {
            cost.bytes += bytes;
            cost.frames += 1;
            let more = bytes + FRAME_OVERHEAD;
            inner.all += more;
            inner.budget.used.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// Ready unless too much is unread; then who reads or closes a stream wakes the task.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if inner.has_room() {
            return Poll::Ready(());
        }
        inner.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether the connection waits for something to be read.
    #[cfg(test)]
    pub(super) fn is_waited_for(&self) -> bool {
        self.lock().waiting.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self) -> bool {
        self.all <= LEAST || self.budget.used.load(Ordering::Relaxed) <= self.budget.most
    }

    fn less(&mut self, bytes: usize) {
        self.all -= bytes;
        self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
        if self.has_room()
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.all, Ordering::Relaxed);
    }
}

/// The length of a frame's header.
const HEADER: usize = 12;
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const SYN: u16 = 1;
const RST: u16 = 8;

/// Where in the frames of yamux what was read so far ends.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    /// How much of the header is there.
    length: usize,
    /// What is to come of the body.
    body: usize,
}

impl Frames {
    /// Whether the next byte begins a frame.
    const fn at_frame(&self) -> bool {
        self.length == 0
    }

    /// Goes through what was read, and notes each frame that is whole.
    fn take(&mut self, mut bytes: &[u8], unread: &Unread) {
        while !bytes.is_empty() {
            if let Some(rest) = self.header.get_mut(self.length..).filter(|rest| !rest.is_empty()) {
                let taken = rest.len().min(bytes.len());
                let (now, later) = bytes.split_at(taken);
                rest.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                (self.length, bytes) = (self.length + taken, later);
                if self.length < HEADER {
                    return;
                }
                self.body = if self.kind() == DATA { self.data_length() } else { 0 };
            } else {
                let taken = self.body.min(bytes.len());
                (self.body, bytes) = (self.body - taken, bytes.split_at(taken).1);
            }
            if self.length == HEADER && self.body == 0 {
                self.note(unread);
                self.length = 0;
            }
        }
    }

    /// Has the frame that is whole counted. One that yamux does not understand ends the connection.
    fn note(&self, unread: &Unread) {
        let [_, kind, flags @ .., _, _, _, _, _, _, _, _] = self.header;
        let flags = u16::from_be_bytes(flags);
        let [.., a, b, c, d, _, _, _, _] = self.header;
        let stream = u32::from_be_bytes([a, b, c, d]);
        if flags & RST == 0 && matches!(kind, DATA | WINDOW_UPDATE) {
            let bytes = if kind == DATA { self.data_length() } else { 0 };
            unread.came(stream, bytes, flags & SYN != 0);
        }
    }

    const fn kind(&self) -> u8 {
        let [_, kind, ..] = self.header;
        kind
    }

    const fn data_length(&self) -> usize {
        let [.., a, b, c, d] = self.header;
        u32::from_be_bytes([a, b, c, d]) as usize
    }
}

/// A connection that is read from while there is room.
#[derive(Debug)]
pub(super) struct Metered<C> {
    connection: Gathered<C>,
    frames: Frames,
    unread: Unread,
}

impl<C> Metered<C> {
    pub(super) fn new(connection: Gathered<C>, unread: Unread) -> Self {
        Self { connection, frames: Frames::default(), unread }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.frames.at_frame() && this.unread.poll_room(cx).is_pending() {
            // What is to go out does so, as if there were nothing to read.
            return match this.connection.poll_due(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            };
        }
        let length = ready!(Pin::new(&mut this.connection).poll_read(cx, buffer))?;
        if let Some(read) = buffer.get(..length) {
            this.frames.take(read, &this.unread);
        }
        Poll::Ready(Ok(length))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
