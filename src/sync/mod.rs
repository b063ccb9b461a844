//! Keeps this node level with others: reconciles with them, and passes on what is announced.

mod driver;
mod opening;
mod relay;

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use libp2p::PeerId;
use lru::LruCache;
use p2pdb_protocol::{
    id::TableId,
    message::index::{Index, IndexRequest},
    reconcile::{Cut, End, Lead, Report, Residuals, Schedule, Seen, Verdict},
};
use rand_core::UnwrapErr;
use serde::Serialize;
use tokio::{
    sync::{broadcast::error::RecvError, mpsc},
    task::{Id, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::relay::Relay;
use crate::{
    clock::Clock,
    ingest::{Gate, Mirror},
    store::Store,
    swarm::{Conduct, Event, Handle, ip_limits::Origin, routes::Routes},
};

/// Peers of one address that are reconciled with at the same time: there are few places.
const MAX_OF_ORIGIN: usize = 2;
/// Hints that a peer has more; further ones are dropped, since the periodic round finds the same.
const MAX_HINTS: usize = 64;
/// Tables of peers of which it is kept that they were paged through.
const MAX_PAGED: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not 0");

/// What reconciliation works with.
#[derive(Debug)]
pub struct Context {
    pub(crate) swarm: Handle,
    pub(crate) store: Store,
    pub(crate) gate: Gate,
    pub(crate) routes: Arc<Routes>,
    pub(crate) clock: Clock,
    pub(crate) max_tables: usize,
    /// How long a reconciliation may bring nothing new.
    patience: Duration,
    seen: Mutex<Seen>,
    residuals: Mutex<Residuals<PeerId>>,
    /// Tables of peers that were paged through: whatever differs now is not had by doing it again.
    paged: Mutex<LruCache<(PeerId, TableId), ()>>,
    totals: Mutex<Totals>,
    hints: mpsc::Sender<PeerId>,
}

/// What reconciliation did since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Totals {
    /// Sessions, one for each peer and table.
    pub sessions: u64,
    /// Entries that were new here and came by them.
    pub fetched: u64,
    /// Bytes that came by them.
    pub received_bytes: u64,
    /// Requests sent.
    pub requests: u64,
    /// Differences decoded from sketches.
    pub decoded: u64,
    /// Sessions in which sketches led to the peer's root.
    pub proven: u64,
    /// Sessions in which they led nowhere, so that buckets were listed.
    pub fell_back: u64,
    /// Buckets that differed and were listed.
    pub buckets_differing: u64,
    /// Sessions that ended by a peer's fault.
    pub misbehaved: u64,
    /// Peers being reconciled with right now.
    pub running: u64,
}

impl Context {
    /// A context, and the receiver of its hints for [`run`]. A reconciliation that brings nothing new for as long as `patience` is
    /// ended.
    #[must_use]
    pub fn new(
        swarm: Handle,
        store: Store,
        gate: Gate,
        routes: Arc<Routes>,
        clock: Clock,
        max_tables: usize,
        patience: Duration,
    ) -> (Arc<Self>, mpsc::Receiver<PeerId>) {
        let (hints, hinted) = mpsc::channel(MAX_HINTS);
        let context = Self {
            swarm,
            store,
            gate,
            routes,
            clock,
            max_tables,
            patience,
            seen: Mutex::new(Seen::new()),
            residuals: Mutex::default(),
            paged: Mutex::new(LruCache::new(MAX_PAGED)),
            totals: Mutex::default(),
            hints,
        };
        (Arc::new(context), hinted)
    }

    /// Says that a peer seems to have what this node lacks.
    pub fn hint(&self, peer: PeerId) {
        // Full: enough is known to be missing.
        let _ = self.hints.try_send(peer);
    }

    /// What was done since the start.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.lock_totals().clone()
    }

    fn lock_totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, report: &Report) {
        let mut totals = self.lock_totals();
        totals.received_bytes += report.received_bytes;
        totals.requests += report.requests;
        totals.buckets_differing += report.buckets_differing;
        totals.decoded += report.decoded;
        totals.proven += u64::from(report.proven);
        totals.fell_back += u64::from(report.fell_back);
    }

    fn lock_seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_residuals(&self) -> MutexGuard<'_, Residuals<PeerId>> {
        self.residuals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_paged(&self) -> MutexGuard<'_, LruCache<(PeerId, TableId), ()>> {
        self.paged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tables that this node mirrors, as far as it knows them.
    async fn own_tables(&self) -> Vec<TableId> {
        match self.gate.mirror() {
            Mirror::Only(own) => own.iter().copied().collect(),
            Mirror::All => match self.store.tables().await {
                Ok(tables) => tables.into_iter().map(|summary| summary.table).collect(),
                Err(error) => {
                    tracing::error!(error = error.with_causes(), "the tables could not be read");
                    Vec::new()
                }
            },
        }
    }

    /// The tables to reconcile with a peer: those that both mirror.
    async fn common_tables(&self, peer: PeerId) -> Vec<TableId> {
        let Some(route) = self.routes.of(&peer) else { return Vec::new() };
        let theirs = route.record().tables.clone();
        match (self.gate.mirror(), theirs) {
            (Mirror::Only(own), None) => own.iter().copied().collect(),
            (Mirror::Only(own), Some(theirs)) => {
                theirs.into_iter().filter(|table| own.contains(table)).collect()
            }
            (Mirror::All, Some(theirs)) => theirs.into_iter().take(self.max_tables).collect(),
            (Mirror::All, None) => self.tables_of(peer).await,
        }
    }

    /// The tables that a full mirror holds, as far as this node has room for tables.
    async fn tables_of(&self, peer: PeerId) -> Vec<TableId> {
        let mut tables = BTreeSet::new();
        let mut after_table = None;
        while tables.len() < self.max_tables {
            let request = IndexRequest { after_table, ..Default::default() };
            let Ok(response) = self.swarm.request::<Index>(peer, request).await else { break };
            let page = response.tables;
            let ascends =
                page.is_sorted_by(|a, b| a < b) && page.first().is_none_or(|t| Some(*t) > after_table);
            if !ascends {
                self.swarm.report(peer, Conduct::Misbehaviour).await;
                break;
            }
            after_table = page.last().copied();
            tables.extend(page.into_iter().take(self.max_tables - tables.len()));
            if !response.more || after_table.is_none() {
                break;
            }
        }
        tables.into_iter().collect()
    }

    /// What to reconcile with a peer, each with what the peer said of it if it was asked.
    async fn opening(&self, peer: PeerId) -> (HashMap<TableId, Option<Lead>>, Report) {
        match opening::open(self, peer).await {
            Some((leads, report)) => {
                (leads.into_iter().map(|(table, lead)| (table, Some(lead))).collect(), report)
            }
            None => {
                let tables = self.common_tables(peer).await.into_iter();
                (tables.map(|table| (table, None)).collect(), Report::default())
            }
        }
    }

    async fn reconcile(&self, peer: PeerId) -> Report {
        let mut fruitless_since = Instant::now();
        let opened = timeout(self.patience, self.opening(peer)).await;
        let (tables, mut total) = opened.unwrap_or_else(|_| {
            (HashMap::new(), Report { end: End::Cut(Cut::TooSlow), ..Report::default() })
        });
        self.count(&total);
        // In another order each time, so that one that is cut does not always leave out the same tables.
        let mut end = total.end;
        for (table, lead) in tables {
            if !matches!(end, End::Complete | End::Cut(Cut::Paged)) {
                // A peer that is slow, busy or gone is so for all tables: the next round goes on.
                break;
            }
            let report = driver::run(self, peer, table, lead, &mut fruitless_since).await;
            tracing::debug!(%peer, %table, ?report, "reconciled");
            self.lock_totals().sessions += 1;
            self.count(&report);
            end = report.end;
            total.merge(&report);
        }
        if total.end == End::Cut(Cut::Paged) {
            // That a table was paged through is good news, which must not hide what came after it.
            total.end = end;
        }
        match total.verdict() {
            Verdict::Misbehaved => {
                self.lock_totals().misbehaved += 1;
                self.swarm.report(peer, Conduct::Misbehaviour).await;
            }
            Verdict::Useless => self.swarm.report(peer, Conduct::EmptyPromise).await,
            _ => {}
        }
        total
    }
}

