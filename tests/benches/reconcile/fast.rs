//! The faster form (SPEC 10.6 to 10.8): roots, and sketches where they differ.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context as _, Result, ensure};
use p2pdb::protocol::{
    codec::lenient,
    id::EntryId,
    message::{
        Reply,
        sync::{Asked, Groups, GroupsRequest, SyncRequest, SyncResponse, words},
    },
    reconcile::{
        End, Event, Held, Lead, Output, Request, Residual, Response, Served, Session,
        roots::{self, Compared, Finding},
        sketch::{Element, Group, MAX_LEVEL, Sid, Summary},
    },
    refusal::Outcome,
};

use super::{
    Cost, frame_length,
    responder::Responder,
    sets::{Item, Sets},
    setup,
};
use crate::support::{
    machine::{own_cpu, thread_cpu},
    random::Random,
};

/// What the requester keeps of its ids besides them.
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
}

fn with_sid(items: &[Item], sid: Sid) -> impl Iterator<Item = EntryId> {
    let (first, last) = sid.range();
    let start = items.partition_point(|(id, _)| *id < first);
    items.iter().skip(start).map(|(id, _)| *id).take_while(move |id| *id <= last)
}

/// Both sides, and what it costs them.
pub(super) struct Nodes<'s> {
    requester: Sketches<'s>,
    responder: &'s Responder,
}

impl<'s> Nodes<'s> {
    pub(super) fn new(sets: &'s Sets<'_>, responder: &'s Responder) -> Self {
        Self { requester: Sketches::new(&sets.requester), responder }
    }

    pub(super) fn find(&self) -> Result<(Cost, Vec<EntryId>)> {
        let mut cost = Cost::default();
        let began = thread_cpu();
        let own = self.requester.summary.clone();
        let compared =
            [Compared { table: self.responder.table, own, newest: 0, residual: Residual::default() }];
        let request = roots::ask_for_each(0, &compared);
        cost.requester += thread_cpu() - began;
        let response = self.exchange(&request, &mut cost)?;
        let began = thread_cpu();
        let mut findings = roots::findings(response, &compared).map_err(|e| anyhow::anyhow!("{e:?}"))?;
        let [Compared { own, residual, .. }] = compared;
        let Some(Finding::Differs(claim)) = findings.pop() else { return Ok((cost, Vec::new())) };
        let lead = Lead { since: 0, claim: *claim, own, newest: 0, residual, may_page: false };
        let setup = setup(&self.responder.network, self.responder.table);
        let session = Session::with_lead(setup, lead, Duration::ZERO, &mut Random::new(7));
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
                if session.is_decoding() {
                    let began = thread_cpu();
                    outputs.extend(session.handle(Event::Wake, Duration::ZERO));
                    cost.requester += thread_cpu() - began;
                    continue;
                }
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
                Output::OwnGroups { level, .. } => {
                    Event::OwnGroups { groups: self.requester.groups(level), newest: 0 }
                }
                Output::Resolve { question, sids } => {
                    let ids = sids.into_iter().flat_map(|sid| with_sid(self.requester.items, sid));
                    Event::Resolved { question, held: ids.map(|id| Held { id, arrival: Some(0) }).collect() }
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
                let ids: Vec<EntryId> =
                    sids.iter().flat_map(|sid| with_sid(&self.responder.items, *sid)).collect();
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
        // The store reads on threads of its own.
        let began = own_cpu();
        let response = self.responder.answer(lenient::from_slice(&encoded)?)?;
        let encoded = lenient::to_vec(&Reply::Ok(response))?;
        cost.responder += own_cpu() - began;
        cost.bytes += frame_length(&encoded);
        let began = thread_cpu();
        let reply = lenient::from_slice(&encoded)?;
        cost.requester += thread_cpu() - began;
        let Reply::Ok(response) = reply else { anyhow::bail!("the responder refuses") };
        Ok(response)
    }
}
