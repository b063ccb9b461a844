//! The initiator's side of one reconciliation.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::ControlFlow::{self, Break, Continue},
    time::Duration,
};

use rand_core::Rng;

use crate::{
    bucket::{BucketSummary, bucket_of},
    id::{EntryId, TableId},
    limits::{MAX_GET_IDS, MAX_INDEX_IDS},
    reconcile::{
        Cut, End, Event, GRACE, MAX_CLAIMED_IDS, MAX_FAILURES, MAX_PAUSE, MAX_REFUSED, MAX_SHORT_PAGES,
        MAX_UNSERVED, MAX_WANTED, MIN_RATE, Misbehaviour, Output, Report, Request, RequestId, Response, Seen,
        Served, WINDOW, listing::Listing,
    },
    refusal::{Outcome, Refusal},
};

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
    /// Local questions: the bucket, and the number of ids asked about.
    questions: BTreeMap<RequestId, (u16, usize)>,
    report: Report,
}

#[derive(Debug)]
enum Phase {
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
}

impl Session {
    /// A session that begins with the first [`Event::Wake`]. `now` is the time since any fixed moment, the same for all
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
            questions: BTreeMap::new(),
            report: Report::default(),
        }
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
            // The driver's mistake, since the operations are protocols of their own. Not to lose anything:
            (asked, _) => return self.take_failure(asked, None, now),
        };
        match result {
            Err(misbehaviour) => Break(End::Misbehaved(misbehaviour)),
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

    /// Checks that the scope of an answer follows from the one asked for (SPEC 8.6).
    fn check_scope(&self, asked: u64, got: u64) -> Result<(), Misbehaviour> {
        let epoch_seconds = self.setup.epoch_seconds;
        if got < asked || got.checked_rem(epoch_seconds) != Some(0) {
            return Err(Misbehaviour::WrongScope { asked, epoch_seconds, got });
        }
        Ok(())
    }

    fn take_index(
        &mut self,
        since: u64,
        claims: Vec<BucketSummary>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        self.check_scope(self.setup.since, since)?;
        let bits = self.setup.bucket_bits;
        let mut last = None;
        let mut total = 0_u64;
        for claim in &claims {
            if last.is_some_and(|last| claim.bucket <= last) {
                return Err(Misbehaviour::BucketsNotAscending);
            }
            if u32::from(claim.bucket) >> bits != 0 {
                return Err(Misbehaviour::NoSuchBucket { bits, got: claim.bucket });
            }
            if claim.count == 0 {
                return Err(Misbehaviour::EmptyBucket { bucket: claim.bucket });
            }
            last = Some(claim.bucket);
            total = total.saturating_add(claim.count);
        }
        if total > MAX_CLAIMED_IDS {
            return Err(Misbehaviour::TooManyIdsClaimed { limit: MAX_CLAIMED_IDS });
        }
        self.scope = since;
        self.report.buckets_compared = claims.len() as u64;
        self.phase = Phase::Comparing(claims);
        outputs.push(Output::OwnIndex { since });
        Ok(())
    }

    /// Decides which buckets to list (SPEC 10.2).
    fn compare(&mut self, own: &[BucketSummary], seen: &Seen) {
        let Phase::Comparing(claims) = &mut self.phase else { return };
        let claims = std::mem::take(claims);
        self.phase = Phase::Listing;
        for claim in claims {
            let equal = own
                .binary_search_by_key(&claim.bucket, |own| own.bucket)
                .is_ok_and(|index| own.get(index) == Some(&claim));
            if equal {
                continue;
            }
            if seen.contains(&self.setup.table, claim.bucket, &claim.digest) {
                self.report.buckets_seen += 1;
            } else {
                self.todo.push_back(claim);
            }
        }
        self.report.buckets_differing = self.todo.len() as u64;
        if let Some(start) = self.rotation.checked_rem(self.todo.len() as u32) {
            self.todo.rotate_left(start as usize);
        }
    }

    fn take_page(
        &mut self,
        bucket: u16,
        since: u64,
        ids: Vec<EntryId>,
        more: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        self.check_scope(self.scope, since)?;
        let Some(listing) = self.listings.get_mut(&bucket) else { return Ok(()) };
        listing.take_page(&ids, more, self.setup.bucket_bits)?;
        self.report.listed += ids.len() as u64;
        if more && ids.len() < MAX_INDEX_IDS {
            self.short_pages += 1;
        }
        if more && listing.overruns() {
            listing.cut();
        } else if more {
            // Finish what was begun first: fewer buckets are open at once.
            self.ready.push_front(bucket);
        }
        if ids.is_empty() {
            self.close_if_settled(bucket, outputs);
        } else {
            let question = self.next_id();
            self.questions.insert(question, (bucket, ids.len()));
            outputs.push(Output::AreKnown { question, ids });
        }
        Ok(())
    }

    fn take_entries(
        &mut self,
        mut asked: BTreeSet<EntryId>,
        entries: &[Served],
        more: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        for served in entries {
            if let Outcome::Refused(refusal) = served.outcome
                && refusal.is_misbehaviour()
            {
                return Err(Misbehaviour::InvalidEntry(refusal));
            }
            // Say, of a later version: nothing is known of it, and what was asked for is still not served.
            let Some(id) = served.id else { continue };
            if !asked.remove(&id) {
                return Err(Misbehaviour::Unsolicited);
            }
            let bucket = bucket_of(&id, self.setup.bucket_bits);
            let listing = self.listings.get_mut(&bucket);
            match served.outcome {
                Outcome::Stored | Outcome::Known | Outcome::Refused(Refusal::Dropped) => {
                    self.report.fetched += 1;
                    listing.into_iter().for_each(|listing| listing.settle(1));
                }
                // Also if it is refused for good: the next session finds it Known if the gate recorded it.
                Outcome::Refused(_) => {
                    self.report.refused += 1;
                    listing.into_iter().for_each(Listing::lose);
                }
            }
            self.close_if_settled(bucket, outputs);
        }
        let served_any = entries.iter().any(|served| served.id.is_some());
        if more && served_any {
            self.want_again(asked);
            return Ok(());
        }
        for id in asked {
            let bucket = bucket_of(&id, self.setup.bucket_bits);
            self.report.missing += 1;
            self.listings.get_mut(&bucket).into_iter().for_each(Listing::lose);
            self.close_if_settled(bucket, outputs);
        }
        Ok(())
    }

    /// Puts ids back that were asked for in vain: first in the queue, still ascending.
    fn want_again(&mut self, ids: BTreeSet<EntryId>) {
        for id in ids.into_iter().rev() {
            self.wanted.push_front(id);
        }
    }

    fn close_if_settled(&mut self, bucket: u16, outputs: &mut Vec<Output>) {
        if !self.listings.get(&bucket).is_some_and(Listing::is_closed) {
            return;
        }
        let Some(listing) = self.listings.remove(&bucket) else { return };
        let closed = listing.close(self.setup.table);
        self.report.false_claims += u64::from(closed.false_claim);
        outputs.extend(closed.known.map(Output::Remember));
    }

    /// Sends what can be sent, and ends the session when nothing is left.
    fn proceed(&mut self, now: Duration, outputs: &mut Vec<Output>) -> ControlFlow<End> {
        if self.paused_until.is_some_and(|until| now < until) {
            return Continue(());
        }
        self.paused_until = None;
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
                Phase::Indexing | Phase::Comparing(_) | Phase::Done => return Continue(()),
            };
            let id = self.next_id();
            self.in_flight.insert(id, asked);
            self.report.requests += 1;
            outputs.push(Output::Send(id, request));
        }
        // Every listing that is left has a page to ask for, a question, or ids wanted or in flight.
        if self.in_flight.is_empty() && self.questions.is_empty() {
            debug_assert!(self.listings.is_empty(), "an open listing was left");
            return Break(End::Complete);
        }
        Continue(())
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
