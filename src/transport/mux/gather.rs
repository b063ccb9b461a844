//! A connection that sends what was written in one go.
//!
//! yamux flushes after each of its frames, and each flush is a message of Noise to seal, a call of the kernel, and a
//! packet. A request and its response are a handful of small frames, of many streams at a time: held back until there
//! is nothing to read, they go out together. Nothing waits longer for that than it takes to look at what has come in.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

/// Reads that may go before a flush: a peer that never stops sending gets its answers all the same.
const MAX_READS: u32 = 64;

/// A connection of which a flush is carried out when there is nothing to read.
///
/// This relies on what yamux does in each turn: it writes, flushes, and reads until nothing comes.
#[derive(Debug)]
pub(super) struct Gathered<C> {
    connection: C,
    /// Whether something was written since a flush was last asked for.
    written: bool,
    /// How often was read since a flush was asked for, if it was not carried out yet.
    due: Option<u32>,
}

impl<C> Gathered<C> {
    pub(super) const fn new(connection: C) -> Self {
        // What the protocols below agreed on may have to go out.
        Self { connection, written: true, due: None }
    }
}

impl<C: AsyncWrite + Unpin> Gathered<C> {
    /// Carries out the flush that is due.
    pub(super) fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.due.is_some() {
            ready!(Pin::new(&mut self.connection).poll_flush(cx))?;
            self.due = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.due.is_some_and(|reads| reads >= MAX_READS)
            && let Poll::Ready(Err(error)) = self.poll_due(cx)
        {
            return Poll::Ready(Err(error));
        }
        let read = Pin::new(&mut self.connection).poll_read(cx, buffer);
        match &read {
            Poll::Ready(_) => self.due = self.due.map(|reads| reads.saturating_add(1)),
            // If not all of it goes out now, the connection wakes the task when it can, which reads again.
            Poll::Pending => {
                if let Poll::Ready(Err(error)) = self.poll_due(cx) {
                    return Poll::Ready(Err(error));
                }
            }
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gathered<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.written = true;
        Pin::new(&mut self.connection).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // yamux asks for it in each turn.
        if std::mem::take(&mut self.written) {
            self.due.get_or_insert(0);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_due(cx))?;
        Pin::new(&mut self.connection).poll_close(cx)
    }
}

#[cfg(test)]
mod tests;
