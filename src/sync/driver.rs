//! Carries out one session of the protocol's state machine: its requests over the swarm, its questions to the store,
//! and what it gets through the gate.

use std::{future::Future, pin::Pin, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::PeerId;
use p2pdb_protocol::{
    bucket::BucketSummary,
    codec::bounded::{Blob, List},
    filter::{BySids, Cursor, Filter},
    id::{EntryId, TableId},
    limits,
    message::{
        get::{Get, GetRequest, GetResponse},
        index::{Index, IndexRequest},
        sync::{Asked, GroupsRequest, Sync, SyncRequest, words},
    },
    reconcile::{
        Cut, End, Event, Held, Lead, Output, Report, Request, RequestId, Response, Served, Session, Setup,
        sketch::Sid,
    },
    refusal::Outcome,
};
use rand_core::UnwrapErr;
use tokio::time::Instant;

use crate::{
    ingest::Way,
    store::{Presence, Sketched, StoreError},
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
    /// A page, whose entries have to pass the gate still.
    Paged {
        request: RequestId,
        page: GetResponse,
    },
    OwnGroups(Sketched),
    Resolved {
        question: RequestId,
        held: Vec<Held>,
    },
    OwnIndex(Vec<BucketSummary>),
    Unknown {
        question: RequestId,
        ids: Vec<EntryId>,
    },
    /// The store failed: the session cannot go on.
    Stuck,
}

impl Happened {
    /// Whether it brought entries that are new here.
    fn is_fruitful(&self) -> bool {
        match self {
            Happened::Answered { response: Response::Entries { entries, .. }, .. } => {
                entries.iter().any(|entry| entry.outcome == Outcome::Stored)
            }
            _ => false,
        }
    }
}

type Task<'a> = Pin<Box<dyn Future<Output = Happened> + Send + 'a>>;

/// Reconciles one table with one peer, beginning with what the peer said of it if it was asked. It ends when nothing new came for too
/// long, counted from `fruitless_since`.
pub(super) async fn run(
    context: &Context,
    peer: PeerId,
    table: TableId,
    lead: Option<Lead>,
    fruitless_since: &mut Instant,
) -> Report {
    let started = Instant::now();
    let network = context.swarm.network();
    let setup = Setup {
        table,
        bucket_bits: network.bucket_bits,
        epoch_seconds: network.epoch_seconds,
        since: context.store.scope_start(),
    };
    let mut rng = UnwrapErr(getrandom::SysRng);
    let mut session = match lead {
        Some(lead) => Session::with_lead(setup, lead, Duration::ZERO, &mut rng),
        None => Session::new(setup, Duration::ZERO, &mut rng),
    };
    let mut tasks: FuturesUnordered<Task<'_>> = FuturesUnordered::new();
    let mut outputs = session.handle(Event::Wake, Duration::ZERO);
    let mut is_fruitless = false;
    loop {
        for output in outputs.drain(..) {
            match output {
                Output::Send(id, request) => tasks.push(Box::pin(send(context, peer, table, id, request))),
                Output::OwnIndex { since } => tasks.push(Box::pin(own_index(context, table, since))),
                Output::AreKnown { question, ids } => {
                    tasks.push(Box::pin(unknown(context, table, question, ids)));
                }
                Output::Remember(known) => context.lock_seen().remember(&known),
                Output::OwnGroups { since, level } => {
                    tasks.push(Box::pin(own_groups(context, table, since, level)));
                }
                Output::Resolve { question, sids } => {
                    tasks.push(Box::pin(resolve(context, table, question, sids)));
                }
                Output::Residual { since, residual } => {
                    context.lock_residuals().remember(&peer, table, since, residual);
                }
                Output::Done(mut report) => {
                    if is_fruitless {
                        report.end = End::Cut(Cut::TooSlow);
                    }
                    if report.end == End::Cut(Cut::Paged) {
                        context.lock_paged().put((peer, table), ());
                    }
                    return report;
                }
            }
        }
        let Some(wake) = session.next_wake() else { return session.report().clone() };
        let end = *fruitless_since + context.patience;
        let happened = tokio::select! {
            Some(happened) = tasks.next() => Some(happened),
            () = tokio::time::sleep_until(end.min(started + wake)) => None,
        };
        let now = started.elapsed();
        if happened.as_ref().is_some_and(Happened::is_fruitful) {
            *fruitless_since = Instant::now();
        } else if Instant::now() >= end {
            tracing::debug!(%peer, %table, "a reconciliation brings nothing new: others have its place");
            is_fruitless = true;
            outputs = session.handle(Event::Close, now);
            continue;
        }
        outputs = match happened {
            None if session.is_decoding() => {
                // Only when the node shuts down it does not come back.
                let report = session.report().clone();
                let decoding = tokio::task::spawn_blocking(move || {
                    let outputs = session.handle(Event::Wake, now);
                    (session, outputs)
                });
                let Ok((decoded, outputs)) = decoding.await else { return report };
                session = decoded;
                outputs
            }
            None => session.handle(Event::Wake, now),
            Some(Happened::Answered { request, bytes, response }) => {
                session.handle(Event::Response { request, bytes, response }, now)
            }
            Some(Happened::Failed { request, retry_after }) => {
                session.handle(Event::Failed { request, retry_after }, now)
            }
            Some(Happened::Paged { request, page }) => {
                let bytes = page.entries.iter().map(|(_, entry)| entry.len() as u64).sum();
                let (next, more) = (page.next, page.more);
                tasks.push(Box::pin(admit_page(context, peer, request, page)));
                session.handle(Event::Paged { request, bytes, next, more }, now)
            }
            Some(Happened::OwnGroups(Sketched { groups, newest, .. })) => {
                session.handle(Event::OwnGroups { groups, newest }, now)
            }
            Some(Happened::Resolved { question, held }) => {
                session.handle(Event::Resolved { question, held }, now)
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
        Request::Get { ids } => get(context, peer, &Filter::ids(ids).with_table(table)).await,
        Request::Groups { table, since, level, groups, syndromes } => {
            groups_of(context, peer, since, &Asked { table, level, groups, syndromes }).await
        }
        Request::Sids { sids } => by_sids(context, peer, table, sids).await,
        Request::Page { since, cursor } => match page(context, peer, table, since, cursor).await {
            Ok(page) => return Happened::Paged { request: id, page },
            Err(error) => Err(error),
        },
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

async fn groups_of(
    context: &Context,
    peer: PeerId,
    since: u64,
    asked: &Asked,
) -> Result<(u64, Response), RequestError> {
    let request = SyncRequest { since, groups: Some(GroupsRequest::new(asked)), ..Default::default() };
    let answer = context.swarm.request::<Sync>(peer, request).await?;
    let bytes = |groups: &p2pdb_protocol::message::sync::Groups| groups.syndromes.len() as u64 + 32;
    let invalid = || RequestError::Invalid("no syndromes".to_owned());
    let groups = answer.groups.ok_or_else(invalid)?;
    let syndromes = words(&groups.syndromes).ok_or_else(invalid)?;
    Ok((bytes(&groups), Response::Groups { since: answer.since, root: groups.root, syndromes }))
}

async fn get(context: &Context, peer: PeerId, filter: &Filter) -> Result<(u64, Response), RequestError> {
    let filter = Filter { limit: limits::MAX_GET_ENTRIES, ..filter.clone() };
    let request = filter.to_request().map_err(|e| RequestError::Invalid(e.to_string()))?;
    entries(context, peer, request).await
}

async fn by_sids(
    context: &Context,
    peer: PeerId,
    table: TableId,
    sids: Vec<Sid>,
) -> Result<(u64, Response), RequestError> {
    let asked = BySids { table, sids, limit: limits::MAX_GET_ENTRIES };
    let request = asked.to_request().map_err(|e| RequestError::Invalid(e.to_string()))?;
    entries(context, peer, request).await
}

async fn page(
    context: &Context,
    peer: PeerId,
    table: TableId,
    since: u64,
    cursor: Option<Cursor>,
) -> Result<GetResponse, RequestError> {
    let mut filter = Filter::table(table);
    filter.created_from = Some(since);
    filter.cursor = cursor;
    filter.limit = limits::MAX_GET_ENTRIES;
    let request = filter.to_request().map_err(|e| RequestError::Invalid(e.to_string()))?;
    context.swarm.request::<Get>(peer, request).await
}

async fn admit_page(context: &Context, peer: PeerId, request: RequestId, page: GetResponse) -> Happened {
    // The session has counted the bytes with the page itself.
    let (_, response) = admit(context, peer, page).await;
    Happened::Answered { request, bytes: 0, response }
}

async fn entries(
    context: &Context,
    peer: PeerId,
    request: GetRequest,
) -> Result<(u64, Response), RequestError> {
    let answer = context.swarm.request::<Get>(peer, request).await?;
    Ok(admit(context, peer, answer).await)
}

/// Brings what came through the gate.
async fn admit(context: &Context, peer: PeerId, answer: GetResponse) -> (u64, Response) {
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
    (bytes, Response::Entries { entries, more: answer.more })
}

async fn own_groups(context: &Context, table: TableId, since: u64, level: u8) -> Happened {
    match context.store.groups(table, since, level, None).await {
        Ok(sketched) => Happened::OwnGroups(sketched),
        Err(error) => stuck(&error),
    }
}

async fn resolve(context: &Context, table: TableId, question: RequestId, sids: Vec<Sid>) -> Happened {
    match context.store.held(table, sids).await {
        Ok(held) => Happened::Resolved { question, held },
        Err(error) => stuck(&error),
    }
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
        error => tracing::error!(error = error.with_causes(), "reconciliation stops"),
    }
    Happened::Stuck
}
