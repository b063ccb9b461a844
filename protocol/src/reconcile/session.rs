//! The initiator's side of one reconciliation.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow::{self, Break, Continue},
    time::Duration,
};

use rand_core::Rng;

use crate::{
    bucket::BucketSummary,
    id::{EntryId, TableId},
    limits::{MAX_GET_IDS, MAX_INDEX_IDS},
    message::sync::Claim,
    reconcile::{
        Cut, End, Event, GRACE, MAX_FAILURES, MAX_PAUSE, MAX_REFUSED, MAX_SHORT_PAGES, MAX_UNSERVED,
        MAX_WANTED, MIN_RATE, Misbehaviour, Output, Report, Request, RequestId, Residual, Response, WINDOW,
        ladder::Rung,
        listing::Listing,
        sketch::{Sid, Summary},
    },
};

mod answers;
mod fast;
mod paging;
#[cfg(test)]
mod tests;

/// What a session is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setup {
    /// The table, which both nodes mirror.
    pub table: TableId,
    /// The network's `bucket_bits` (SPEC 2.1).
    pub bucket_bits: u8,
    /// The network's `epoch_seconds` (SPEC 2.1).
    pub epoch_seconds: u64,
    /// The own horizon: entries created before it are not asked for, in unix seconds; 0 for none.
    pub since: u64,
}

/// What the peer says of its table, and what it is compared with (SPEC 10.7).
#[derive(Debug, Clone)]
pub struct Lead {
    /// The scope of both, in unix seconds.
    pub since: u64,
    /// What the peer says.
    pub claim: Claim,
    /// What is stored here.
    pub own: Summary,
    /// What the last session with this peer in this scope found.
    pub residual: Residual,
    /// Whether to page through the table if there is little of it here: not again after it did not help.
    pub may_page: bool,
}

/// Reconciles one table with one peer: learns what the peer has and this node does not Know, and gets it.
///
/// Begin with [`Event::Wake`]; do what [`handle`](Self::handle) returns and tell it the answers, in any order, until
/// [`Output::Done`]. A session may be dropped at any time: what was fetched is stored, and nothing is remembered that
/// is not proven.
///
/// Requests that fail are repeated. What the peer does not serve, or the gate does not take, is counted, and its
/// bucket is not remembered as seen, so that a later session tries it again, with this peer or another.
#[derive(Debug)]
pub struct Session {
    setup: Setup,
    phase: Phase,
    /// S: the scope of the comparison, in unix seconds.
    scope: u64,
    started: Duration,
    paused_until: Option<Duration>,
    last_request: u64,
    failures_in_a_row: u32,
    short_pages: u32,
    /// Where among the differing buckets to begin, so that sessions that are cut, or run beside each other with several
    /// peers, do not all spend themselves on the same buckets.
    rotation: u32,
    /// Differing buckets, not yet begun.
    todo: VecDeque<BucketSummary>,
    /// Begun buckets whose next page can be asked for.
    ready: VecDeque<u16>,
    listings: BTreeMap<u16, Listing>,
    /// Ids to get, not yet asked for.
    wanted: VecDeque<EntryId>,
    in_flight: BTreeMap<RequestId, InFlight>,
    /// The faster form, as long as it lasts.
    fast: Option<Box<fast::Fast>>,
    paging: Option<paging::Paging>,
    /// Local questions: the bucket, and the number of ids asked about.
    questions: BTreeMap<RequestId, (u16, usize)>,
    report: Report,
}

#[derive(Debug)]
enum Phase {
    /// Finds the differences by sketches.
    Climbing,
    /// Gets everything, page by page.
    Paging,
    /// Waits for the peer's index.
    Indexing,
    /// Waits for the own index, to compare the peer's with it.
    Comparing(Vec<BucketSummary>),
    /// Lists and gets.
    Listing,
    /// Has ended.
    Done,
}

#[derive(Debug)]
enum InFlight {
    Index,
    Ids { bucket: u16 },
    Get { ids: BTreeSet<EntryId> },
    Groups(Rung),
    Sids { sids: BTreeSet<Sid> },
    Page(paging::Page),
}

impl Session {
    /// A session in the plain form, which begins with the first [`Event::Wake`]. `now` is the time since any fixed moment, the same for all
    /// calls.
    pub fn new(setup: Setup, now: Duration, rng: &mut impl Rng) -> Self {
        Self {
            setup,
            phase: Phase::Indexing,
            scope: setup.since,
            started: now,
            paused_until: None,
            last_request: 0,
            failures_in_a_row: 0,
            short_pages: 0,
            rotation: rng.next_u32(),
            todo: VecDeque::new(),
            ready: VecDeque::new(),
            listings: BTreeMap::new(),
            wanted: VecDeque::new(),
            in_flight: BTreeMap::new(),
            fast: None,
            paging: None,
            questions: BTreeMap::new(),
            report: Report::default(),
        }
    }

