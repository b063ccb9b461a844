//! A node: the driver of sessions, as the real one does it, and the responder.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use p2pdb_protocol::{
    bucket::BucketSummary,
    codec::{bounded::Blob, lenient},
    filter::Cursor,
    id::{EntryId, TableId},
    message::sync::{Asked, Groups, GroupsRequest, Question, SyncRequest, SyncResponse, word_bytes},
    reconcile::{
        Cut, End, Event, Lead, Output, Report, Request, RequestId, Residuals, Response, Schedule, Seen,
        Session, Setup,
        roots::{self, Compared, Finding},
        sketch::{Root, Tally},
    },
};

use super::{
    liar::Lie,
    random::Random,
    store::{Item, Store},
    world::{Actor, Context},
};

/// How long a node waits for an answer.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// Correlates an answer with its request: the number of the session at the requester, and the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Exchange {
    session: u64,
    request: RequestId,
}

#[derive(Debug, Clone)]
pub enum Message {
    Request(Exchange, TableId, Request),
    Answer(Exchange, Answer),
    /// The question which tables differ, of the opening with this number.
    Ask(u64, SyncRequest),
    Told(u64, SyncResponse),
}

/// The length of a message in its frame, in bytes.
fn frame(message: &impl serde::Serialize) -> u64 {
    let length = lenient::to_vec(message).expect("messages encode").len() as u64;
    length + if length < 128 { 1 } else { 2 }
}

#[derive(Debug, Clone)]
pub enum Answer {
    Index { since: u64, buckets: Vec<BucketSummary>, ids: Vec<EntryId>, more: bool },
    Entries { items: Vec<Item>, more: bool },
    Groups { since: u64, root: Root, syndromes: Vec<u64> },
    Page { items: Vec<Item>, next: Cursor, more: bool },
}

impl Answer {
    /// What SPEC 8.5 and 8.6 say.
    pub fn honest(store: &Store, table: &TableId, request: &Request) -> Self {
        match request {
            Request::Index { table, since } => {
                let since = store.scope(*since);
                let buckets = store.index(table, since);
                Answer::Index { since, buckets, ids: Vec::new(), more: false }
            }
            Request::Ids { table, since, bucket, after, limit } => {
                let since = store.scope(*since);
                let (ids, more) = store.page(table, since, *bucket, *after, *limit);
                Answer::Index { since, buckets: Vec::new(), ids, more }
            }
            Request::Get { ids } => {
                let (items, more) = store.get(ids);
                Answer::Entries { items, more }
            }
            Request::Sids { sids } => {
                let (items, more) = store.by_sids(table, sids);
                Answer::Entries { items, more }
            }
            Request::Page { since, cursor } => {
                let (items, next, more) = store.arrived(table, *since, *cursor);
                Answer::Page { items, next, more }
            }
            Request::Groups { table, since, level, groups, syndromes } => {
                let since = store.scope(*since);
                let all = store.groups(table, since, *level);
                let mut tally = Tally::default();
                all.iter().for_each(|group| tally.merge(group.tally()));
                let asked = groups.iter().flat_map(|group| {
                    all[usize::from(*group)].syndromes()[syndromes.clone()].iter().copied()
                });
                Answer::Groups { since, root: tally.root(), syndromes: asked.collect() }
            }
        }
    }

    /// About its length on the wire, in bytes (SPEC 8.5, 8.6).
    pub fn size(&self) -> u64 {
        match self {
            Answer::Index { buckets, ids, .. } => 40 + 24 * buckets.len() as u64 + 34 * ids.len() as u64,
            Answer::Groups { since, root, syndromes } => {
                let syndromes = Blob::try_from(word_bytes(syndromes.iter().copied())).expect("not too many");
                let groups = Groups { n: 0, root: *root, syndromes };
                4 + frame(&SyncResponse { since: *since, groups: Some(groups), ..Default::default() })
            }
            Answer::Entries { items, .. } | Answer::Page { items, .. } => {
                40 + items.iter().map(|item| item.size + 12).sum::<u64>()
            }
        }
    }
}

/// The question which tables differ that was sent to one peer.
struct Opening {
    number: u64,
    since: u64,
    compared: Vec<Compared>,
    all: bool,
}

/// The session that runs with one peer.
struct Running {
    number: u64,
    session: Session,
    table: TableId,
    /// The tables still to do, with what the peer said of them.
    left: Vec<(TableId, Option<Lead>)>,
    total: Report,
}

