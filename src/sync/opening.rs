//! The first question to a peer: which of the common tables differ (SPEC 10.7).

use std::collections::{BTreeSet, HashMap};

use libp2p::PeerId;
use p2pdb_protocol::{
    id::{EntryId, TableId},
    limits::MAX_TABLES,
    message::sync::{Sync, SyncRequest, SyncResponse},
    reconcile::{
        Cut, End, Lead, Misbehaviour, Report,
        roots::{self, Compared, Finding},
        sketch::Summary,
    },
};

use crate::{
    ingest::Mirror,
    store::{Presence, StoreError},
    swarm::RequestError,
    sync::Context,
};

/// Why there is no answer.
enum Failure {
    /// The peer does not speak the faster form.
    Plain,
    /// Nothing can be asked of it now.
    Ended(End),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused { retry_after: Some(wait), .. } => Self::Ended(End::Cut(Cut::Busy(wait))),
            RequestError::Unsupported(_) | RequestError::Refused { .. } => Self::Plain,
            _ => Self::Ended(End::Cut(Cut::Failures)),
        }
    }
}

impl From<Misbehaviour> for Failure {
    fn from(misbehaviour: Misbehaviour) -> Self {
        Self::Ended(End::Misbehaved(misbehaviour))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => tracing::debug!("the store is busy: reconciliation stops"),
            error => tracing::error!(error = error.with_causes(), "reconciliation stops"),
        }
        Self::Ended(End::Cut(Cut::Closed))
    }
}

/// The tables that differ, with what the peer says of them; nothing if it does not speak the faster form.
pub(super) async fn open(context: &Context, peer: PeerId) -> Option<(Vec<(TableId, Lead)>, Report)> {
    let mut opening = Opening { context, peer, report: Report::default() };
    match opening.leads().await {
        Ok(leads) => Some((leads, opening.report)),
        Err(Failure::Plain) => None,
        Err(Failure::Ended(end)) => {
            opening.report.end = end;
            Some((Vec::new(), opening.report))
        }
    }
}

struct Opening<'a> {
    context: &'a Context,
    peer: PeerId,
    report: Report,
}

impl Opening<'_> {
    async fn leads(&mut self) -> Result<Vec<(TableId, Lead)>, Failure> {
        let since = self.scope();
        let theirs = self.context.routes.of(&self.peer).and_then(|route| route.record().tables.clone());
        // Both mirror all: what the peer holds has to be asked, but not if it is what this node holds.
        let named = !matches!(self.context.gate.mirror(), Mirror::All) || theirs.is_some();
        if named {
            let tables = self.context.common_tables(self.peer).await;
            let compared = self.compare(tables, since).await?;
            return match compared.as_slice() {
                [] => Ok(Vec::new()),
                [_] => self.each(since, compared).await,
                _ if self.all_are_equal(since, &compared).await? => Ok(Vec::new()),
                _ => self.each(since, compared).await,
            };
        }
        let (own, newest) = self.context.store.summaries(since).await?;
        let mut compared = Vec::with_capacity(own.len());
        for (table, own) in own {
            compared.push(self.compared(table, (own, newest), since).await?);
        }
        if self.all_are_equal(since, &compared).await? {
            return Ok(Vec::new());
        }
        let tables = self.context.common_tables(self.peer).await;
        let compared = self.compare(tables, since).await?;
        self.each(since, compared).await
    }

    /// The scope that both have in common, as far as this node knows the peer's horizon, in unix seconds.
    fn scope(&self) -> u64 {
        let horizon = self.context.routes.of(&self.peer).map_or(0, |route| route.record().horizon);
        let from = if horizon == 0 { 0 } else { self.context.clock.now().saturating_sub(horizon) };
        self.context.store.scope_for(from)
    }

    async fn compare(&self, tables: Vec<TableId>, since: u64) -> Result<Vec<Compared>, StoreError> {
        let mut compared = Vec::with_capacity(tables.len());
        for table in BTreeSet::from_iter(tables) {
            let own = self.context.store.summary(table, since).await?;
            compared.push(self.compared(table, own, since).await?);
        }
        Ok(compared)
    }

    async fn compared(
        &self,
        table: TableId,
        (own, newest): (Summary, u64),
        since: u64,
    ) -> Result<Compared, StoreError> {
        let residual = self.context.lock_residuals().of(&self.peer, table, since).cloned();
        let mut residual = residual.unwrap_or_default();
        if !residual.is_empty() {
            let ids: Vec<EntryId> = residual.ids().collect();
            let presences = self.context.store.known(table, ids.clone()).await?;
            let known: HashMap<EntryId, Presence> = ids.into_iter().zip(presences).collect();
            residual.retain(|id| match known.get(id) {
                Some(Presence::Stored) => Some(true),
                Some(Presence::Dropped) => Some(false),
                Some(Presence::Unknown) | None => None,
            });
        }
        Ok(Compared { table, own, newest, residual })
    }

    async fn ask(&mut self, request: SyncRequest) -> Result<SyncResponse, Failure> {
        let (asked, epoch_seconds) = (request.since, self.context.swarm.network().epoch_seconds);
        self.report.requests += 1;
        let response = self.context.swarm.request::<Sync>(self.peer, request).await?;
        let differing = response.differing.as_ref().map_or(0, |claims| claims.len() as u64);
        self.report.received_bytes += 16 + 290 * differing;
        let got = response.since;
        if got < asked || got.checked_rem(epoch_seconds) != Some(0) {
            return Err(Misbehaviour::WrongScope { asked, epoch_seconds, got }.into());
        }
        Ok(response)
    }

    async fn all_are_equal(&mut self, since: u64, compared: &[Compared]) -> Result<bool, Failure> {
        let response = self.ask(roots::ask_for_all(since, compared)).await?;
        Ok(roots::all_are_equal(&response)?)
    }

    async fn each(&mut self, since: u64, compared: Vec<Compared>) -> Result<Vec<(TableId, Lead)>, Failure> {
        let mut leads = Vec::new();
        for asked in compared.chunks(MAX_TABLES) {
            let response = self.ask(roots::ask_for_each(since, asked)).await?;
            let scope = response.since;
            let findings = roots::findings(response, asked)?;
            for (compared, finding) in asked.iter().zip(findings) {
                let table = compared.table;
                let claim = match finding {
                    Finding::Equal => {
                        self.context.lock_residuals().forget(&self.peer, table);
                        self.context.lock_paged().pop(&(self.peer, table));
                        continue;
                    }
                    Finding::Expected => continue,
                    Finding::Differs(claim) => *claim,
                };
                let Compared { own, newest, residual, .. } = if scope == since {
                    compared.clone()
                } else {
                    self.compared(table, self.context.store.summary(table, scope).await?, scope).await?
                };
                let may_page = !self.context.lock_paged().contains(&(self.peer, table));
                leads.push((table, Lead { since: scope, claim, own, newest, residual, may_page }));
            }
        }
        Ok(leads)
    }
}
