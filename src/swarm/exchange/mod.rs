//! Requests and responses, the same for every operation: one frame each way on a stream that the two sides keep for the next
//! (SPEC 8.1).
//!
//! Opening a stream and naming its protocol costs both sides several times what a small request does, so whoever asks keeps
//! the streams that it asked on ([`idle`]). The event loop only opens streams ([`streams`]); who asks speaks on one
//! himself ([`ask`]), and whoever serves has a task for each ([`answer`]).

pub(super) mod answer;
pub(super) mod ask;
pub(super) mod idle;
pub(super) mod streams;

use std::{marker::PhantomData, sync::Arc, time::Duration};

use libp2p::{PeerId, Stream, StreamProtocol};
use p2pdb_protocol::{
    limits,
    message::{Operation, Reply, Status, get::Get, hello::Hello, index::Index, put::Put, sync::Sync},
    network::Network,
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use self::streams::Asker;
use crate::{
    swarm::{
        Conduct,
        event_loop::Command,
        ip_limits::Origin,
        share::{Share, Shares},
    },
    wire::{
        frame::{Budget, Frame, Received, Rejected},
        protocol_name,
    },
};

/// Requests of all operations under way to one peer.
pub(super) const MAX_ASKING: usize = 128;
/// When a peer that found us busy should come back, in milliseconds.
const RETRY_AFTER_MS: u64 = 2_000;

/// Answers of so many bytes are charged to nobody: each is less than what a stream takes anyway.
const SMALL_ANSWER: usize = 4 << 10;
/// A peer gets this part of the bytes that untaken answers may have, but room for the longest two at least.
const UNTAKEN_SHARE: usize = 8;
const LEAST_UNTAKEN: usize = 2 * limits::SYNC_RESPONSE_BYTES;

/// Answers that peers have not taken yet. Who asks and does not read must not make the node keep it all.
#[derive(Debug, Clone)]
pub(super) struct Untaken {
    budget: Budget,
    shares: Shares,
}

impl Untaken {
    /// At most so many bytes over all peers.
    pub(super) fn new(bytes: usize) -> Self {
        let share = (bytes / UNTAKEN_SHARE).max(LEAST_UNTAKEN);
        Self { budget: Budget::new(bytes), shares: Shares::new(share) }
    }

    /// The frame of a reply; or that this node is busy, if too much is untaken.
    fn frame<O: Operation>(&self, peer: PeerId, reply: &Reply<O::Response>) -> Option<Frame> {
        let frame = frame::<O>(reply)?;
        let bytes = frame.message_bytes();
        if bytes <= SMALL_ANSWER {
            return Some(frame);
        }
        let share = self.shares.take_many(peer, bytes);
        match share.and_then(|share| Some((share, self.budget.take(bytes)?))) {
            Some(held) => Some(frame.holding(held)),
            None => self::frame::<O>(&Reply::retry(Status::Busy, RETRY_AFTER_MS)),
        }
    }
}

fn frame<O: Operation>(reply: &Reply<O::Response>) -> Option<Frame> {
    let frame = Frame::reply::<O>(reply);
    frame.inspect_err(|error| tracing::error!(operation = O::NAME, %error, "an answer cannot be sent")).ok()
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

    /// Whether nobody waits for the answer any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.responder.reply.is_closed()
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
    reply: oneshot::Sender<Frame>,
    commands: mpsc::Sender<Command>,
    untaken: Untaken,
    noted: Option<Conduct>,
    operation: PhantomData<O>,
}

impl<O: Operation> Responder<O> {
    /// Sends the reply, or that this node is busy, if the peer, or all together, leave too much untaken; and reports what was
    /// noted of the peer.
    pub async fn send(self, reply: Reply<O::Response>) {
        let Self { peer, reply: answer, commands, untaken, noted, .. } = self;
        if let Some(conduct) = noted {
            report(&commands, peer, conduct).await;
        }
        if let Some(frame) = untaken.frame::<O>(peer, &reply) {
            // The peer may have gone; then nobody misses the answer.
            let _ = answer.send(frame);
        }
    }
}

/// Has the event loop note what a peer did.
async fn report(commands: &mpsc::Sender<Command>, peer: PeerId, conduct: Conduct) {
    // After shutdown nobody wants to know.
    let _ = commands.send(Box::new(move |event_loop| event_loop.report(peer, conduct))).await;
}

/// Where requests of peers go.
#[derive(Debug)]
pub(super) struct Outlets {
    pub(super) hello: Outlet<Incoming<Hello>>,
    pub(super) index: Outlet<Incoming<Index>>,
    pub(super) get: Outlet<Incoming<Get>>,
    pub(super) put: Outlet<Incoming<Put>>,
    pub(super) sync: Outlet<Incoming<Sync>>,
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

/// What the swarm has to know of an operation.
pub trait Exchange: Operation {
    /// The time for a request and its reply; a request that could not be answered in it is given up by both sides.
    #[doc(hidden)]
    const DEADLINE: Duration;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn outlet(outlets: &Outlets) -> &Outlet<Incoming<Self>>;
}

macro_rules! exchanges {
    ($($operation:ident $field:ident $number:literal $seconds:literal,)*) => {
        $(impl Exchange for $operation {
            const DEADLINE: Duration = Duration::from_secs($seconds);

            #[allow(private_interfaces)]
            fn outlet(outlets: &Outlets) -> &Outlet<Incoming<Self>> {
                &outlets.$field
            }
        })*

        /// The protocol names of all operations in a network, each in the place of its number.
        pub(super) fn names(network: &Network) -> Vec<StreamProtocol> {
            vec![$(protocol_name::<$operation>(network)),*]
        }

        impl answer::Server {
            /// Answers on a stream of the operation with this number.
            fn serve(self: Arc<Self>, number: usize, asker: Asker, stream: Stream, place: OwnedSemaphorePermit) {
                match number {
                    $($number => self.spawn::<$operation>(asker, stream, place),)*
                    _ => {}
                }
            }
        }
    };
}

exchanges! {
    Hello hello 0 15,
    Index index 1 30,
    Get get 2 30,
    Put put 3 30,
    Sync sync 4 30,
}