/// A peer that is reconciled with.
struct Running {
    peer: PeerId,
    origin: Option<Origin>,
    /// It is not connected any more.
    gone: CancellationToken,
}

/// Whether those of an origin have their places already.
fn is_crowded<'a>(running: impl Iterator<Item = &'a Running>, origin: Option<Origin>) -> bool {
    // This machine is shared by all its users. Those of whom nobody knows where they are count as one.
    origin.is_none_or(|origin| !origin.is_loopback())
        && running.filter(|with| with.origin == origin).count() >= MAX_OF_ORIGIN
}

/// Reconciles with whom the schedule says until `shutdown`; `interval` is the mean pause between rounds with a
/// random peer.
pub async fn run(
    context: Arc<Context>,
    mut hinted: mpsc::Receiver<PeerId>,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let started = Instant::now();
    let mut rng = UnwrapErr(getrandom::SysRng);
    let mut schedule = Schedule::with_period(interval, Duration::ZERO, &mut rng);
    let mut events = context.swarm.events();
    let mut sessions: JoinSet<Report> = JoinSet::new();
    let mut running: HashMap<Id, Running> = HashMap::new();
    // Those whose turn it was when others of their address had their places.
    let mut crowded: BTreeSet<PeerId> = BTreeSet::new();
    loop {
        while let Some(peer) = schedule.poll(started.elapsed(), &mut rng) {
            let origin = context.swarm.origin(peer).await;
            if is_crowded(running.values(), origin) {
                schedule.passed_over(&peer);
                crowded.insert(peer);
                continue;
            }
            let (context, gone) = (Arc::clone(&context), CancellationToken::new());
            let lost = gone.clone();
            let session = sessions.spawn(async move {
                tokio::select! {
                    // Who goes in the midst of it does not get a better name by that.
                    () = lost.cancelled() => Report { end: End::Cut(Cut::Failures), ..Report::default() },
                    report = context.reconcile(peer) => report,
                }
            });
            running.insert(session.id(), Running { peer, origin, gone });
        }
        context.lock_totals().running = sessions.len() as u64;
        let wake = schedule.next_wake().map(|at| started + at);
        let sleep = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            event = events.recv() => match event {
                Ok(Event::Introduced { peer }) => schedule.connected(peer, started.elapsed()),
                Ok(Event::Reconnected { peer }) => schedule.reconnected(&peer, started.elapsed()),
                Ok(Event::Lost { peer }) => {
                    schedule.disconnected(&peer, started.elapsed());
                    running.values().filter(|with| with.peer == peer).for_each(|with| with.gone.cancel());
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    // Some may have come unnoticed; to be told of the same twice does no harm.
                    for peer in context.swarm.serving_peers().await.unwrap_or_default() {
                        schedule.connected(peer, started.elapsed());
                    }
                }
                Err(RecvError::Closed) => break,
            },
            Some(peer) = hinted.recv() => schedule.mismatched(&peer, started.elapsed()),
            Some(ended) = sessions.join_next_with_id() => {
                let (id, report) = match ended {
                    Ok((id, report)) => (id, report),
                    // It panicked, which must not keep its place in the schedule.
                    Err(error) => (error.id(), Report::default()),
                };
                if let Some(Running { peer, .. }) = running.remove(&id) {
                    schedule.finished(&peer, &report, started.elapsed());
                }
                for peer in std::mem::take(&mut crowded) {
                    schedule.mismatched(&peer, started.elapsed());
                }
            }
            () = sleep => {}
        }
    }
    // What was fetched is stored; the rest is fetched another time.
    sessions.shutdown().await;
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_address_does_not_take_all_places() {
        let origin = |ip: &str| Some(Origin::of(ip.parse().unwrap()));
        let with =
            |ip| Running { peer: PeerId::random(), origin: origin(ip), gone: CancellationToken::new() };
        let mut running = vec![with("198.51.100.1"), with("127.0.0.1"), with("127.0.0.1")];
        assert!(!is_crowded(running.iter(), origin("198.51.100.1")));
        running.push(with("198.51.100.1"));
        assert!(is_crowded(running.iter(), origin("198.51.100.1")));
        assert!(!is_crowded(running.iter(), origin("198.51.100.2")));
        assert!(!is_crowded(running.iter(), origin("127.0.0.1")) && !is_crowded(running.iter(), None));
        running.extend((0..2).map(|_| Running { origin: None, ..with("198.51.100.1") }));
        assert!(is_crowded(running.iter(), None));
    }
}
