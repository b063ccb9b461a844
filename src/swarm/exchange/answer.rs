//! Answers what a peer asks on a stream that it opened, one request after the other.

use std::{io, marker::PhantomData, sync::Arc, time::Duration};

use futures::AsyncWriteExt;
use libp2p::Stream;
use p2pdb_protocol::message::{Reply, Status};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, oneshot},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Exchange, Incoming, Outlets, RETRY_AFTER_MS, Responder, Untaken, report,
    streams::{Accept, Asker},
};
use crate::{
    swarm::{Conduct, event_loop::Command},
    wire::frame::{self, Budget, Frame, Received, Rejected},
};

/// A stream is closed when nothing was asked on it for so long: twice as long as who opened it should keep it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who was told to come back later is not listened to for so long.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// What streams are answered with.
#[derive(Debug)]
pub(crate) struct Server {
    outlets: Outlets,
    untaken: Untaken,
    /// Bytes of requests held at the same time.
    budget: Budget,
    /// Time a peer has to send a request whole.
    read_timeout: Duration,
    commands: mpsc::Sender<Command>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    /// A server that passes requests on to the outlets; requests may take so many bytes, and untaken answers as many.
    pub(crate) fn new(
        outlets: Outlets,
        bytes: usize,
        read_timeout: Duration,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self {
            outlets,
            untaken: Untaken::new(bytes),
            budget: Budget::new(bytes),
            read_timeout,
            commands,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Takes no further requests, and waits until the peers have the answers to those that came.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How many streams peers have open.
    pub(crate) fn streams(&self) -> usize {
        self.tasks.len()
    }

    /// Answers on a stream, in a task of its own.
    pub(super) fn spawn<O: Exchange>(
        self: Arc<Self>,
        asker: Asker,
        stream: Stream,
        place: OwnedSemaphorePermit,
    ) {
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            self.answer_all::<O>(asker, stream).await;
            drop(place);
        });
    }

    async fn answer_all<O: Exchange>(&self, asker: Asker, mut stream: Stream) {
        // The first request comes with the stream.
        let mut patience = self.read_timeout;
        loop {
            let begun = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                begun = timeout(patience, frame::begin(&mut stream)) => begun,
            };
            let Ok(Ok(Some(first))) = begun else { break };
            let read = frame::read_request::<O, _>(&mut stream, first, &self.budget);
            let received = match timeout(self.read_timeout, read).await {
                Ok(Ok(received)) => received,
                Ok(Err(error)) => {
                    tracing::debug!(peer = %asker.peer, operation = O::NAME, %error, "not a request");
                    if error.kind() == io::ErrorKind::InvalidData {
                        report(&self.commands, asker.peer, Conduct::Misbehaviour).await;
                    }
                    break;
                }
                Err(_) => {
                    report(&self.commands, asker.peer, Conduct::Timeout).await;
                    break;
                }
            };
            // Who breaks the protocol gets no second chance on this stream.
            let is_last = matches!(received.request, Err(Rejected::TooLong | Rejected::Malformed));
            let Some(reply) = self.reply::<O>(asker, received).await else { break };
            let sent = timeout(O::DEADLINE, reply.send(&mut stream)).await;
            if is_last || !matches!(sent, Ok(Ok(()))) {
                break;
            }
            if reply.defers() {
                // Refusing must not be what this node does all the time.
                let _ = timeout(REFUSAL_PAUSE, self.stop.cancelled()).await;
            }
            patience = PATIENCE;
        }
        let _ = timeout(self.read_timeout, stream.close()).await;
    }

    /// The reply to a request; none if nobody gives one.
    async fn reply<O: Exchange>(&self, asker: Asker, request: Received<O::Request>) -> Option<Frame> {
        let Asker { peer, origin } = asker;
        let refusal = match request.request {
            Err(Rejected::Malformed | Rejected::TooLong) => {
                report(&self.commands, peer, Conduct::Misbehaviour).await;
                Reply::refused(Status::BadRequest)
            }
            Err(Rejected::Overloaded) => Reply::retry(Status::Busy, RETRY_AFTER_MS),
            Ok(_) => match O::outlet(&self.outlets).reserve(peer) {
                Some((place, share)) => {
                    let (reply, replied) = oneshot::channel();
                    let (commands, untaken) = (self.commands.clone(), self.untaken.clone());
                    let responder =
                        Responder { peer, reply, commands, untaken, noted: None, operation: PhantomData };
                    place.send(Incoming { peer, origin, request, conduct: None, responder, _share: share });
                    return timeout(O::DEADLINE, replied).await.ok()?.ok();
                }
                None => Reply::retry(Status::Busy, RETRY_AFTER_MS),
            },
        };
        super::frame::<O>(&refusal)
    }
}

impl Accept for Server {
    fn accept(self: Arc<Self>, operation: usize, asker: Asker, stream: Stream, place: OwnedSemaphorePermit) {
        // After shutdown nothing is answered.
        if !self.stop.is_cancelled() {
            self.serve(operation, asker, stream, place);
        }
    }
}
