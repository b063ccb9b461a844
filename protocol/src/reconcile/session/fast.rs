//! The faster form: from a claim to the differences (SPEC 10.7, 10.8).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow::{self, Break, Continue},
};

use super::{InFlight, Lead, Phase, Session, paging::Paging};
use crate::{
    limits::MAX_GET_ENTRIES,
    reconcile::{
        End, Held, MAX_RESOLVED, Misbehaviour, Output, Request, RequestId, Residual, Served, WINDOW,
        ladder::{Ladder, Proof, Rung, Start},
        sketch::{Root, Sid},
    },
    refusal::{Outcome, Refusal},
};

/// A peer with more than so many times as many entries as there are here is paged through.
const PAGED_FACTOR: u64 = 8;

/// What the faster form knows so far.
#[derive(Debug)]
pub(super) struct Fast {
    pub(super) ladder: Ladder,
    /// Differences of which it has not been asked yet whether they are Known.
    found: Vec<Sid>,
    resolving: BTreeMap<RequestId, Vec<Sid>>,
    /// Differences to get, not yet asked for.
    wanted: VecDeque<Sid>,
}

impl Fast {
    /// Whether there is work to go on with at once.
    pub(super) fn is_busy(&self) -> bool {
        self.ladder.is_decoding()
    }
}

impl Session {
    /// Chooses the way, by what the peer says.
    pub(super) fn begin(&mut self, lead: Lead) {
        let Lead { claim, own, residual, may_page, .. } = lead;
        let (ladder, start) = Ladder::new(&own, &claim, residual);
        let found = match start {
            Start::Decoded(sids) => sids,
            Start::Climb | Start::TooMany if may_page && own.len() < claim.n / PAGED_FACTOR => {
                self.paging = Some(Paging::new(own.len()));
                self.phase = Phase::Paging;
                return;
            }
            Start::Climb => Vec::new(),
            // Neither sketches nor pages: the buckets are listed.
            Start::TooMany => return,
        };
        self.report.decoded = found.len() as u64;
        let (resolving, wanted) = (BTreeMap::new(), VecDeque::new());
        self.fast = Some(Box::new(Fast { ladder, found, resolving, wanted }));
        self.phase = Phase::Climbing;
    }

    /// Asks for what can be asked; whether there is anything to wait for.
    pub(super) fn climb(&mut self, outputs: &mut Vec<Output>) -> bool {
        let Some(mut fast) = self.fast.take() else { return false };
        let found = fast.ladder.decode_some();
        self.report.decoded += found.len() as u64;
        fast.found.extend(found);
        while !fast.found.is_empty() {
            let sids: Vec<Sid> = fast.found.drain(..fast.found.len().min(MAX_RESOLVED)).collect();
            let question = self.next_id();
            outputs.push(Output::Resolve { question, sids: sids.clone() });
            fast.resolving.insert(question, sids);
        }
        if let Some(level) = fast.ladder.wants_own() {
            outputs.push(Output::OwnGroups { since: self.scope, level });
        }
        if let Some(rung) = fast.ladder.next_rung() {
            let request = Request::Groups {
                table: self.setup.table,
                since: self.scope,
                level: rung.level,
                groups: rung.groups.clone(),
                syndromes: rung.syndromes.clone(),
            };
            self.send(request, InFlight::Groups(rung), outputs);
        }
        while self.in_flight.len() < WINDOW {
            // Few are worth a request only when no more come soon.
            let waits = fast.ladder.is_decoding() || !fast.resolving.is_empty();
            if fast.wanted.is_empty() || fast.wanted.len() < MAX_GET_ENTRIES && waits {
                break;
            }
            let sids: BTreeSet<Sid> = fast.wanted.drain(..fast.wanted.len().min(MAX_GET_ENTRIES)).collect();
            let request = Request::Sids { sids: sids.iter().copied().collect() };
            self.send(request, InFlight::Sids { sids }, outputs);
        }
        let waits = !self.in_flight.is_empty() || !fast.resolving.is_empty() || !fast.wanted.is_empty();
        let over = fast.ladder.is_over() && !waits;
        self.fast = Some(fast);
        !over
    }

