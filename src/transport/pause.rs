//! A swarm asks its connections what they have to say before it looks whether somebody new is at the door, and goes on asking for
//! as long as there is something: peers that never stop talking would keep everybody else out, and the swarm's owner waiting. So
//! all streams pause from time to time, until those at the door were let in.
//!
//! It is the streams that pause and not the handlers of protocols, since these throw away streams that come while they are not asked.

use std::{
    io,
    ops::{Deref, DerefMut},
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
    Multiaddr, PeerId,
    core::{
        Endpoint, StreamMuxer,
        muxing::{StreamMuxerEvent, StreamMuxerExt},
        transport::{DialOpts, ListenerId, PortUse, TransportError, TransportEvent},
    },
    swarm::{
        ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

/// Connections have said so many things when their streams pause. Each takes the swarm a millisecond at most; besides, what was read
/// before is heard: some kilobytes of each stream.
const EVENTS: usize = 128;
/// So many are let in when the pause ends, if there are more at the door.
const ENTRANTS: usize = 64;

/// What the behaviour, the streams and the transport of a swarm know of pauses. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pause(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// What connections said since the last pause, or since nobody was at the door.
    events: AtomicUsize,
    /// Who came in during the pause.
    entrants: AtomicUsize,
    /// Whether there is an end to wait for: streams look at it each time that they are read.
    is_on: AtomicBool,
    /// The pause ends when the sender is dropped.
    end: Mutex<Option<(oneshot::Sender<()>, End)>>,
}

type End = Shared<oneshot::Receiver<()>>;

impl Pause {
    /// A connection said something.
    fn count(&self) {
        if self.0.events.fetch_add(1, Ordering::Relaxed) + 1 >= EVENTS {
            let mut end = self.lock();
            if end.is_none() {
                let (sender, receiver) = oneshot::channel();
                *end = Some((sender, receiver.shared()));
                self.0.entrants.store(0, Ordering::Relaxed);
                self.0.is_on.store(true, Ordering::Release);
            }
        }
    }

    /// The swarm has looked who is at the door.
    fn looked(&self, somebody: bool) {
        if somebody && self.0.entrants.fetch_add(1, Ordering::Relaxed) + 1 < ENTRANTS {
            return;
        }
        self.0.events.store(0, Ordering::Relaxed);
        if self.0.is_on.swap(false, Ordering::AcqRel) {
            *self.lock() = None;
        }
    }

    /// What streams wait for before they are read on, if there is a pause.
    fn end(&self) -> Option<End> {
        if !self.0.is_on.load(Ordering::Acquire) {
            return None;
        }
        self.lock().as_ref().map(|(_, end)| end.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(oneshot::Sender<()>, End)>> {
        self.0.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A behaviour that counts what connections say.
#[derive(Debug)]
pub struct Behaviour<B> {
    behaviour: B,
    pause: Pause,
}

impl<B> Behaviour<B> {
    pub(super) const fn new(behaviour: B, pause: Pause) -> Self {
        Self { behaviour, pause }
    }
}

impl<B> Deref for Behaviour<B> {
    type Target = B;

    fn deref(&self) -> &B {
        &self.behaviour
    }
}

impl<B> DerefMut for Behaviour<B> {
    fn deref_mut(&mut self) -> &mut B {
        &mut self.behaviour
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Behaviour<B> {
    type ConnectionHandler = B::ConnectionHandler;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.behaviour.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.behaviour.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.behaviour.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.behaviour.handle_established_outbound_connection(connection, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        self.behaviour.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.pause.count();
        self.behaviour.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.behaviour.poll(cx)
    }
}

/// A connection whose streams pause.
#[derive(Debug)]
pub(super) struct Muxer<M> {
    muxer: M,
    pause: Pause,
}

impl<M> Muxer<M> {
    pub(super) const fn new(muxer: M, pause: Pause) -> Self {
        Self { muxer, pause }
    }
}

impl<M: StreamMuxer + Unpin> Muxer<M> {
    fn stream(
        &self,
        stream: Poll<Result<M::Substream, M::Error>>,
    ) -> Poll<Result<Stream<M::Substream>, M::Error>> {
        stream.map_ok(|stream| Stream { stream, pause: self.pause.clone(), end: None })
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
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = self.muxer.poll_inbound_unpin(cx);
        self.stream(stream)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let stream = self.muxer.poll_outbound_unpin(cx);
        self.stream(stream)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.muxer.poll_close_unpin(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        self.muxer.poll_unpin(cx)
    }
}

/// A stream that is not read during pauses: what its peer says waits, and the window of the stream holds the peer back.
#[derive(Debug)]
pub(super) struct Stream<S> {
    stream: S,
    pause: Pause,
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
            self.end = self.pause.end();
        }
        if let Some(end) = &mut self.end {
            let (Ok(()) | Err(Canceled)) = ready!(end.poll_unpin(cx));
            self.end = None;
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
