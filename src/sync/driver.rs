//! Carries out one session of the protocol's state machine: its requests over the swarm, its questions to the store,
//! and what it gets through the gate.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;
use p2pdb_protocol::{
    bucket::BucketSummary,
    codec::bounded::{Blob, List},
    filter::Filter,
    id::{EntryId, TableId},
    limits,
    message::{
        get::Get,
        index::{Index, IndexRequest},
    },
    reconcile::{Event, Output, Report, Request, RequestId, Response, Served, Session, Setup},
    refusal::Outcome,
};
use rand_core::UnwrapErr;
use tokio::time::Instant;

use crate::{
    ingest::Way,
    store::{Presence, StoreError},
    swarm::{Conduct, RequestError},
    sync::Context,
};

/// What became of something the session asked for.
enum Happened {
    Answered {
        request: RequestId,
        bytes: u64,
        response: Response,
    },
    Failed {
        request: RequestId,
        retry_after: Option<Duration>,
    },
    OwnIndex(Vec<BucketSummary>),
    Unknown {
        question: RequestId,
        ids: Vec<EntryId>,
    },
    /// The store failed: the session cannot go on.
    Stuck,
}

type Task<'a> = Pin<Box<dyn Future<Output = Happened> + Send + 'a>>;

/// Reconciles one table with one peer.
pub(super) async fn run(context: &Context, peer: PeerId, table: TableId) -> Report {
    let started = Instant::now();
    let network = context.swarm.network();
    let setup = Setup {
        table,
        bucket_bits: network.bucket_bits,
        epoch_seconds: network.epoch_seconds,
        since: context.store.scope_start(),
    };
    let mut session = Session::new(setup, Duration::ZERO, &mut UnwrapErr(getrandom::SysRng));
    let mut tasks: FuturesUnordered<Task<'_>> = FuturesUnordered::new();
    let mut outputs = session.handle(Event::Wake, Duration::ZERO);
    loop {
        for output in outputs.drain(..) {
            match output {
                Output::Send(id, request) => tasks.push(Box::pin(send(context, peer, table, id, request))),
                Output::OwnIndex { since } => tasks.push(Box::pin(own_index(context, table, since))),
                Output::AreKnown { question, ids } => {
                    tasks.push(Box::pin(unknown(context, table, question, ids)));
                }
                Output::Remember(known) => context.lock_seen().remember(&known),
                Output::Done(report) => return report,
            }
        }
        let Some(wake) = session.next_wake() else { return session.report().clone() };
        let happened = tokio::select! {
            Some(happened) = tasks.next() => Some(happened),
            () = tokio::time::sleep_until(started + wake) => None,
        };
        let now = started.elapsed();
        outputs = match happened {
            None => session.handle(Event::Wake, now),
            Some(Happened::Answered { request, bytes, response }) => {
                session.handle(Event::Response { request, bytes, response }, now)
            }
            Some(Happened::Failed { request, retry_after }) => {
                session.handle(Event::Failed { request, retry_after }, now)
            }
            Some(Happened::OwnIndex(buckets)) => {
                let seen = context.lock_seen();
                session.handle(Event::OwnIndex { buckets: &buckets, seen: &seen }, now)
            }
            Some(Happened::Unknown { question, ids }) => {
                session.handle(Event::Unknown { question, ids }, now)
            }
            Some(Happened::Stuck) => session.handle(Event::Close, now),
        };
    }
}

async fn send(context: &Context, peer: PeerId, table: TableId, id: RequestId, request: Request) -> Happened {
    let answer = match request {
        Request::Index { table, since } => {
            index(context, peer, IndexRequest { table: Some(table), since, ..Default::default() }).await
        }
        Request::Ids { table, since, bucket, after, limit } => {
            let request = IndexRequest {
                table: Some(table),
                since,
                bucket: Some(bucket.into()),
                after,
                limit: Some(limit as u64),
                ..Default::default()
            };
            index(context, peer, request).await
        }
        Request::Get { ids } => get(context, peer, table, ids).await,
    };
    match answer {
        Ok((bytes, response)) => Happened::Answered { request: id, bytes, response },
        Err(error) => {
            let retry_after = match error {
                RequestError::Refused { retry_after, .. } => retry_after,
                _ => None,
            };
            tracing::debug!(%peer, %error, "a request of a reconciliation failed");
            Happened::Failed { request: id, retry_after }
        }
    }
}

async fn index(
    context: &Context,
    peer: PeerId,
    request: IndexRequest,
) -> Result<(u64, Response), RequestError> {
    let answer = context.swarm.request::<Index>(peer, request).await?;
    // What the lists weigh on the wire, but for a few bytes of framing.
    let bytes = 23 * answer.buckets.len() + 34 * answer.ids.len();
    let response = Response::Index {
        since: answer.since,
        buckets: answer.buckets.into_inner(),
        ids: answer.ids.into_inner(),
        more: answer.more,
    };
    Ok((bytes as u64, response))
}

async fn get(
    context: &Context,
    peer: PeerId,
    table: TableId,
    ids: Vec<EntryId>,
) -> Result<(u64, Response), RequestError> {
    let mut filter = Filter::ids(ids).with_table(table);
    filter.limit = limits::MAX_GET_ENTRIES;
    let request = filter.to_request().map_err(|e| RequestError::Invalid(e.to_string()))?;
    let answer = context.swarm.request::<Get>(peer, request).await?;
    let entries: Vec<_> = answer.entries.into_iter().map(|(_, entry)| entry.into_inner()).collect();
    let bytes = entries.iter().map(|entry| entry.len() as u64).sum();
    let keys = List::into_inner(answer.keys).into_iter().map(Blob::into_inner).collect();
    let judgements = context.gate.admit_patiently(Way::Sync, entries, keys).await;
    let fresh = judgements.iter().filter(|judgement| judgement.outcome == Outcome::Stored).count();
    context.lock_totals().fetched += fresh as u64;
    let served = judgements.iter().map(|judgement| Served { id: judgement.id, outcome: judgement.outcome });
    let entries = served.collect();
    if fresh > 0 {
        context.swarm.report(peer, Conduct::FreshEntry).await;
    }
    Ok((bytes, Response::Entries { entries, more: answer.more }))
}

async fn own_index(context: &Context, table: TableId, since: u64) -> Happened {
    match context.store.index(table, since).await {
        Ok(index) => Happened::OwnIndex(index.buckets),
        Err(error) => stuck(&error),
    }
}

async fn unknown(context: &Context, table: TableId, question: RequestId, ids: Vec<EntryId>) -> Happened {
    match context.store.known(table, ids.clone()).await {
        Ok(presences) => {
            let unknown =
                ids.into_iter().zip(presences).filter(|(_, presence)| *presence == Presence::Unknown);
            Happened::Unknown { question, ids: unknown.map(|(id, _)| id).collect() }
        }
        Err(error) => stuck(&error),
    }
}

fn stuck(error: &StoreError) -> Happened {
    match error {
        // The next round finds it less busy.
        StoreError::Busy => tracing::debug!("the store is busy with other indexes: reconciliation stops"),
        error => tracing::error!(%error, "reconciliation stops"),
    }
    Happened::Stuck
}