pub struct Node {
    pub store: Store,
    pub seen: Seen,
    pub lie: Option<Lie>,
    /// Whether it speaks the faster form.
    pub is_fast: bool,
    pub residuals: Residuals<usize>,
    /// The horizons of peers, as their records say.
    pub horizons: BTreeMap<usize, u64>,
    /// Peers and tables that were paged through.
    paged: BTreeSet<(usize, TableId)>,
    openings: BTreeMap<usize, Opening>,
    /// The tables common with each peer it is connected to.
    pub peers: BTreeMap<usize, Vec<TableId>>,
    /// What all sessions of one table did, per peer.
    pub reports: Vec<(usize, Report)>,
    pub schedule: Schedule<usize>,
    running: BTreeMap<usize, Running>,
    deadlines: BTreeSet<(Duration, usize, Exchange)>,
    opening_deadlines: BTreeSet<(Duration, usize, u64)>,
    sessions: u64,
}

impl Node {
    pub fn new(store: Store, lie: Option<Lie>, random: &mut Random) -> Self {
        Self {
            store,
            seen: Seen::new(),
            lie,
            is_fast: false,
            residuals: Residuals::default(),
            horizons: BTreeMap::new(),
            paged: BTreeSet::new(),
            openings: BTreeMap::new(),
            peers: BTreeMap::new(),
            reports: Vec::new(),
            schedule: Schedule::new(Duration::ZERO, random),
            running: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            opening_deadlines: BTreeSet::new(),
            sessions: 0,
        }
    }

    pub fn connect(&mut self, peer: usize, tables: Vec<TableId>, now: Duration) {
        self.peers.insert(peer, tables);
        self.schedule.connected(peer, now);
    }

    fn begin_due(&mut self, context: &mut Context<'_, Message>) {
        while let Some(peer) = self.schedule.poll(context.now, context.random) {
            let tables = self.peers.get(&peer).cloned().unwrap_or_default();
            if self.is_fast && !tables.is_empty() {
                self.open(peer, tables, context);
            } else {
                let left = tables.into_iter().map(|table| (table, None)).collect();
                self.begin_table(peer, left, Report::default(), context);
            }
        }
    }

    /// Asks which tables differ: of one by its root, of several by the digest of all.
    fn open(&mut self, peer: usize, mut tables: Vec<TableId>, context: &mut Context<'_, Message>) {
        let since = self.store.scope(self.horizons.get(&peer).copied().unwrap_or_default());
        tables.sort_unstable();
        let compared = tables.into_iter().map(|table| {
            let residual = self.residuals.of(&peer, table, since).cloned().unwrap_or_default();
            Compared { table, own: self.store.summary(&table, since), residual }
        });
        let compared: Vec<Compared> = compared.collect();
        let all = compared.len() > 1;
        self.ask(peer, since, compared, all, context);
    }

    fn ask(
        &mut self,
        peer: usize,
        since: u64,
        compared: Vec<Compared>,
        all: bool,
        context: &mut Context<'_, Message>,
    ) {
        let ask = if all { roots::ask_for_all } else { roots::ask_for_each };
        self.sessions += 1;
        let number = self.sessions;
        context.send(peer, Message::Ask(number, ask(since, &compared)));
        self.opening_deadlines.insert((context.now + DEADLINE, peer, number));
        self.openings.insert(peer, Opening { number, since, compared, all });
    }

    /// What an honest node says to the question which tables differ (SPEC 8.7).
    fn tell_roots(&self, from: usize, request: SyncRequest) -> SyncResponse {
        let since = self.store.scope(request.since);
        match request.question().expect("a question") {
            Question::All(candidates) => {
                let common = self.peers.get(&from).cloned();
                let common: BTreeSet<TableId> = common.unwrap_or_default().into_iter().collect();
                let tables = common.iter().map(|table| (*table, *self.store.summary(table, since).tally()));
                roots::answer_for_all(since, &candidates, tables)
            }
            Question::Tables(tables) => {
                let own = tables.into_iter().map(|(table, roots)| (roots, self.store.summary(&table, since)));
                roots::answer_for_each(since, &own.collect::<Vec<_>>())
            }
            Question::Groups(_) => unreachable!("sent as a request of a session"),
        }
    }

