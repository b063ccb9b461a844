//! Streams over one connection: yamux, of which what came and was not read yet is bounded ([`unread`]), and what was written
//! and did not go out yet, too ([`unsent`]); which sends what was written in one go ([`gather`]), and of which nobody waits on a stream when this
//! end has closed the connection.

mod closing;
mod gather;
mod metered;
mod unread;
mod unsent;

use std::{
    collections::VecDeque,
    future::{Future as _, Ready, ready},
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::{
    muxing::{StreamMuxer, StreamMuxerEvent},
    upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
};
use tokio::time::Sleep;
use yamux::{ConnectionError, Mode};

pub(super) use self::unread::Budget;
use self::{
    closing::{Closing, Waiter},
    gather::Gathered,
    metered::Metered,
    unread::Unread,
    unsent::Unsent,
};

/// Streams that a peer opened and nobody has taken yet; further ones are reset. As many as a peer opens at most before one
/// of them is acknowledged.
const MAX_WAITING: usize = 256;
/// How long it may take to send what is left when a connection closes.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sets up the streams of a connection.
#[derive(Debug, Clone)]
pub(super) struct Config(Budget);

impl Config {
    /// What is unread of all connections together is charged to `budget`.
    pub(super) const fn new(budget: Budget) -> Self {
        Self(budget)
    }

    fn streams<C: AsyncRead + AsyncWrite + Unpin>(self, connection: C, mode: Mode) -> Muxer<C> {
        let unread = Unread::new(self.0);
        let unsent = Unsent::default();
        let metered = Metered::new(Gathered::new(connection), unread.clone(), unsent.clone());
        let connection = yamux::Connection::new(metered, yamux::Config::default(), mode);
        Muxer {
            connection,
            unread,
            unsent,
            closing: Closing::default(),
            waiting: VecDeque::new(),
            waker: None,
            patience: None,
        }
    }
}

impl UpgradeInfo for Config {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_inbound(self, connection: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.streams(connection, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Config {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Self::Output>>;

    fn upgrade_outbound(self, connection: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.streams(connection, Mode::Client)))
    }
}

/// The streams of a connection.
#[derive(Debug)]
pub(super) struct Muxer<C> {
    connection: yamux::Connection<Metered<C>>,
    unread: Unread,
    /// What was written to its streams and did not go out yet.
    unsent: Unsent,
    /// Whether this end closes it.
    closing: Closing,
    /// Streams that came and were not asked for yet: whatever yamux does, it does while it looks for the next stream.
    waiting: VecDeque<Stream>,
    /// Who is to be told of the next.
    waker: Option<Waker>,
    /// How long it may still take to close.
    patience: Option<Pin<Box<Sleep>>>,
}

impl<C> Drop for Muxer<C> {
    fn drop(&mut self) {
        // Its streams may be there for longer.
        self.stop();
    }
}

impl<C> Muxer<C> {
    /// Nothing comes on its streams any more.
    fn stop(&mut self) {
        self.waiting.clear();
        self.unread.close();
        self.closing.close();
    }

    fn stream(&self, stream: yamux::Stream) -> Stream {
        let waiter = self.closing.waiter(stream.id().val());
        Stream { stream, unread: self.unread.clone(), unsent: self.unsent.clone(), waiter }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let next = ready!(self.connection.poll_next_inbound(cx)).unwrap_or(Err(ConnectionError::Closed));
        let stream = next.map_err(failed)?;
        self.unread.accepted(stream.id().val());
        Poll::Ready(Ok(self.stream(stream)))
    }
}

fn failed(error: ConnectionError) -> io::Error {
    match error {
        ConnectionError::Io(error) => error,
        other => io::Error::other(other),
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = Stream;
    type Error = io::Error;

    /// What [`Self::poll`] found: the swarm calls that in each turn, before it asks for a stream.
    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
        let stream = ready!(self.connection.poll_new_outbound(cx)).map_err(failed)?;
        self.unread.opened(stream.id().val());
        Poll::Ready(Ok(self.stream(stream)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.patience.is_none() {
            this.stop();
        }
        let patience = this.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(PATIENCE)));
        if let Poll::Ready(closed) = this.connection.poll_close(cx) {
            return Poll::Ready(closed.map_err(failed));
        }
        // A peer that takes nothing any more must not keep the connection.
        patience.as_mut().poll(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        let stream = ready!(self.poll_next(cx))?;
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        // There may be more, but others have their turn first.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A stream, of which what is read is taken off what its connection has unread.
#[derive(Debug)]
pub(super) struct Stream {
    stream: yamux::Stream,
    unread: Unread,
    unsent: Unsent,
    waiter: Waiter,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.unread.dropped(self.stream.id().val());
        self.unsent.forget(self.stream.id().val());
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        // Nothing is there if it has to wait, or at the end.
        let bytes = if let Poll::Ready(Ok(bytes)) = read { bytes } else { 0 };
        if !buffer.is_empty() && self.unread.read(self.stream.id().val(), bytes) && bytes > 0 {
            // yamux keeps the last frame until somebody looks for the next.
            let _ = Pin::new(&mut self.stream).poll_read(cx, &mut []);
        }
        self.waiter.reads(read, cx)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let (most, _) = buffer.split_at(buffer.len().min(unsent::MAX_WRITE));
        let room = this.unsent.poll_take(this.stream.id().val(), most.len(), cx);
        let result = room.map(|()| {
            // It may go out before yamux says how much it took.
            let written = Pin::new(&mut this.stream).poll_write(cx, most);
            let taken = if let Poll::Ready(Ok(taken)) = written { taken } else { 0 };
            this.unsent.less(most.len() - taken);
            written
        });
        let result = if let Poll::Ready(written) = result { written } else { Poll::Pending };
        this.waiter.writes(result, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.waiter.writes(result, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_close(cx);
        self.waiter.writes(result, cx)
    }
}

#[cfg(test)]
mod tests;
