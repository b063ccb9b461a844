//! The plain form (SPEC 10): the index of all buckets, then the ids of those that differ.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Result, ensure};
use p2pdb::protocol::{
    bucket::{BucketSummary, id_range},
    codec::{bounded::List, lenient},
    id::EntryId,
    message::{
        Reply,
        index::{IndexRequest, IndexResponse},
    },
    network::Network,
    reconcile::{End, Event, Output, Request, Response, Seen, Served, Session},
    refusal::Outcome,
};

use super::{
    Cost, frame_length,
    sets::{Item, Sets},
    setup,
};
use crate::support::{data::index_of, machine::thread_cpu, random::Random};

/// One session of the requester; the responder answers as a node does.
pub(super) fn find(sets: &Sets) -> Result<(Cost, Vec<EntryId>)> {
    let network = Network::default();
    // Both stores have their indexes ready.
    let index = |items: &[Item]| index_of(items.iter().map(|(id, _)| *id), &network);
    let (own_index, peer_index) = (index(&sets.requester), index(&sets.responder));
    let (mut cost, mut found) = (Cost::default(), Vec::new());
    let mut random = Random::new(7);
    let mut seen = Seen::default();
    let began = thread_cpu();
    let mut session = Session::new(setup(&network), Duration::ZERO, &mut random);
    let mut outputs: VecDeque<Output> = session.handle(Event::Wake, Duration::ZERO).into();
    cost.requester += thread_cpu() - began;
    // Requests that are under way at the same time are one round trip.
    let mut under_way = VecDeque::new();
    loop {
        let Some(output) = outputs.pop_front() else {
            ensure!(!under_way.is_empty(), "the session waits for nothing");
            cost.round_trips +=
                u64::from(under_way.iter().any(|(_, request)| !matches!(request, Request::Get { .. })));
            for (id, request) in under_way.drain(..) {
                let response =
                    answer(&sets.responder, &peer_index, &network, request, &mut cost, &mut found)?;
                let began = thread_cpu();
                let event = Event::Response { request: id, bytes: 0, response };
                outputs.extend(session.handle(event, Duration::ZERO));
                cost.requester += thread_cpu() - began;
            }
            continue;
        };
        let began = thread_cpu();
        let event = match output {
            Output::Send(id, request) => {
                under_way.push_back((id, request));
                continue;
            }
            Output::OwnIndex { .. } => Event::OwnIndex { buckets: &own_index, seen: &seen },
            Output::AreKnown { question, mut ids } => {
                ids.retain(|id| sets.requester.binary_search_by_key(id, |(known, _)| *known).is_err());
                Event::Unknown { question, ids }
            }
            Output::Remember(known) => {
                seen.remember(&known);
                continue;
            }
            Output::OwnGroups { .. } | Output::Resolve { .. } | Output::Residual { .. } => {
                anyhow::bail!("a session without a lead takes the plain form");
            }
            Output::Done(report) => {
                ensure!(report.end == End::Complete, "the session ended with {:?}", report.end);
                return Ok((cost, found));
            }
        };
        outputs.extend(session.handle(event, Duration::ZERO));
        cost.requester += thread_cpu() - began;
    }
}

/// The responder's side of one request, through the real encodings.
fn answer(
    items: &[Item],
    index: &[BucketSummary],
    network: &Network,
    request: Request,
    cost: &mut Cost,
    found: &mut Vec<EntryId>,
) -> Result<Response> {
    let (message, ids, more) = match request {
        Request::Index { table, since } => {
            (IndexRequest { table: Some(table), since, ..Default::default() }, None, false)
        }
        Request::Ids { table, since, bucket, after, limit } => {
            let began = thread_cpu();
            let (first, last) = id_range(bucket, network.bucket_bits);
            let start = items.partition_point(|(id, _)| after.map_or(*id < first, |after| *id <= after));
            let in_bucket = items.iter().skip(start).map(|(id, _)| *id).take_while(|id| *id <= last);
            let mut ids: Vec<EntryId> = in_bucket.take(limit + 1).collect();
            let more = ids.len() > limit;
            ids.truncate(limit);
            cost.responder += thread_cpu() - began;
            let bucket = Some(bucket.into());
            let limit = Some(limit as u64);
            (
                IndexRequest { table: Some(table), since, bucket, after, limit, ..Default::default() },
                Some(ids),
                more,
            )
        }
        Request::Get { ids } => {
            let served = |id: &EntryId| Served { id: Some(*id), outcome: Outcome::Stored };
            let entries = ids.iter().map(served).collect();
            found.extend(ids);
            return Ok(Response::Entries { entries, more: false });
        }
        Request::Groups { .. } | Request::Sids { .. } | Request::Page { .. } => {
            anyhow::bail!("a session without a lead takes the plain form");
        }
    };
    cost.bytes += frame_length(&lenient::to_vec(&message)?);
    let began = thread_cpu();
    let response = match ids {
        Some(ids) => IndexResponse { ids: List::try_from(ids)?, more, ..Default::default() },
        None => IndexResponse { buckets: List::try_from(index.to_vec())?, ..Default::default() },
    };
    let encoded = lenient::to_vec(&Reply::Ok(response))?;
    cost.responder += thread_cpu() - began;
    cost.bytes += frame_length(&encoded);
    let began = thread_cpu();
    let Reply::Ok(IndexResponse { since, buckets, ids, more, .. }) = lenient::from_slice(&encoded)? else {
        anyhow::bail!("the responder refuses");
    };
    cost.requester += thread_cpu() - began;
    Ok(Response::Index { since, buckets: buckets.into_inner(), ids: ids.into_inner(), more })
}
