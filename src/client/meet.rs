//! Says hello to every node that is met, and to all again when there is something new to say of this end; remembers what
//! they say (SPEC 8.3, 11.2).

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    id::TableId,
    message::hello::{Hello, HelloRequest, HelloResponse},
};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock::Clock,
    swarm::{
        Conduct, Event, Handle, RequestError,
        routes::{RouteError, Routes},
    },
};

/// Clients serve nothing and show no record.
pub async fn no_record() -> Option<Bytes> {
    None
}

/// Greets whoever is met until `shutdown`, showing the record that `own_record` gives, if any.
pub async fn run<R, F>(
    swarm: Handle,
    routes: Arc<Routes>,
    clock: Clock,
    own_record: R,
    shutdown: CancellationToken,
) where
    R: Fn() -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Bytes>> + Send,
{
    let mut events = swarm.events();
    let greetings = TaskTracker::new();
    // As many at a time as there are connections, which are bounded.
    let greet_one = |peer: PeerId, record: Option<Bytes>| {
        let (swarm, routes, clock) = (swarm.clone(), Arc::clone(&routes), clock.clone());
        greetings.spawn(async move {
            if let Err(error) = greet(&swarm, &routes, &clock, peer, record, None).await {
                tracing::debug!(%peer, %error, "a node did not introduce itself");
            }
        });
    };
    // What all have been told; who is met hears of the present anyway.
    let mut told = None;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.recv() => event,
        };
        match event {
            Ok(Event::Met { peer, serves: true }) => {
                greet_one(peer, own_record().await);
            }
            // Who is connected already would go on to send others where this node is not.
            Ok(Event::Listening { .. }) => {
                let record = own_record().await;
                if record.is_some() && record != told {
                    let peers = swarm.serving_peers().await.unwrap_or_default();
                    peers.into_iter().for_each(|peer| greet_one(peer, record.clone()));
                    told = record;
                }
            }
            // Some may have come unnoticed.
            Err(RecvError::Lagged(_)) => {
                let record = own_record().await;
                let peers = swarm.serving_peers().await.unwrap_or_default();
                let strangers =
                    peers.into_iter().filter(|peer| !routes.of(peer).is_some_and(|route| route.met));
                strangers.for_each(|peer| greet_one(peer, record.clone()));
            }
            Ok(_) => {}
            Err(RecvError::Closed) => break,
        }
    }
    greetings.close();
    greetings.wait().await;
}

/// Introduces this end to a node, and keeps the records that it tells. `tables` asks for nodes that mirror one of
/// them.
///
/// # Errors
/// If the node does not answer, or shows a record that is not its own.
pub async fn greet(
    swarm: &Handle,
    routes: &Routes,
    clock: &Clock,
    peer: PeerId,
    record: Option<Bytes>,
    tables: Option<Vec<TableId>>,
) -> Result<HelloResponse, RequestError> {
    let too_long = |e: p2pdb_protocol::codec::bounded::TooLong| RequestError::Invalid(e.to_string());
    let request = HelloRequest {
        record: record.map(Blob::try_from).transpose().map_err(too_long)?,
        tables: tables.map(List::try_from).transpose().map_err(too_long)?,
    };
    let response = swarm.request::<Hello>(peer, request).await?;
    let now = clock.now();
    let seen_at = swarm.address_of(peer).await;
    match routes.met(peer, response.record.clone().into_inner(), seen_at.clone(), now) {
        Ok(route) => swarm.add_addresses(peer, route.addresses().collect()).await,
        Err(error) => {
            // A wrong clock is no ill will.
            if !matches!(error, RouteError::FromTheFuture) {
                swarm.report(peer, Conduct::Misbehaviour).await;
            }
            return Err(RequestError::Invalid(error.to_string()));
        }
    }
    for encoded in &response.records {
        match routes.heard(encoded.clone().into_inner(), seen_at.clone(), now) {
            Ok(Some(route)) => {
                swarm.add_addresses(route.peer, route.addresses().collect()).await;
            }
            Ok(None) => {}
            Err(error) => {
                // Whoever passes it on may have had another clock, or be more lenient.
                tracing::debug!(%peer, %error, "passed on a record that is not taken here");
            }
        }
    }
    swarm.introduced(peer).await;
    Ok(response)
}