    /// A session that begins with what the peer said of its table, and falls back to the plain form where that leads
    /// nowhere.
    pub fn with_lead(setup: Setup, lead: Lead, now: Duration, rng: &mut impl Rng) -> Self {
        let mut session = Self::new(setup, now, rng);
        session.scope = lead.since;
        session.begin(lead);
        session
    }

    /// Takes what happened and returns what to do.
    pub fn handle(&mut self, event: Event<'_>, now: Duration) -> Vec<Output> {
        let mut outputs = Vec::new();
        if matches!(self.phase, Phase::Done) {
            return outputs;
        }
        let flow = match self.take(event, now, &mut outputs) {
            Continue(()) if now >= self.deadline() => Break(End::Cut(Cut::TooSlow)),
            Continue(()) => self.proceed(now, &mut outputs),
            end => end,
        };
        if let Break(end) = flow {
            self.phase = Phase::Done;
            self.report.end = end;
            outputs.push(Output::Done(self.report.clone()));
        }
        outputs
    }

    /// When to call with [`Event::Wake`] at the latest; none once the session is done.
    #[must_use]
    pub fn next_wake(&self) -> Option<Duration> {
        if matches!(self.phase, Phase::Done) {
            return None;
        }
        if self.paused_until.is_none() && self.fast.as_ref().is_some_and(|fast| fast.is_busy()) {
            return Some(self.started);
        }
        let deadline = self.deadline();
        Some(self.paused_until.map_or(deadline, |until| until.min(deadline)))
    }