    /// Ends with what the root says, or goes on in the plain form.
    pub(super) fn descend(&mut self, outputs: &mut Vec<Output>) -> ControlFlow<End> {
        self.phase = Phase::Indexing;
        let Some(fast) = self.fast.take() else { return Continue(()) };
        let given_up = fast.ladder.has_given_up();
        let (proof, residual) = fast.ladder.finish();
        if given_up || proof == Proof::Different {
            // A lie, or ids whose sids cancel each other, or something came or went here meanwhile: the lists tell. What was
            // remembered may be the reason: an id that the peer took, and that was dropped here then, cancels itself.
            outputs.push(Output::Residual { since: self.scope, residual: Residual::default() });
            return Continue(());
        }
        self.report.proven = proof == Proof::Equal;
        outputs.push(Output::Residual { since: self.scope, residual });
        Break(End::Complete)
    }

    pub(super) fn take_groups(
        &mut self,
        rung: &Rung,
        since: u64,
        root: Root,
        syndromes: Vec<u64>,
    ) -> Result<(), Misbehaviour> {
        self.check_scope(self.scope, since)?;
        let Some(fast) = &mut self.fast else { return Ok(()) };
        if since != self.scope {
            // The peer's horizon moved on: what was compared so far is another set.
            fast.ladder.give_up();
            return Ok(());
        }
        fast.ladder.take_answer(rung, root, syndromes)
    }

    /// A request for groups failed; `later` says whether the peer named a time to try again.
    pub(super) fn groups_failed(&mut self, later: bool) {
        let Some(fast) = &mut self.fast else { return };
        if later { fast.ladder.ask_again() } else { fast.ladder.give_up() }
    }

    pub(super) fn take_resolved(&mut self, question: RequestId, held: &[Held]) {
        let Some(fast) = &mut self.fast else { return };
        let Some(asked) = fast.resolving.remove(&question) else { return };
        let mut by_sid: BTreeMap<Sid, Vec<Held>> = BTreeMap::new();
        held.iter().for_each(|held| by_sid.entry(Sid::of(&held.id)).or_default().push(*held));
        for sid in asked {
            let held = by_sid.get(&sid).map(Vec::as_slice).unwrap_or_default();
            if fast.ladder.resolve(sid, held) {
                fast.wanted.push_back(sid);
            }
        }
    }

    /// Takes what came of ids of which only the beginning is known.
    pub(super) fn take_sids(
        &mut self,
        mut asked: BTreeSet<Sid>,
        entries: &[Served],
        more: bool,
    ) -> Result<(), Misbehaviour> {
        let Some(fast) = &mut self.fast else { return Ok(()) };
        // Several ids may have one sid: all of them come.
        let of_request = asked.clone();
        let mut ids = BTreeSet::new();
        for served in entries {
            if let Outcome::Refused(refusal) = served.outcome
                && refusal.is_misbehaviour()
            {
                return Err(Misbehaviour::InvalidEntry(refusal));
            }
            let Some(id) = served.id else { continue };
            let sid = Sid::of(&id);
            if !of_request.contains(&sid) || !ids.insert(id) {
                return Err(Misbehaviour::Unsolicited);
            }
            asked.remove(&sid);
            let dropped = served.outcome == Outcome::Refused(Refusal::Dropped);
            fast.ladder.has(id, dropped);
            if dropped || matches!(served.outcome, Outcome::Stored | Outcome::Known) {
                self.report.fetched += 1;
            } else {
                self.report.refused += 1;
            }
        }
        if more && !ids.is_empty() {
            self.want_sids_again(asked);
        } else if !asked.is_empty() {
            self.report.missing += asked.len() as u64;
            fast.ladder.lacks();
        }
        Ok(())
    }

    /// Puts sids back that were asked for in vain: first in the queue.
    pub(super) fn want_sids_again(&mut self, sids: BTreeSet<Sid>) {
        let Some(fast) = &mut self.fast else { return };
        sids.into_iter().rev().for_each(|sid| fast.wanted.push_front(sid));
    }
}
