//! What a session asks for next.

use std::{
    collections::BTreeSet,
    ops::ControlFlow::{self, Break, Continue},
    time::Duration,
};

use super::{InFlight, Phase, Session, Setup};
use crate::{
    id::EntryId,
    limits::{MAX_GET_IDS, MAX_INDEX_IDS},
    reconcile::{End, MAX_WANTED, Output, Request, RequestId, WINDOW, listing::Listing},
};

impl Session {
    /// Sends what can be sent, and ends the session when nothing is left.
    pub(super) fn proceed(&mut self, now: Duration, outputs: &mut Vec<Output>) -> ControlFlow<End> {
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

    pub(super) fn send(&mut self, request: Request, asked: InFlight, outputs: &mut Vec<Output>) {
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

    pub(super) const fn next_id(&mut self) -> RequestId {
        self.last_request += 1;
        RequestId(self.last_request)
    }
}