    /// What was done so far.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    fn deadline(&self) -> Duration {
        let earned = Duration::from_secs(self.report.received_bytes / MIN_RATE);
        self.started.saturating_add(GRACE).saturating_add(earned)
    }

    fn take(&mut self, event: Event<'_>, now: Duration, outputs: &mut Vec<Output>) -> ControlFlow<End> {
        match event {
            Event::Wake => Continue(()),
            Event::Close => Break(End::Cut(Cut::Closed)),
            Event::Response { request, bytes, response } => {
                let Some(asked) = self.in_flight.remove(&request) else { return Continue(()) };
                self.report.received_bytes = self.report.received_bytes.saturating_add(bytes);
                self.failures_in_a_row = 0;
                self.take_response(asked, response, now, outputs)
            }
            Event::Failed { request, retry_after } => {
                let Some(asked) = self.in_flight.remove(&request) else { return Continue(()) };
                self.take_failure(asked, retry_after, now)
            }
            Event::OwnIndex { buckets, seen } => {
                self.compare(buckets, seen);
                Continue(())
            }
            Event::OwnGroups { groups } => {
                if let Some(fast) = &mut self.fast {
                    fast.ladder.take_own(groups);
                }
                Continue(())
            }
            Event::Resolved { question, held } => {
                self.take_resolved(question, &held);
                Continue(())
            }
            Event::Paged { request, bytes, next, more } => {
                self.report.received_bytes = self.report.received_bytes.saturating_add(bytes);
                self.failures_in_a_row = 0;
                match self.take_page_head(request, next, more) {
                    Ok(()) if self.short_pages > MAX_SHORT_PAGES => Break(End::Cut(Cut::ShortPages)),
                    Ok(()) => Continue(()),
                    Err(misbehaviour) => Break(End::Misbehaved(misbehaviour)),
                }
            }
            Event::Unknown { question, ids } => {
                let Some((bucket, asked)) = self.questions.remove(&question) else { return Continue(()) };
                if let Some(listing) = self.listings.get_mut(&bucket) {
                    listing.settle(asked.saturating_sub(ids.len()) as u64);
                }
                self.wanted.extend(ids);
                self.close_if_settled(bucket, outputs);
                Continue(())
            }
        }
    }

    fn take_response(
        &mut self,
        asked: InFlight,
        response: Response,
        now: Duration,
        outputs: &mut Vec<Output>,
    ) -> ControlFlow<End> {
        let result = match (asked, response) {
            (InFlight::Index, Response::Index { since, buckets, ids, more }) => {
                if !ids.is_empty() || more {
                    return Break(End::Misbehaved(Misbehaviour::WrongAnswer));
                }
                self.take_index(since, buckets, outputs)
            }
            (InFlight::Ids { bucket }, Response::Index { since, buckets, ids, more }) => {
                if !buckets.is_empty() {
                    return Break(End::Misbehaved(Misbehaviour::WrongAnswer));
                }
                self.take_page(bucket, since, ids, more, outputs)
            }
            (InFlight::Get { ids }, Response::Entries { entries, more }) => {
                self.take_entries(ids, &entries, more, outputs)
            }
            (InFlight::Groups(rung), Response::Groups { since, root, syndromes }) => {
                self.take_groups(&rung, since, root, syndromes)
            }
            (InFlight::Sids { sids }, Response::Entries { entries, more }) => {
                self.take_sids(sids, &entries, more)
            }
            (InFlight::Page(page), Response::Entries { entries, .. }) if page.has_come => {
                self.take_paged(page, &entries)
            }
            // The driver's mistake, since the operations are protocols of their own. Not to lose anything:
            (asked, _) => return self.take_failure(asked, None, now),
        };
        match result {
            Err(misbehaviour) => Break(End::Misbehaved(misbehaviour)),
            Ok(()) if self.is_repeating() => Break(End::Cut(Cut::Repeated)),
            Ok(()) if self.report.missing > MAX_UNSERVED => Break(End::Cut(Cut::Unserved)),
            Ok(()) if self.report.refused > MAX_REFUSED => Break(End::Cut(Cut::Refused)),
            Ok(()) if self.short_pages > MAX_SHORT_PAGES => Break(End::Cut(Cut::ShortPages)),
            Ok(()) => Continue(()),
        }
    }

    fn take_failure(
        &mut self,
        asked: InFlight,
        retry_after: Option<Duration>,
        now: Duration,
    ) -> ControlFlow<End> {
        match asked {
            InFlight::Index => {}
            InFlight::Ids { bucket } => self.ready.push_front(bucket),
            InFlight::Get { ids } => self.want_again(ids),
            InFlight::Groups(_) => self.groups_failed(retry_after.is_some()),
            InFlight::Sids { sids } => self.want_sids_again(sids),
            InFlight::Page(page) => self.page_failed(&page),
        }
        self.report.failures += 1;
        self.failures_in_a_row += 1;
        if let Some(wait) = retry_after {
            if wait > MAX_PAUSE {
                return Break(End::Cut(Cut::Busy(wait)));
            }
            let until = now.saturating_add(wait);
            self.paused_until = Some(self.paused_until.map_or(until, |paused| paused.max(until)));
        }
        if self.failures_in_a_row > MAX_FAILURES { Break(End::Cut(Cut::Failures)) } else { Continue(()) }
    }

    /// Puts ids back that were asked for in vain: first in the queue, still ascending.
    fn want_again(&mut self, ids: BTreeSet<EntryId>) {
        for id in ids.into_iter().rev() {
            self.wanted.push_front(id);
        }
    }

    /// Sends what can be sent, and ends the session when nothing is left.
    fn proceed(&mut self, now: Duration, outputs: &mut Vec<Output>) -> ControlFlow<End> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Continue(());
        }
        self.paused_until = None;
        if matches!(self.phase, Phase::Climbing) {
            if self.climb(outputs) {
                return Continue(());
            }
            self.descend(outputs)?;
        }
        if matches!(self.phase, Phase::Paging) {
            return self.turn_pages(outputs);
        }
        while self.in_flight.len() < WINDOW {
            let (request, asked) = match self.phase {
                Phase::Indexing if self.in_flight.is_empty() => {
                    let Setup { table, since, .. } = self.setup;
                    (Request::Index { table, since }, InFlight::Index)
                }
                Phase::Listing => match self.next_request() {
                    Some(next) => next,
                    None => break,
                },
                _ => return Continue(()),
            };
            self.send(request, asked, outputs);
        }
        // Every listing that is left has a page to ask for, a question, or ids wanted or in flight.
        if self.in_flight.is_empty() && self.questions.is_empty() {
            debug_assert!(self.listings.is_empty(), "an open listing was left");
            return Break(End::Complete);
        }
        Continue(())
    }

    fn send(&mut self, request: Request, asked: InFlight, outputs: &mut Vec<Output>) {
        let id = self.next_id();
        self.in_flight.insert(id, asked);
        self.report.requests += 1;
        outputs.push(Output::Send(id, request));
    }

    /// Full gets before pages, so that the ids that wait stay few; gets that are not full only when no page can
    /// fill them any more.
    fn next_request(&mut self) -> Option<(Request, InFlight)> {
        if self.wanted.len() < MAX_GET_IDS {
            let pages = self.in_flight.values().filter(|asked| matches!(asked, InFlight::Ids { .. })).count();
            let asked: usize = self.questions.values().map(|(_, count)| count).sum();
            if self.wanted.len() + asked + (pages + 1) * MAX_INDEX_IDS <= MAX_WANTED
                && let Some(page) = self.next_page()
            {
                return Some(page);
            }
            if self.wanted.is_empty() || pages > 0 || asked > 0 {
                return None;
            }
        }
        let count = self.wanted.len().min(MAX_GET_IDS);
        let ids: BTreeSet<EntryId> = self.wanted.drain(..count).collect();
        Some((Request::Get { ids: ids.iter().copied().collect() }, InFlight::Get { ids }))
    }

    fn next_page(&mut self) -> Option<(Request, InFlight)> {
        let bucket = match self.ready.pop_front() {
            Some(bucket) => bucket,
            None => {
                let listing = Listing::new(self.todo.pop_front()?);
                let bucket = listing.bucket();
                self.listings.insert(bucket, listing);
                bucket
            }
        };
        let request = Request::Ids {
            table: self.setup.table,
            since: self.scope,
            bucket,
            after: self.listings.get(&bucket).and_then(Listing::after),
            limit: MAX_INDEX_IDS,
        };
        Some((request, InFlight::Ids { bucket }))
    }

    const fn next_id(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }
}
