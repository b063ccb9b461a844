//! Getting a whole table page by page, in the order of its arrival at the peer (SPEC 10.9).

use std::ops::ControlFlow::{self, Break, Continue};

use super::{InFlight, Session};
use crate::{
    filter::Cursor,
    reconcile::{Cut, End, MAX_REPEATED, Misbehaviour, Output, Request, RequestId, Served},
    refusal::{Outcome, Refusal},
};

/// Pages at once: one that is asked for, and others on their way through the gate. The answers take at most 3.2
/// MiB.
const MAX_PAGES: usize = 3;

/// How far the table has been paged through.
#[derive(Debug)]
pub(super) struct Paging {
    /// Entries here when it began.
    own: u64,
    cursor: Option<Cursor>,
    /// Whether the last page was seen.
    ended: bool,
    /// Paged entries that were Known.
    known: u64,
}

/// A page that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// Whether it has come; its entries may still have to pass the gate.
    pub(super) has_come: bool,
    more: bool,
}

impl Paging {
    pub(super) const fn new(own: u64) -> Self {
        Self { own, cursor: None, ended: false, known: 0 }
    }
}

impl Session {
    /// Asks for the next page as soon as it is known where it begins, while the last one is still being verified.
    pub(super) fn turn_pages(&mut self, outputs: &mut Vec<Output>) -> ControlFlow<End> {
        let Some(paging) = &self.paging else { return Continue(()) };
        if paging.ended && self.in_flight.is_empty() {
            return Break(End::Cut(Cut::Paged));
        }
        let asks =
            self.in_flight.values().any(|asked| matches!(asked, InFlight::Page(page) if !page.has_come));
        if !paging.ended && !asks && self.in_flight.len() < MAX_PAGES {
            let request = Request::Page { since: self.scope, cursor: paging.cursor };
            self.send(request, InFlight::Page(Page { has_come: false, more: false }), outputs);
        }
        Continue(())
    }

    pub(super) fn take_page_head(
        &mut self,
        request: RequestId,
        next: Cursor,
        more: bool,
    ) -> Result<(), Misbehaviour> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        let Some(InFlight::Page(page)) = self.in_flight.get_mut(&request) else { return Ok(()) };
        let ascends = paging
            .cursor
            .is_none_or(|last| next.store == last.store && (!more || next.arrival > last.arrival));
        if !ascends {
            return Err(Misbehaviour::CursorsNotAscending);
        }
        *page = Page { has_come: true, more };
        paging.cursor = Some(next);
        paging.ended = !more;
        Ok(())
    }

    pub(super) fn take_paged(&mut self, page: Page, entries: &[Served]) -> Result<(), Misbehaviour> {
        let Some(paging) = &mut self.paging else { return Ok(()) };
        for served in entries {
            match served.outcome {
                Outcome::Refused(refusal) if refusal.is_misbehaviour() => {
                    return Err(Misbehaviour::InvalidEntry(refusal));
                }
                Outcome::Stored => self.report.fetched += 1,
                Outcome::Known | Outcome::Refused(Refusal::Dropped) => paging.known += 1,
                Outcome::Refused(_) => self.report.refused += 1,
            }
        }
        if page.more && entries.is_empty() {
            self.short_pages += 1;
        }
        Ok(())
    }

    /// Whether the peer serves the same again and again.
    pub(super) fn is_repeating(&self) -> bool {
        let most = |own: u64| own.saturating_add(self.report.fetched).saturating_add(MAX_REPEATED);
        self.paging.as_ref().is_some_and(|paging| paging.known > most(paging.own))
    }

    /// A page did not come: it is asked for again. (One that has come cannot fail.)
    pub(super) fn page_failed(&mut self, page: &Page) {
        debug_assert!(!page.has_come, "a page failed that had come");
    }
}
