//! The faster form (SPEC 10.6 to 10.8): roots, and sketches where they differ.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result, ensure};
use p2pdb::protocol::{
    codec::{bounded::Blob, lenient},
    id::EntryId,
    message::{
        Reply,
        sync::{Asked, Groups, GroupsRequest, Question, SyncRequest, SyncResponse, word_bytes, words},
    },
    network::Network,
    reconcile::{
        End, Event, Held, Lead, Output, Request, Residual, Response, Served, Session,
        roots::{self, Compared, Finding},
        sketch::{Element, Group, MAX_LEVEL, Sid, Summary},
    },
    refusal::Outcome,
};

use super::{
    Cost, TABLE, frame_length,
    sets::{Item, Sets},
    setup,
};
use crate::support::{machine::thread_cpu, random::Random};

/// What a store keeps of its ids besides them.
#[derive(Debug)]
struct Sketches<'s> {
    items: &'s [Item],
    summary: Summary,
    /// Of the deepest level.
    groups: Vec<Group>,
}

impl<'s> Sketches<'s> {
    fn new(items: &'s [Item]) -> Self {
        let mut summary = Summary::default();
        let mut groups = vec![Group::default(); 1 << MAX_LEVEL];
        for (id, _) in items {
            let element = Element::of(id);
            summary.insert(&element);
            if let Some(group) = groups.get_mut(usize::from(Sid::of(id).group(MAX_LEVEL))) {
                group.insert(&element);
            }
        }
        Self { items, summary, groups }
    }

    /// The groups of a level, added up as a store does.
    fn groups(&self, level: u8) -> Vec<Group> {
        let add = |groups: &[Group]| {
            let mut sum = Group::default();
            groups.iter().for_each(|group| sum.merge(group));
            sum
        };
        self.groups.chunks(1 << (MAX_LEVEL - level)).map(add).collect()
    }

    fn with_sid(&self, sid: Sid) -> impl Iterator<Item = EntryId> {
        let (first, last) = sid.range();
        let start = self.items.partition_point(|(id, _)| *id < first);
        self.items.iter().skip(start).map(|(id, _)| *id).take_while(move |id| *id <= last)
    }

    /// The responder's side of an answer.
    fn answer(&self, request: SyncRequest) -> Result<SyncResponse> {
        match request.question().context("no question")? {
            Question::Tables(tables) => {
                let own = tables.into_iter().map(|(_, candidates)| (candidates, self.summary.clone()));
                Ok(roots::answer_for_each(0, &own.collect::<Vec<_>>()))
            }
            Question::Groups(Asked { level, groups, syndromes, .. }) => {
                let all = self.groups(level);
                let asked = groups.iter().filter_map(|group| all.get(usize::from(*group)));
                let ranges = asked.filter_map(|group| group.syndromes().get(syndromes.clone()));
                let syndromes = Blob::try_from(word_bytes(ranges.flatten().copied()))?;
                let (n, root) = (self.summary.len(), self.summary.root());
                let groups = Some(Groups { n, root, syndromes });
                Ok(SyncResponse { groups, ..SyncResponse::default() })
            }
            Question::All(_) => anyhow::bail!("there is one table only"),
        }
    }
}

/// Both sides, and what it costs them.
#[derive(Debug)]
pub(super) struct Nodes<'s> {
    requester: Sketches<'s>,
    responder: Sketches<'s>,
}

impl<'s> Nodes<'s> {
    pub(super) fn new(sets: &'s Sets) -> Self {
        Self { requester: Sketches::new(&sets.requester), responder: Sketches::new(&sets.responder) }
    }

    pub(super) fn find(&self) -> Result<(Cost, Vec<EntryId>)> {
        let mut cost = Cost::default();
        let began = thread_cpu();
        let own = self.requester.summary.clone();
        let compared = [Compared { table: TABLE, own, residual: Residual::default() }];
        let request = roots::ask_for_each(0, &compared);
        cost.requester += thread_cpu() - began;
        let response = self.exchange(&request, &mut cost)?;
        let began = thread_cpu();
        let mut findings = roots::findings(response, &compared).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let [Compared { own, residual, .. }] = compared;
        let Some(Finding::Differs(claim)) = findings.pop() else { return Ok((cost, Vec::new())) };
        let lead = Lead { since: 0, claim: *claim, own, residual, may_page: false };
        let session =
            Session::with_lead(setup(&Network::default()), lead, Duration::ZERO, &mut Random::new(7));
        cost.requester += thread_cpu() - began;
        self.climb(session, cost)
    }

