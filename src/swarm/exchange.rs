//! The request-response side of the event loop, the same for every operation.

use std::collections::HashMap;

use libp2p::{
    PeerId,
    request_response::{self, InboundFailure, Message, OutboundFailure, OutboundRequestId, ResponseChannel},
};
use p2pdb_protocol::{
    limits,
    message::{Operation, Reply, Status, get::Get, hello::Hello, index::Index, put::Put, sync::Sync},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    swarm::{
        Conduct,
        behaviour::Behaviour,
        event_loop::{Command, EventLoop},
        gossip::Announced,
        ip_limits::Origin,
        share::{Share, Shares},
    },
    wire::{self, Received, Rejected},
};

/// When a peer that found us busy should come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 2_000;

/// Answers of so many bytes are charged to nobody: each is less than what a stream takes anyway.
const SMALL_ANSWER: usize = 4 << 10;
/// A peer gets this part of the bytes that unread answers may take, but room for the longest two at least.
const UNREAD_SHARE: usize = 8;
const LEAST_UNREAD: usize = 2 * limits::SYNC_RESPONSE_BYTES;

/// Answers that peers have not taken yet. Who asks and does not read must not make the node keep it all.
#[derive(Debug, Clone)]
pub(super) struct Unread {
    budget: wire::Budget,
    shares: Shares,
}

impl Unread {
    /// At most so many bytes over all peers.
    pub(super) fn new(bytes: usize) -> Self {
        let share = (bytes / UNREAD_SHARE).max(LEAST_UNREAD);
        Self { budget: wire::Budget::new(bytes), shares: Shares::new(share) }
    }

    /// The encoded reply; or that this node is busy, if too much is unread.
    fn encode<O: Operation>(&self, peer: PeerId, reply: &Reply<O::Response>) -> Option<Outgoing<O>> {
        let response = encode::<O>(reply)?;
        if response.len() <= SMALL_ANSWER {
            return Some(response);
        }
        let share = self.shares.take_many(peer, response.len());
        match share.and_then(|share| Some((share, self.budget.take(response.len())?))) {
            Some(held) => Some(response.holding(held)),
            None => encode::<O>(&Reply::retry(Status::Busy, RETRY_AFTER_MS)),
        }
    }
}

type Outgoing<O> = wire::Response<<O as Operation>::Response>;

fn encode<O: Operation>(reply: &Reply<O::Response>) -> Option<Outgoing<O>> {
    let response = wire::Response::encode(reply, O::MAX_RESPONSE);
    response
        .inspect_err(|error| tracing::error!(operation = O::NAME, %error, "an answer cannot be sent"))
        .ok()
}

/// A request of a peer.
#[derive(Debug)]
pub struct Incoming<O: Operation> {
    /// Who asks.
    pub peer: PeerId,
    /// Where the peer is, if it is known by its IP address.
    pub origin: Option<Origin>,
    /// What it asks.
    pub request: Received<O::Request>,
    /// What the answer says of the peer.
    conduct: Option<Conduct>,
    /// Where the answer goes.
    responder: Responder<O>,
    /// Its place among those of the same peer.
    _share: Share,
}

impl<O: Operation> Incoming<O> {
    /// Takes the request out; its bytes stay charged to the budget until `self` is dropped.
    pub fn take_request(&mut self) -> Option<O::Request> {
        std::mem::replace(&mut self.request.request, Err(Rejected::Malformed)).ok()
    }

    /// Notes what the peer did by asking this, which is reported with the answer.
    pub const fn note(&mut self, conduct: Conduct) {
        self.conduct = Some(conduct);
    }

    /// Gives up the request's bytes and its place among those of the peer, and keeps the way back.
    pub fn into_responder(self) -> Responder<O> {
        Responder { noted: self.conduct, ..self.responder }
    }
}

/// Answers one request. Dropped without an answer, the peer sees its stream close.
#[derive(Debug)]
pub struct Responder<O: Operation> {
    peer: PeerId,
    channel: ResponseChannel<Outgoing<O>>,
    commands: mpsc::Sender<Command>,
    unread: Unread,
    noted: Option<Conduct>,
}

impl<O: Exchange> Responder<O> {
    /// Sends the reply, or that this node is busy, if the peer, or all together, leave too much unread; and reports what was
    /// noted of the peer.
    pub async fn send(self, reply: Reply<O::Response>) {
        let Self { peer, channel, commands, unread, noted } = self;
        let response = unread.encode::<O>(peer, &reply);
        let respond: Command = Box::new(move |event_loop| {
            if let Some(conduct) = noted {
                event_loop.report(peer, conduct);
            }
            if let Some(response) = response {
                event_loop.respond::<O>(channel, response);
            }
        });
        let _ = commands.send(respond).await;
    }
}

/// Where requests and announces of peers go.
pub(super) struct Outlets {
    pub(super) hello: Outlet<Incoming<Hello>>,
    pub(super) index: Outlet<Incoming<Index>>,
    pub(super) get: Outlet<Incoming<Get>>,
    pub(super) put: Outlet<Incoming<Put>>,
    pub(super) sync: Outlet<Incoming<Sync>>,
    pub(super) announced: Outlet<Announced>,
    pub(super) unread: Unread,
}

/// A bounded queue of which each peer gets a share.
#[derive(Debug)]
pub(super) struct Outlet<T> {
    queue: mpsc::Sender<T>,
    shares: Shares,
}