    fn take_roots(
        &mut self,
        from: usize,
        number: u64,
        response: SyncResponse,
        context: &mut Context<'_, Message>,
    ) {
        // A repeated answer, or a late one, belongs to an earlier question.
        if self.openings.get(&from).is_none_or(|opening| opening.number != number) {
            return;
        }
        let Some(opening) = self.openings.remove(&from) else { return };
        let misbehaved = |error| Report { end: End::Misbehaved(error), ..Report::default() };
        let mut total = Report { requests: 1, received_bytes: frame(&response) + 3, ..Report::default() };
        if opening.all {
            match roots::all_are_equal(&response) {
                Ok(true) => {
                    self.reports.push((from, total.clone()));
                    self.schedule.finished(&from, &total, context.now);
                }
                Ok(false) => self.ask(from, opening.since, opening.compared, false, context),
                Err(error) => self.schedule.finished(&from, &misbehaved(error), context.now),
            }
            return;
        }
        let since = response.since;
        let findings = match roots::findings(response, &opening.compared) {
            Ok(findings) => findings,
            Err(error) => {
                self.reports.push((from, misbehaved(error)));
                return self.schedule.finished(&from, &misbehaved(error), context.now);
            }
        };
        let mut left = Vec::new();
        for (compared, finding) in opening.compared.into_iter().zip(findings) {
            let Compared { table, mut own, mut residual } = compared;
            match finding {
                Finding::Equal => self.residuals.forget(&from, table),
                Finding::Expected => {}
                Finding::Differs(claim) => {
                    let claim = *claim;
                    if since != opening.since {
                        own = self.store.summary(&table, since);
                        residual = self.residuals.of(&from, table, since).cloned().unwrap_or_default();
                    }
                    let may_page = !self.paged.contains(&(from, table));
                    left.push((table, Some(Lead { since, claim, own, residual, may_page })));
                }
            }
        }
        if left.is_empty() {
            self.reports.push((from, total.clone()));
        }
        total.requests = 0;
        self.begin_table(from, left, total, context);
    }

    /// Begins with the next table, or finishes when none is left or the last one ended badly.
    fn begin_table(
        &mut self,
        peer: usize,
        mut left: Vec<(TableId, Option<Lead>)>,
        total: Report,
        context: &mut Context<'_, Message>,
    ) {
        let next = if total.end == End::Complete { left.pop() } else { None };
        let Some((table, lead)) = next else {
            self.schedule.finished(&peer, &total, context.now);
            return;
        };
        let setup = Setup {
            table,
            bucket_bits: self.store.rules.bucket_bits,
            epoch_seconds: self.store.rules.epoch_seconds,
            since: self.store.horizon,
        };
        self.sessions += 1;
        let session = match lead {
            None => Session::new(setup, context.now, context.random),
            Some(lead) => Session::with_lead(setup, lead, context.now, context.random),
        };
        self.running.insert(peer, Running { number: self.sessions, session, table, left, total });
        self.tell(peer, Event::Wake, context);
    }

    /// Tells a session what happened and does what it wants.
    fn tell(&mut self, peer: usize, event: Event<'_>, context: &mut Context<'_, Message>) {
        let Some(running) = self.running.get_mut(&peer) else { return };
        let mut outputs = VecDeque::from(running.session.handle(event, context.now));
        let mut done = None;
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Send(request, what) => {
                    let exchange = Exchange { session: running.number, request };
                    self.deadlines.insert((context.now + DEADLINE, peer, exchange));
                    context.send(peer, Message::Request(exchange, running.table, what));
                }
                Output::OwnIndex { since } => {
                    let buckets = self.store.index(&running.table, since);
                    let event = Event::OwnIndex { buckets: &buckets, seen: &self.seen };
                    outputs.extend(running.session.handle(event, context.now));
                }
                Output::AreKnown { question, mut ids } => {
                    ids.retain(|id| !self.store.is_known(&running.table, id));
                    outputs.extend(running.session.handle(Event::Unknown { question, ids }, context.now));
                }
                Output::OwnGroups { since, level } => {
                    let groups = self.store.groups(&running.table, since, level);
                    outputs.extend(running.session.handle(Event::OwnGroups { groups }, context.now));
                }
                Output::Resolve { question, sids } => {
                    let held = self.store.held(&running.table, &sids);
                    outputs.extend(running.session.handle(Event::Resolved { question, held }, context.now));
                }
                Output::Residual { since, residual } => {
                    self.residuals.remember(&peer, running.table, since, residual);
                }
                Output::Remember(known) => self.seen.remember(&known),
                Output::Done(report) => done = Some(report),
            }
        }
        if let Some(report) = done
            && let Some(running) = self.running.remove(&peer)
        {
            let mut total = running.total;
            total.merge(&report);
            if report.end == End::Cut(Cut::Paged) {
                self.paged.insert((peer, running.table));
            }
            self.reports.push((peer, report));
            self.begin_table(peer, running.left, total, context);
        }
    }

    fn take_answer(
        &mut self,
        from: usize,
        exchange: Exchange,
        answer: Answer,
        context: &mut Context<'_, Message>,
    ) {
        if self.running.get(&from).is_none_or(|running| running.number != exchange.session) {
            return;
        }
        let bytes = answer.size();
        let response = match answer {
            Answer::Index { since, buckets, ids, more } => Response::Index { since, buckets, ids, more },
            Answer::Entries { items, more } => {
                let entries = items.into_iter().map(|item| self.store.admit(item)).collect();
                Response::Entries { entries, more }
            }
            Answer::Groups { since, root, syndromes } => Response::Groups { since, root, syndromes },
            Answer::Page { items, next, more } => {
                self.tell(from, Event::Paged { request: exchange.request, bytes, next, more }, context);
                let entries = items.into_iter().map(|item| self.store.admit(item)).collect();
                let response = Response::Entries { entries, more };
                let event = Event::Response { request: exchange.request, bytes: 0, response };
                return self.tell(from, event, context);
            }
        };
        self.tell(from, Event::Response { request: exchange.request, bytes, response }, context);
    }

    fn fail_overdue(&mut self, context: &mut Context<'_, Message>) {
        while let Some((at, peer, exchange)) = self.deadlines.first().copied()
            && at <= context.now
        {
            self.deadlines.pop_first();
            if self.running.get(&peer).is_some_and(|running| running.number == exchange.session) {
                self.tell(peer, Event::Failed { request: exchange.request, retry_after: None }, context);
            }
        }
    }

    /// Who does not answer the first question gets the plain form's.
    fn fall_back(&mut self, context: &mut Context<'_, Message>) {
        while let Some((at, peer, number)) = self.opening_deadlines.first().copied()
            && at <= context.now
        {
            self.opening_deadlines.pop_first();
            if self.openings.get(&peer).is_some_and(|opening| opening.number == number)
                && let Some(opening) = self.openings.remove(&peer)
            {
                let left = opening.compared.into_iter().map(|compared| (compared.table, None)).collect();
                self.begin_table(peer, left, Report::default(), context);
            }
        }
    }

    fn settle(&mut self, context: &mut Context<'_, Message>) {
        self.begin_due(context);
        let sessions = self.running.values().filter_map(|running| running.session.next_wake());
        let deadline = self.deadlines.first().map(|(at, ..)| *at);
        let opening = self.opening_deadlines.first().map(|(at, ..)| *at);
        let next = sessions.chain(deadline).chain(opening).chain(self.schedule.next_wake()).min();
        next.into_iter().for_each(|at| context.wake_at(at));
    }
}