    fn climb(&self, mut session: Session, mut cost: Cost) -> Result<(Cost, Vec<EntryId>)> {
        let mut found = Vec::new();
        let began = thread_cpu();
        let mut outputs: VecDeque<Output> = session.handle(Event::Wake, Duration::ZERO).into();
        cost.requester += thread_cpu() - began;
        // Requests that are under way at the same time are one round trip.
        let mut under_way = VecDeque::new();
        loop {
            let Some(output) = outputs.pop_front() else {
                ensure!(!under_way.is_empty(), "the session waits for nothing");
                let mut is_round = false;
                for (request_id, request) in std::mem::take(&mut under_way) {
                    let response = self.respond(request, &mut is_round, &mut cost, &mut found)?;
                    let began = thread_cpu();
                    let event = Event::Response { request: request_id, bytes: 0, response };
                    outputs.extend(session.handle(event, Duration::ZERO));
                    cost.requester += thread_cpu() - began;
                }
                cost.round_trips += u64::from(is_round);
                continue;
            };
            let began = thread_cpu();
            let event = match output {
                Output::Send(request_id, request) => {
                    under_way.push_back((request_id, request));
                    continue;
                }
                Output::OwnGroups { level, .. } => Event::OwnGroups { groups: self.requester.groups(level) },
                Output::Resolve { question, sids } => {
                    let ids = sids.into_iter().flat_map(|sid| self.requester.with_sid(sid));
                    Event::Resolved { question, held: ids.map(|id| Held { id, stored: true }).collect() }
                }
                Output::Done(report) => {
                    ensure!(report.end == End::Complete, "the session ended with {:?}", report.end);
                    return Ok((cost, found));
                }
                Output::Residual { .. } => continue,
                other => anyhow::bail!("the faster form gave way to the plain one: {other:?}"),
            };
            outputs.extend(session.handle(event, Duration::ZERO));
            cost.requester += thread_cpu() - began;
        }
    }

    fn respond(
        &self,
        request: Request,
        is_round: &mut bool,
        cost: &mut Cost,
        found: &mut Vec<EntryId>,
    ) -> Result<Response> {
        match request {
            Request::Groups { table, since, level, groups, syndromes } => {
                *is_round = true;
                let asked = GroupsRequest::new(&Asked { table, level, groups, syndromes });
                let request = SyncRequest { since, groups: Some(asked), ..SyncRequest::default() };
                let response = self.exchange(&request, cost)?;
                let Groups { root, syndromes, .. } = response.groups.context("no groups")?;
                let syndromes = words(&syndromes).context("half a syndrome")?;
                Ok(Response::Groups { since: response.since, root, syndromes })
            }
            Request::Sids { sids } => {
                let ids: Vec<EntryId> = sids.iter().flat_map(|sid| self.responder.with_sid(*sid)).collect();
                let served = |id: &EntryId| Served { id: Some(*id), outcome: Outcome::Stored };
                let entries = ids.iter().map(served).collect();
                found.extend(ids);
                Ok(Response::Entries { entries, more: false })
            }
            other => anyhow::bail!("the faster form gave way to the plain one: {other:?}"),
        }
    }

    /// A request and its answer through the real encodings.
    fn exchange(&self, request: &SyncRequest, cost: &mut Cost) -> Result<SyncResponse> {
        cost.round_trips += u64::from(request.groups.is_none());
        let began = thread_cpu();
        let encoded = lenient::to_vec(request)?;
        cost.requester += thread_cpu() - began;
        cost.bytes += frame_length(&encoded);
        let began = thread_cpu();
        let response = self.responder.answer(lenient::from_slice(&encoded)?)?;
        let encoded = lenient::to_vec(&Reply::Ok(response))?;
        cost.responder += thread_cpu() - began;
        cost.bytes += frame_length(&encoded);
        let began = thread_cpu();
        let reply = lenient::from_slice(&encoded)?;
        cost.requester += thread_cpu() - began;
        let Reply::Ok(response) = reply else { anyhow::bail!("the responder refuses") };
        Ok(response)
    }
}