impl<T> Outlet<T> {
    /// A queue of so many places, of which a peer gets so many, and its other end.
    pub(super) fn new(places: usize, per_peer: usize) -> (Self, mpsc::Receiver<T>) {
        let (queue, receiver) = mpsc::channel(places);
        (Self { queue, shares: Shares::new(per_peer) }, receiver)
    }

    /// A place for something of `peer`; none if the queue is full or the peer has its share.
    pub(super) fn reserve(&self, peer: PeerId) -> Option<(mpsc::Permit<'_, T>, Share)> {
        let share = self.shares.take(peer)?;
        Some((self.queue.try_reserve().ok()?, share))
    }
}

/// Requests that wait for a response.
pub(super) type Waiting<O> =
    HashMap<OutboundRequestId, oneshot::Sender<Result<Reply<<O as Operation>::Response>, OutboundFailure>>>;

#[derive(Default)]
pub(super) struct AllWaiting {
    hello: Waiting<Hello>,
    index: Waiting<Index>,
    get: Waiting<Get>,
    put: Waiting<Put>,
    sync: Waiting<Sync>,
}

/// Where the parts of an operation stand in the event loop.
pub trait Exchange: Operation {
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<wire::Codec<Self>>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn waiting(all: &mut AllWaiting) -> &mut Waiting<Self>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn outlet(outlets: &Outlets) -> &Outlet<Incoming<Self>>;
}

macro_rules! exchange {
    ($operation:ident, $field:ident) => {
        #[allow(private_interfaces)]
        impl Exchange for $operation {
            fn behaviour(behaviour: &mut Behaviour) -> &mut request_response::Behaviour<wire::Codec<Self>> {
                &mut behaviour.$field
            }

            fn waiting(all: &mut AllWaiting) -> &mut Waiting<Self> {
                &mut all.$field
            }

            fn outlet(outlets: &Outlets) -> &Outlet<Incoming<Self>> {
                &outlets.$field
            }
        }
    };
}

exchange!(Hello, hello);
exchange!(Index, index);
exchange!(Get, get);
exchange!(Put, put);
exchange!(Sync, sync);

type ExchangeEvent<O> = request_response::Event<Received<<O as Operation>::Request>, Outgoing<O>>;

impl EventLoop {
    pub(super) fn on_exchange<O: Exchange>(&mut self, event: ExchangeEvent<O>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => self.on_request::<O>(peer, request, channel),
                Message::Response { request_id, response } => {
                    if let Some(waiting) = O::waiting(&mut self.waiting).remove(&request_id)
                        && let Some(reply) = response.into_reply()
                    {
                        let _ = waiting.send(Ok(reply));
                    }
                }
            },
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, operation = O::NAME, %error, "request failed");
                match &error {
                    OutboundFailure::Timeout => self.report(peer, Conduct::Timeout),
                    OutboundFailure::Io(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                        self.report(peer, Conduct::Misbehaviour);
                    }
                    _ => {}
                }
                if let Some(waiting) = O::waiting(&mut self.waiting).remove(&request_id) {
                    let _ = waiting.send(Err(error));
                }
            }
            request_response::Event::InboundFailure { peer, error, .. } => {
                // It may have failed before it was answered: then the count is short, and shutdown a little hastier.
                self.answering = self.answering.saturating_sub(1);
                tracing::debug!(%peer, operation = O::NAME, %error, "a peer's request failed");
                if let InboundFailure::Io(e) = &error {
                    match e.kind() {
                        std::io::ErrorKind::InvalidData => self.report(peer, Conduct::Misbehaviour),
                        std::io::ErrorKind::TimedOut => self.report(peer, Conduct::Timeout),
                        _ => {}
                    }
                }
            }
            request_response::Event::ResponseSent { .. } => self.answering = self.answering.saturating_sub(1),
        }
    }

    fn on_request<O: Exchange>(
        &mut self,
        peer: PeerId,
        request: Received<O::Request>,
        channel: ResponseChannel<Outgoing<O>>,
    ) {
        let refusal = match request.request {
            Err(Rejected::Malformed) => {
                self.report(peer, Conduct::Misbehaviour);
                Reply::refused(Status::BadRequest)
            }
            Err(Rejected::Overloaded) => Reply::retry(Status::Busy, RETRY_AFTER_MS),
            Ok(_) => {
                if let Some((place, share)) = O::outlet(&self.outlets).reserve(peer) {
                    let (commands, unread) = (self.own_commands.clone(), self.outlets.unread.clone());
                    let responder = Responder { peer, channel, commands, unread, noted: None };
                    let origin = self.origin(&peer);
                    let conduct = None;
                    return place.send(Incoming { peer, origin, request, conduct, responder, _share: share });
                }
                Reply::retry(Status::Busy, RETRY_AFTER_MS)
            }
        };
        if let Some(refusal) = encode::<O>(&refusal) {
            self.respond::<O>(channel, refusal);
        }
    }

    fn respond<O: Exchange>(&mut self, channel: ResponseChannel<Outgoing<O>>, response: Outgoing<O>) {
        // The peer may have gone; then nobody misses the answer.
        if O::behaviour(self.swarm.behaviour_mut()).send_response(channel, response).is_ok() {
            self.answering += 1;
        }
    }
}
