//! A swarm asks its connections what they have to say before it looks whether somebody new is at the door, and as long as they have
//! something it goes on to ask, and returns only for what concerns its owner: peers that never stop talking would keep everybody else
//! out, and the owner's commands waiting. So whoever talks much has to pause from time to time, until those at the door were let in.
//!
//! It is streams that pause and not the handlers of protocols, since these throw away streams that come while they are not asked.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt,
    channel::oneshot::{self, Canceled},
    future::Shared,
};
use libp2p::{
    Multiaddr,
    core::{
        StreamMuxer,
        muxing::{StreamMuxerEvent, StreamMuxerExt},
        transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    },
};

/// Connections have said so many things when a pause begins. What they have said by then is heard before it ends: the
/// [`CONNECTION_EVENTS`](super::CONNECTION_EVENTS) in the queue of each, and what its protocols have read already, some kilobytes.
const EVENTS: usize = 128;
/// A connection of which fewer bytes were read since the swarm looked at the door last goes on meanwhile, since it is others that talk;
const QUIET: usize = 16 << 10;
/// unless so much was said that there has to be an end: a byte can be enough to say something.
const MOST_EVENTS: usize = 8 * EVENTS;
/// So many are let in when the pause ends, if there are more at the door.
const ENTRANTS: usize = 64;

/// What the behaviour, the streams and the transport of a swarm know of pauses. Clones share it. Only the swarm counts and looks.
#[derive(Debug, Clone, Default)]
pub struct Pause(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What connections said since the swarm looked at the door.
    events: AtomicUsize,
    /// How often it looked, and ended a pause if there was one.
    looks: AtomicUsize,
    /// Who came in during the pause.
    entrants: AtomicUsize,
    /// Whether there is an end to wait for: streams look at it each time that they are read.
    is_on: AtomicBool,
    /// The pause ends when the sender is dropped.
    end: Mutex<Option<(oneshot::Sender<()>, End)>>,
}

type End = Shared<oneshot::Receiver<()>>;

impl Pause {
    fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Acquire)
    }

    fn looks(&self) -> usize {
        self.0.looks.load(Ordering::Relaxed)
    }

    /// A connection said something: the swarm's behaviour has to tell.
    pub(crate) fn count(&self) {
        if self.0.events.fetch_add(1, Ordering::Relaxed) + 1 >= EVENTS && !self.is_on() {
            let (sender, receiver) = oneshot::channel();
            *self.lock() = Some((sender, receiver.shared()));
            self.0.entrants.store(0, Ordering::Relaxed);
            self.0.is_on.store(true, Ordering::Release);
        }
    }

    /// The swarm has looked at the door.
    fn looked(&self, somebody: bool) {
        if self.is_on() && somebody && self.0.entrants.fetch_add(1, Ordering::Relaxed) + 1 < ENTRANTS {
            return;
        }
        self.0.events.store(0, Ordering::Relaxed);
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        self.stop();
    }

    fn stop(&self) {
        if self.0.is_on.swap(false, Ordering::AcqRel) {
            // Whoever waits is woken outside of the lock.
            let ended = self.lock().take();
            drop(ended);
        }
    }

    /// What streams wait for before they are read on, if there is a pause.
    fn end(&self) -> Option<End> {
        self.lock().as_ref().map(|(_, end)| end.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(oneshot::Sender<()>, End)>> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was read of a connection.
#[derive(Debug, Default)]
struct Connection {
    pause: Pause,
    bytes: AtomicUsize,
    /// Since the swarm looked at the door so many times. Streams that are read at the same time may miss some bytes.
    looks: AtomicUsize,
}

impl Connection {
    fn add(&self, bytes: usize) {
        let looks = self.pause.looks();
        if self.looks.load(Ordering::Relaxed) == looks {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        } else {
            self.looks.store(looks, Ordering::Relaxed);
            self.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    fn is_quiet(&self) -> bool {
        self.looks.load(Ordering::Relaxed) != self.pause.looks() || self.bytes.load(Ordering::Relaxed) < QUIET
    }

    /// What it waits for, if it talks much and there is a pause.
    fn pauses(&self) -> Option<End> {
        if !self.pause.is_on()
            || (self.is_quiet() && self.pause.0.events.load(Ordering::Relaxed) < MOST_EVENTS)
        {
            return None;
        }
        self.pause.end()
    }
}

/// A connection whose streams pause.
#[derive(Debug)]
pub(super) struct Muxer<M> {
    muxer: M,
    connection: Arc<Connection>,
}

impl<M: StreamMuxer + Unpin> Muxer<M> {
    pub(super) fn new(muxer: M, pause: Pause) -> Self {
        Self { muxer, connection: Arc::new(Connection { pause, ..Connection::default() }) }
    }

    fn stream(&self, stream: M::Substream) -> Stream<M::Substream> {
        Stream { stream, connection: Arc::clone(&self.connection), end: None }
    }
}

impl<M: StreamMuxer + Unpin> StreamMuxer for Muxer<M>
where
    M::Substream: Unpin,
{
    type Substream = Stream<M::Substream>;
    type Error = M::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, M::Error>> {
        self.muxer.poll_inbound_unpin(cx).map_ok(|stream| self.stream(stream))
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, M::Error>> {
        self.muxer.poll_outbound_unpin(cx).map_ok(|stream| self.stream(stream))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), M::Error>> {
        self.muxer.poll_close_unpin(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, M::Error>> {
        self.muxer.poll_unpin(cx)
    }
}

/// A stream that is not read during pauses, if much is said on its connection: the rest waits, and the window of the stream holds the
/// peer back.
#[derive(Debug)]
pub(super) struct Stream<S> {
    stream: S,
    connection: Arc<Connection>,
    /// The end of the pause that it is in.
    end: Option<End>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Stream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.end.is_none() {
            self.end = self.connection.pauses();
        }
        if let Some(end) = &mut self.end {
            let (Ok(()) | Err(Canceled)) = ready!(end.poll_unpin(cx));
            self.end = None;
        }
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
        self.connection.add(*read.as_ref().unwrap_or(&0));
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

/// The transport through which those come in for whom streams pause.
pub(super) struct Transport<T> {
    transport: T,
    pause: Pause,
}

impl<T> Transport<T> {
    pub(super) const fn new(transport: T, pause: Pause) -> Self {
        Self { transport, pause }
    }
}

/// A swarm that is gone looks no more.
impl<T> Drop for Transport<T> {
    fn drop(&mut self) {
        self.pause.stop();
    }
}

impl<T: libp2p::Transport + Unpin> libp2p::Transport for Transport<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<Self::Error>> {
        self.transport.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        self.transport.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        let event = Pin::new(&mut self.transport).poll(cx);
        self.pause.looked(event.is_ready());
        event
    }
}

#[cfg(test)]
mod tests;
