//! A node: the driver of sessions, as the real one does it, and the responder.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use p2pdb_protocol::{
    bucket::BucketSummary,
    id::{EntryId, TableId},
    reconcile::{End, Event, Output, Report, Request, RequestId, Response, Schedule, Seen, Session, Setup},
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
    Request(Exchange, Request),
    Answer(Exchange, Answer),
}

#[derive(Debug, Clone)]
pub enum Answer {
    Index { since: u64, buckets: Vec<BucketSummary>, ids: Vec<EntryId>, more: bool },
    Entries { items: Vec<Item>, more: bool },
}

impl Answer {
    /// What SPEC 8.5 and 8.6 say.
    pub fn honest(store: &Store, request: &Request) -> Self {
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
        }
    }

    /// About its length on the wire, in bytes (SPEC 8.5, 8.6).
    pub fn size(&self) -> u64 {
        match self {
            Answer::Index { buckets, ids, .. } => 40 + 24 * buckets.len() as u64 + 34 * ids.len() as u64,
            Answer::Entries { items, .. } => 40 + items.iter().map(|item| item.size + 12).sum::<u64>(),
        }
    }
}

/// The session that runs with one peer.
struct Running {
    number: u64,
    session: Session,
    table: TableId,
    /// The tables still to do.
    left: Vec<TableId>,
    total: Report,
}

pub struct Node {
    pub store: Store,
    pub seen: Seen,
    pub lie: Option<Lie>,
    /// The tables common with each peer it is connected to.
    pub peers: BTreeMap<usize, Vec<TableId>>,
    /// What all sessions of one table did, per peer.
    pub reports: Vec<(usize, Report)>,
    pub schedule: Schedule<usize>,
    running: BTreeMap<usize, Running>,
    deadlines: BTreeSet<(Duration, usize, Exchange)>,
    sessions: u64,
}

impl Node {
    pub fn new(store: Store, lie: Option<Lie>, random: &mut Random) -> Self {
        Self {
            store,
            seen: Seen::new(),
            lie,
            peers: BTreeMap::new(),
            reports: Vec::new(),
            schedule: Schedule::new(Duration::ZERO, random),
            running: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            sessions: 0,
        }
    }

    pub fn connect(&mut self, peer: usize, tables: Vec<TableId>, now: Duration) {
        self.peers.insert(peer, tables);
        self.schedule.connected(peer, now);
    }

    fn begin_due(&mut self, context: &mut Context<'_, Message>) {
        while let Some(peer) = self.schedule.poll(context.now, context.random) {
            let left = self.peers.get(&peer).cloned().unwrap_or_default();
            self.begin_table(peer, left, Report::default(), context);
        }
    }

    /// Begins with the next table, or finishes when none is left or the last one ended badly.
    fn begin_table(
        &mut self,
        peer: usize,
        mut left: Vec<TableId>,
        total: Report,
        context: &mut Context<'_, Message>,
    ) {
        let table = if total.end == End::Complete { left.pop() } else { None };
        let Some(table) = table else {
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
        let session = Session::new(setup, context.now, context.random);
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
                    context.send(peer, Message::Request(exchange, what));
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
                Output::Remember(known) => self.seen.remember(&known),
                Output::Done(report) => done = Some(report),
            }
        }
        if let Some(report) = done
            && let Some(running) = self.running.remove(&peer)
        {
            let mut total = running.total;
            total.merge(&report);
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

    fn settle(&mut self, context: &mut Context<'_, Message>) {
        self.begin_due(context);
        let sessions = self.running.values().filter_map(|running| running.session.next_wake());
        let deadline = self.deadlines.first().map(|(at, ..)| *at);
        let next = sessions.chain(deadline).chain(self.schedule.next_wake()).min();
        next.into_iter().for_each(|at| context.wake_at(at));
    }
}

impl Actor for Node {
    type Message = Message;

    fn size(message: &Message) -> u64 {
        match message {
            Message::Request(_, Request::Index { .. }) => 60,
            Message::Request(_, Request::Ids { .. }) => 110,
            Message::Request(_, Request::Get { ids }) => 20 + 34 * ids.len() as u64,
            Message::Answer(_, answer) => answer.size(),
        }
    }

    fn receive(&mut self, from: usize, message: Message, context: &mut Context<'_, Message>) {
        match message {
            Message::Request(exchange, request) => {
                let answer = Answer::honest(&self.store, &request);
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