impl Actor for Node {
    type Message = Message;

    fn size(message: &Message) -> u64 {
        match message {
            Message::Request(_, _, Request::Index { .. }) => 60,
            Message::Request(_, _, Request::Ids { .. }) => 110,
            Message::Request(_, _, Request::Get { ids }) => 20 + 34 * ids.len() as u64,
            Message::Request(_, _, Request::Sids { sids }) => 60 + 8 * sids.len() as u64,
            Message::Request(_, _, Request::Page { .. }) => 80,
            Message::Request(_, _, Request::Groups { table, since, level, groups, syndromes }) => {
                let (table, level, groups, syndromes) = (*table, *level, groups.clone(), syndromes.clone());
                let groups = Some(GroupsRequest::new(&Asked { table, level, groups, syndromes }));
                frame(&SyncRequest { since: *since, groups, ..Default::default() })
            }
            Message::Answer(_, answer) => answer.size(),
            Message::Ask(_, request) => frame(request),
            // The envelope of the reply.
            Message::Told(_, response) => 3 + frame(response),
        }
    }

    fn receive(&mut self, from: usize, message: Message, context: &mut Context<'_, Message>) {
        match message {
            Message::Ask(number, request) if self.is_fast => {
                let response = self.tell_roots(from, request);
                let response = match self.lie {
                    None => Some(response),
                    Some(lie) => lie.distort_roots(response, context.random),
                };
                response.into_iter().for_each(|response| context.send(from, Message::Told(number, response)));
            }
            // Such a protocol is not spoken here.
            Message::Ask(..) => {}
            Message::Told(number, response) => self.take_roots(from, number, response, context),
            Message::Request(exchange, table, request) => {
                let answer = Answer::honest(&self.store, &table, &request);
                let answer = match self.lie {
                    None => Some(answer),
                    Some(lie) => lie.distort(answer, &request, &self.store, context.random),
                };
                answer.into_iter().for_each(|answer| context.send(from, Message::Answer(exchange, answer)));
            }
            Message::Answer(exchange, answer) => self.take_answer(from, exchange, answer, context),
        }
        self.settle(context);
    }

    fn wake(&mut self, context: &mut Context<'_, Message>) {
        self.fail_overdue(context);
        self.fall_back(context);
        let now = context.now;
        let due = |running: &Running| running.session.next_wake().is_some_and(|at| at <= now);
        let due: Vec<usize> =
            self.running.iter().filter(|(_, running)| due(running)).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.tell(peer, Event::Wake, context);
        }
        self.settle(context);
    }
}
