//! A connection of which what comes in and what goes out is counted, and which is not read from while too much of it is unread.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncRead, AsyncWrite};

use super::{gather::Gathered, unread::Unread, unsent::Unsent};

/// The longest frame of data that is taken, in bytes. A longer one would not fit in what a stream may have unread at first;
/// libp2p's implementations in Go, JavaScript and Rust send at most a quarter of it.
const LONGEST: usize = 256 << 10;
/// The length of a frame's header.
const HEADER: usize = 12;
const DATA: u8 = 0;
const WINDOW_UPDATE: u8 = 1;
const SYN: u16 = 1;
const RST: u16 = 8;

/// Where in the frames of yamux what came or went so far ends.
#[derive(Debug, Default)]
struct Frames {
    header: [u8; HEADER],
    /// How much of the header is there.
    length: usize,
    /// What is to come of the body.
    body: usize,
}

/// A frame, of which the body is somewhere else.
#[derive(Debug, Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u16,
    stream: u32,
    /// Bytes of the body.
    bytes: usize,
}

impl Frames {
    /// Whether the next byte begins a frame.
    const fn at_frame(&self) -> bool {
        self.length == 0
    }

    /// Whether a frame has begun that is longer than any may be.
    fn is_too_long(&self) -> bool {
        self.length == HEADER && self.frame().bytes > LONGEST
    }

    /// Goes on to the end of the next frame, if it is among these bytes.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        while !bytes.is_empty() {
            if let Some(rest) = self.header.get_mut(self.length..).filter(|rest| !rest.is_empty()) {
                let taken = rest.len().min(bytes.len());
                let (now, later) = bytes.split_at(taken);
                rest.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
                (self.length, *bytes) = (self.length + taken, later);
                if self.length < HEADER {
                    return None;
                }
                self.body = self.frame().bytes;
            } else {
                let taken = self.body.min(bytes.len());
                (self.body, *bytes) = (self.body - taken, bytes.split_at(taken).1);
            }
            if self.length == HEADER && self.body == 0 {
                self.length = 0;
                return Some(self.frame());
            }
        }
        None
    }

    /// Has counted what came: each frame that is whole, and how much is there of one that is not.
    fn take(&mut self, mut bytes: &[u8], unread: &Unread) {
        while let Some(frame) = self.next(&mut bytes) {
            note(frame, unread);
        }
        if self.length == HEADER {
            unread.came_in_part(self.frame().bytes - self.body);
        }
    }

    const fn frame(&self) -> Frame {
        let [_, kind, high, low, a, b, c, d, e, f, g, h] = self.header;
        let length = u32::from_be_bytes([e, f, g, h]) as usize;
        Frame {
            kind,
            flags: u16::from_be_bytes([high, low]),
            stream: u32::from_be_bytes([a, b, c, d]),
            bytes: if kind == DATA { length } else { 0 },
        }
    }
}

/// Has a frame counted that came. One that yamux does not understand ends the connection.
fn note(frame: Frame, unread: &Unread) {
    let Frame { kind, flags, stream, bytes } = frame;
    let is_of_stream = flags & RST == 0 && matches!(kind, DATA | WINDOW_UPDATE);
    let bytes = if is_of_stream { bytes } else { 0 };
    if is_of_stream && flags & SYN != 0 {
        unread.opens(stream, bytes);
    } else {
        unread.came(stream, bytes);
    }
}

/// A connection that is read from while there is room.
#[derive(Debug)]
pub(super) struct Metered<C> {
    connection: Gathered<C>,
    came: Frames,
    unread: Unread,
    went: Frames,
    unsent: Unsent,
}

impl<C> Metered<C> {
    /// What goes out is taken off `unsent`.
    pub(super) fn new(connection: Gathered<C>, unread: Unread, unsent: Unsent) -> Self {
        Self { connection, came: Frames::default(), unread, went: Frames::default(), unsent }
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Metered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.unread.poll_room(this.came.at_frame(), cx).is_pending() {
            // What is to go out does so, as if there were nothing to read.
            return match this.connection.poll_due(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                _ => Poll::Pending,
            };
        }
        let length = ready!(Pin::new(&mut this.connection).poll_read(cx, buffer))?;
        this.came.take(buffer.get(..length).unwrap_or_default(), &this.unread);
        if this.came.is_too_long() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long")));
        }
        Poll::Ready(Ok(length))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let written = Pin::new(&mut this.connection).poll_write(cx, buffer);
        this.unread.block(written.is_pending());
        if let Poll::Ready(Ok(length)) = written {
            let mut sent = buffer.get(..length).unwrap_or_default();
            while let Some(frame) = this.went.next(&mut sent) {
                this.unsent.less(frame.bytes);
            }
        }
        written
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
