#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use futures::task::noop_waker_ref;

use super::*;

/// A connection with so many bytes to read, which notes what it is told to do.
#[derive(Debug, Default)]
struct Scripted {
    readable: usize,
    done: Vec<&'static str>,
    /// What the next flushes come to; they succeed beyond that.
    flushes: VecDeque<Poll<io::Result<()>>>,
}

impl AsyncRead for Scripted {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match self.readable.checked_sub(1) {
            None => Poll::Pending,
            Some(left) => {
                self.readable = left;
                Poll::Ready(Ok(1))
            }
        }
    }
}

impl AsyncWrite for Scripted {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.done.push("write");
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.done.push("flush");
        self.flushes.pop_front().unwrap_or(Poll::Ready(Ok(())))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.done.push("close");
        Poll::Ready(Ok(()))
    }
}

fn gathered(readable: usize) -> Gathered<Scripted> {
    Gathered::new(Scripted { readable, ..Default::default() })
}

fn context() -> Context<'static> {
    Context::from_waker(noop_waker_ref())
}

/// What yamux does for a frame.
fn send(io: &mut Gathered<Scripted>) {
    assert!(matches!(Pin::new(&mut *io).poll_write(&mut context(), b"frame"), Poll::Ready(Ok(5))));
    assert!(matches!(Pin::new(io).poll_flush(&mut context()), Poll::Ready(Ok(()))));
}

fn read(io: &mut Gathered<Scripted>) -> Poll<io::Result<usize>> {
    Pin::new(io).poll_read(&mut context(), &mut [0])
}

#[test]
fn frames_go_out_together_once_there_is_nothing_to_read() {
    let mut io = gathered(2);
    send(&mut io);
    assert!(read(&mut io).is_ready());
    send(&mut io);
    assert!(read(&mut io).is_ready());
    assert_eq!(io.connection.done, ["write", "write"]);
    assert!(read(&mut io).is_pending());
    assert!(read(&mut io).is_pending(), "and what is flushed is not flushed again");
    assert_eq!(io.connection.done, ["write", "write", "flush"]);
}

#[test]
fn a_peer_that_never_stops_sending_gets_its_answers() {
    let mut io = gathered(usize::MAX);
    send(&mut io);
    for _ in 0..=MAX_READS {
        assert!(read(&mut io).is_ready());
    }
    assert_eq!(io.connection.done, ["write", "flush"]);
}

#[test]
fn a_flush_that_has_to_wait_is_carried_out_later() {
    let mut io = gathered(0);
    io.connection.flushes.push_back(Poll::Pending);
    send(&mut io);
    assert!(read(&mut io).is_pending());
    assert!(read(&mut io).is_pending());
    assert_eq!(io.connection.done, ["write", "flush", "flush"]);
}

#[test]
fn a_flush_that_fails_is_told_of_at_the_next_read() {
    let mut io = gathered(0);
    io.connection.flushes.push_back(Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())));
    send(&mut io);
    assert!(matches!(read(&mut io), Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe));
}

#[test]
fn what_was_written_goes_out_before_it_closes() {
    let mut io = gathered(0);
    send(&mut io);
    assert!(Pin::new(&mut io).poll_close(&mut context()).is_ready());
    assert_eq!(io.connection.done, ["write", "flush", "close"]);
}
