//! Answers what peers ask: one file per operation.

mod get;
mod hello;
mod index;
mod put;
pub mod quota;
mod sync;

use std::{future::Future, sync::Arc};

use p2pdb_protocol::message::{Operation, Reply, Status};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::quota::Limiter;
pub use self::{hello::OwnRecord, quota::Rates};
use crate::{
    clock::Clock,
    ingest::Gate,
    store::{Store, StoreError},
    swarm::{Handle, Inbox, Incoming, routes::Routes},
};

/// Requests of one operation that are answered at the same time: enough that one commit can serve many puts.
const MAX_ANSWERING: usize = 64;
/// When a peer whose quota is used up should come back, in milliseconds.
const QUOTA_RETRY_MS: u64 = 10_000;
/// When a peer should come back whose question the store has no time for, in milliseconds.
const STORE_RETRY_MS: u64 = 5_000;

/// What the answers are made of.
#[derive(Debug)]
pub struct Service {
    pub(crate) store: Store,
    pub(crate) gate: Gate,
    pub(crate) routes: Arc<Routes>,
    pub(crate) swarm: Handle,
    pub(crate) clock: Clock,
    pub(crate) own_record: OwnRecord,
    rates: Rates,
    hellos: Limiter,
    indexes: Limiter,
    index_pages: Limiter,
    gets: Limiter,
    get_bytes: Limiter,
    puts: Limiter,
    syncs: Limiter,
    sync_bytes: Limiter,
    sync_work: Limiter,
}

impl Service {
    /// A service that answers out of `store` and admits through `gate`.
    #[must_use]
    pub fn new(
        store: Store,
        gate: Gate,
        routes: Arc<Routes>,
        swarm: Handle,
        clock: Clock,
        own_record: OwnRecord,
        rates: Rates,
    ) -> Self {
        let limiter = |items| Limiter::per_minute(items, rates.per_address);
        Self {
            store,
            gate,
            routes,
            swarm,
            clock,
            own_record,
            rates,
            hellos: limiter(rates.hellos),
            indexes: limiter(rates.indexes),
            index_pages: limiter(rates.index_pages),
            gets: limiter(rates.gets),
            get_bytes: limiter(rates.get_bytes),
            puts: limiter(rates.puts),
            syncs: limiter(rates.syncs),
            sync_bytes: limiter(rates.sync_bytes),
            sync_work: limiter(rates.sync_work),
        }
    }
}

/// An operation that this node answers.
trait Answer: Operation + Sized {
    /// The limiter and how much of it the request costs.
    fn cost<'a>(service: &'a Service, request: &Self::Request) -> (&'a Limiter, usize);

    /// The reply to a request that is within its quota.
    fn answer(
        service: &Service,
        incoming: &mut Incoming<Self>,
        request: Self::Request,
    ) -> impl Future<Output = Reply<Self::Response>> + Send;
}

/// Answers what comes through the inbox until `shutdown`; the tasks are `tasks`. Announces are not served here:
/// they are handed back.
pub fn start(
    service: &Arc<Service>,
    inbox: Inbox,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> mpsc::Receiver<crate::swarm::Announced> {
    let Inbox { hello, index, get, put, sync, announces } = inbox;
    tasks.spawn(answer_all(Arc::clone(service), hello, shutdown.clone()));
    tasks.spawn(answer_all(Arc::clone(service), index, shutdown.clone()));
    tasks.spawn(answer_all(Arc::clone(service), get, shutdown.clone()));
    tasks.spawn(answer_all(Arc::clone(service), put, shutdown.clone()));
    tasks.spawn(answer_all(Arc::clone(service), sync, shutdown.clone()));
    announces
}

async fn answer_all<O: Answer + crate::swarm::Exchange>(
    service: Arc<Service>,
    mut requests: mpsc::Receiver<Incoming<O>>,
    shutdown: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(MAX_ANSWERING));
    // What is being answered when the node stops is answered still.
    let answering = TaskTracker::new();
    loop {
        let incoming = tokio::select! {
            () = shutdown.cancelled() => break,
            incoming = requests.recv() => match incoming {
                Some(incoming) => incoming,
                None => break,
            },
        };
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        let service = Arc::clone(&service);
        answering.spawn(async move {
            answer_one(&service, incoming).await;
            drop(place);
        });
    }
    answering.close();
    answering.wait().await;
}

#[tracing::instrument(level = "debug", skip_all, fields(operation = O::NAME, peer = %incoming.peer))]
async fn answer_one<O: Answer + crate::swarm::Exchange>(service: &Service, mut incoming: Incoming<O>) {
    if incoming.is_abandoned() {
        // It waited for longer than the peer does: all work would be for nobody.
        return;
    }
    let Some(request) = incoming.take_request() else { return };
    let (limiter, cost) = O::cost(service, &request);
    let reply = match limiter.charge(incoming.peer, incoming.origin, cost) {
        Ok(()) => O::answer(service, &mut incoming, request).await,
        Err(quota::Exceeded) => Reply::retry(Status::RateLimited, QUOTA_RETRY_MS),
    };
    // Its place is free before the peer can know it, and ask the next.
    incoming.into_responder().send(reply).await;
}

/// The reply to a request whose answer the store could not give.
fn store_failed<T>(error: &StoreError) -> Reply<T> {
    if matches!(error, StoreError::Busy) {
        return Reply::retry(Status::Busy, STORE_RETRY_MS);
    }
    tracing::error!(error = error.with_causes(), "a request could not be answered");
    Reply::refused(Status::Failed)
}
