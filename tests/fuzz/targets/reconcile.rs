//! Reconciliation with a peer that answers what a fuzzer wants: the session ends, keeps its bounds, lets nothing invalid in,
//! and whatever it remembers hides nothing: an honest peer brings everything afterwards.
#![no_main]

#[path = "../../../protocol/tests/sim/random.rs"]
mod random;
#[allow(dead_code, reason = "the simulator uses all of it")]
#[path = "../../../protocol/tests/sim/store.rs"]
mod store;

use std::{collections::VecDeque, time::Duration};

use libfuzzer_sys::{arbitrary::Unstructured, fuzz_target};
use p2pdb_protocol::{
    bucket::{BucketSummary, Digest},
    filter::Cursor,
    id::{EntryId, TableId},
    limits::{MAX_GET_IDS, MAX_INDEX_IDS},
    message::sync::Claim,
    reconcile::{
        Cut, End, Event, Lead, MAX_RESOLVED, Output, Report, Request, RequestId, Residual, Response, Seen,
        Session, Setup, WINDOW,
        sketch::{MAX_LEVEL, Root, Tally, Tow},
    },
};

use crate::{
    random::Random,
    store::{Item, Rules, Store},
};

const TABLE: TableId = TableId::from_bytes([7; 32]);
const RULES: Rules = Rules { bucket_bits: 4, epoch_seconds: 3600 };
/// Far more than any session of so few entries takes; one that does not end is found by it.
const MAX_STEPS: u32 = 20_000;

/// Bytes of the fuzzer, and zeros when they are used up.
struct Script<'a>(Unstructured<'a>);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        self.0.arbitrary().unwrap_or_default()
    }

    fn word(&mut self) -> u64 {
        self.0.arbitrary().unwrap_or_default()
    }

    fn chance(&mut self, of: u8) -> bool {
        self.byte() % of == 1
    }

    fn index(&mut self, length: usize) -> usize {
        usize::from(self.byte()) % length.max(1)
    }
}

/// This node: its store, and what it remembers of sessions.
struct Node {
    store: Store,
    seen: Seen,
    residual: Residual,
}

/// An answer before its entries have passed the gate.
enum Answer {
    Plain(Response),
    Entries { items: Vec<Item>, more: bool },
    Page { items: Vec<Item>, next: Cursor, more: bool },
}

fn honest(peer: &Store, request: &Request) -> Answer {
    let index = |since, buckets, ids, more| Answer::Plain(Response::Index { since, buckets, ids, more });
    match request {
        Request::Index { table, since } => {
            let since = peer.scope(*since);
            index(since, peer.index(table, since), Vec::new(), false)
        }
        Request::Ids { table, since, bucket, after, limit } => {
            let since = peer.scope(*since);
            let (ids, more) = peer.page(table, since, *bucket, *after, *limit);
            index(since, Vec::new(), ids, more)
        }
        Request::Get { ids } => {
            let (items, more) = peer.get(ids);
            Answer::Entries { items, more }
        }
        Request::Sids { sids } => {
            let (items, more) = peer.by_sids(&TABLE, sids);
            Answer::Entries { items, more }
        }
        Request::Page { since, cursor } => {
            let (items, next, more) = peer.arrived(&TABLE, *since, *cursor);
            Answer::Page { items, next, more }
        }
        Request::Groups { table, since, level, groups, syndromes } => {
            let since = peer.scope(*since);
            let all = peer.groups(table, since, *level);
            let mut tally = Tally::default();
            all.iter().for_each(|group| tally.merge(group.tally()));
            let asked =
                groups.iter().flat_map(|group| &all[usize::from(*group)].syndromes()[syndromes.clone()]);
            let syndromes = asked.copied().collect();
            Answer::Plain(Response::Groups { since, root: tally.root(), syndromes })
        }
    }
}

/// Spoils an answer here and there.
fn distort(answer: &mut Answer, peer: &Store, script: &mut Script<'_>) {
    match answer {
        Answer::Plain(Response::Index { since, buckets, ids, more }) => {
            if script.chance(8) {
                *since = script.word();
            }
            *more ^= script.chance(4);
            let digest = |script: &mut Script<'_>| Digest::from_bytes([script.byte(); 16]);
            match script.byte() % 8 {
                1 => buckets.reverse(),
                2 => buckets.extend_from_within(..),
                3 => buckets.iter_mut().for_each(|bucket| bucket.count = script.word()),
                4 => buckets.iter_mut().for_each(|bucket| bucket.digest = digest(script)),
                5 => (0..16).for_each(|bucket| {
                    buckets.push(BucketSummary { bucket, count: script.word(), digest: digest(script) })
                }),
                _ => {}
            }
            match script.byte() % 8 {
                1 => ids.reverse(),
                2 => ids.truncate(1),
                3 => ids.extend((0..script.byte()).map(|_| EntryId::from_bytes([script.byte(); 32]))),
                4 => {
                    let first = ids.first().map_or([0; 32], |id| *id.as_bytes());
                    *ids = (0..=MAX_INDEX_IDS as u32 * u32::from(script.byte() % 2))
                        .map(|number| {
                            let mut bytes = first;
                            bytes[28..].copy_from_slice(&number.to_be_bytes());
                            EntryId::from_bytes(bytes)
                        })
                        .collect();
                }
                _ => {}
            }
        }
        Answer::Plain(Response::Groups { since, root, syndromes }) => {
            if script.chance(8) {
                *since = script.word();
            }
            if script.chance(4) {
                *root = Root::from_bytes([script.byte(); 16]);
            }
            match script.byte() % 4 {
                1 => syndromes.truncate(script.index(syndromes.len())),
                2 => syndromes.iter_mut().for_each(|word| *word ^= script.word()),
                3 if !syndromes.is_empty() => {
                    let at = script.index(syndromes.len());
                    syndromes[at] = script.word();
                }
                _ => {}
            }
        }
        Answer::Plain(_) => {}
        Answer::Entries { items, more } => {
            *more ^= script.chance(4);
            distort_items(items, peer, script);
        }
        Answer::Page { items, next, more } => {
            *more ^= script.chance(4);
            if script.chance(4) {
                next.arrival = script.word();
            }
            if script.chance(8) {
                next.store = [script.byte(); 8];
            }
            distort_items(items, peer, script);
        }
    }
}

fn distort_items(items: &mut Vec<Item>, peer: &Store, script: &mut Script<'_>) {
    match script.byte() % 8 {
        1 => items.clear(),
        2 => items.extend_from_within(..),
        3 => items.iter_mut().for_each(|item| item.valid &= !script.chance(2)),
        4 => items.truncate(script.index(items.len())),
        5 => items.extend(peer.items()),
        _ => {}
    }
}

fn distort_claim(claim: &mut Claim, script: &mut Script<'_>) {
    if script.chance(3) {
        claim.n = script.word();
    }
    if script.chance(3) {
        claim.root = Root::from_bytes([script.byte(); 16]);
    }
    if script.chance(3) {
        claim.tow = Tow::from_bytes(&std::array::from_fn(|_| script.byte()));
    }
    if script.chance(3) {
        claim.syndromes.iter_mut().for_each(|word| *word ^= script.word());
    }
}

impl Node {
    /// One session with a peer, which lies as long as the script goes on.
    fn reconcile(
        &mut self,
        peer: &Store,
        is_fast: bool,
        may_page: bool,
        script: &mut Option<Script<'_>>,
    ) -> Report {
        let since = self.store.scope(peer.horizon);
        let setup =
            Setup { table: TABLE, bucket_bits: RULES.bucket_bits, epoch_seconds: RULES.epoch_seconds, since };
        let mut now = Duration::from_secs(1);
        let mut random = Random::new(script.as_mut().map_or(0, Script::word));
        let mut session = if is_fast {
            let mut claim = Claim::from(&peer.summary(&TABLE, since));
            if let Some(script) = script {
                distort_claim(&mut claim, script);
            }
            let own = self.store.summary(&TABLE, since);
            let residual = self.residual.clone();
            let newest = self.store.newest();
            let lead = Lead { since, claim, own, newest, residual, may_page };
            Session::with_lead(setup, lead, now, &mut random)
        } else {
            Session::new(setup, now, &mut random)
        };
        let mut pending: Vec<(RequestId, Request)> = Vec::new();
        let mut outputs = VecDeque::from(session.handle(Event::Wake, now));
        for _ in 0..MAX_STEPS {
            if let Some(output) = outputs.pop_front() {
                if let Output::Done(report) = output {
                    assert!(outputs.is_empty() && session.next_wake().is_none(), "something after the end");
                    return report;
                }
                self.carry_out(output, &mut session, now, &mut pending, &mut outputs);
                assert!(pending.len() <= WINDOW, "{} requests at once", pending.len());
                continue;
            }
            let wake = session.next_wake().expect("a session that is not done waits for something");
            if pending.is_empty() || wake <= now {
                now = now.max(wake);
                outputs.extend(session.handle(Event::Wake, now));
                continue;
            }
            let lies = script.as_mut().filter(|script| !script.0.is_empty());
            outputs.extend(self.answer(&mut session, peer, &mut pending, &mut now, lies));
        }
        panic!("the session does not end");
    }

    /// Answers one of the requests, or does not.
    fn answer(
        &mut self,
        session: &mut Session,
        peer: &Store,
        pending: &mut Vec<(RequestId, Request)>,
        now: &mut Duration,
        lies: Option<&mut Script<'_>>,
    ) -> Vec<Output> {
        let Some(script) = lies else {
            let (request, what) = pending.remove(0);
            return self.respond(session, request, honest(peer, &what), *now);
        };
        *now += Duration::from_millis(script.byte().into());
        let (request, what) = pending.remove(script.index(pending.len()));
        let mut answer = honest(peer, &what);
        match script.byte() % 16 {
            0..4 => self.respond(session, request, answer, *now),
            4 => session.handle(Event::Failed { request, retry_after: None }, *now),
            5 => {
                let retry_after = Some(Duration::from_secs(u64::from(script.byte())));
                session.handle(Event::Failed { request, retry_after }, *now)
            }
            6 if script.chance(16) => session.handle(Event::Close, *now),
            // The same answer twice, as a driver never tells it.
            7 => {
                let mut outputs = self.respond(session, request, answer, *now);
                outputs.extend(self.respond(session, request, honest(peer, &what), *now));
                outputs
            }
            _ => {
                distort(&mut answer, peer, script);
                self.respond(session, request, answer, *now)
            }
        }
    }

    fn respond(
        &mut self,
        session: &mut Session,
        request: RequestId,
        answer: Answer,
        now: Duration,
    ) -> Vec<Output> {
        let mut outputs = Vec::new();
        let response = match answer {
            Answer::Plain(response) => response,
            Answer::Entries { items, more } => {
                let entries = items.into_iter().map(|item| self.store.admit(item)).collect();
                Response::Entries { entries, more }
            }
            Answer::Page { items, next, more } => {
                outputs = session.handle(Event::Paged { request, bytes: 100, next, more }, now);
                let entries = items.into_iter().map(|item| self.store.admit(item)).collect();
                Response::Entries { entries, more }
            }
        };
        outputs.extend(session.handle(Event::Response { request, bytes: 100, response }, now));
        outputs
    }

    fn carry_out(
        &mut self,
        output: Output,
        session: &mut Session,
        now: Duration,
        pending: &mut Vec<(RequestId, Request)>,
        outputs: &mut VecDeque<Output>,
    ) {
        match output {
            Output::Send(request, what) => {
                match &what {
                    Request::Get { ids } => {
                        assert!(ids.len() <= MAX_GET_IDS && ids.is_sorted_by(|a, b| a < b));
                    }
                    Request::Ids { limit, .. } => assert!(*limit <= MAX_INDEX_IDS),
                    Request::Groups { level, .. } => assert!(*level <= MAX_LEVEL),
                    _ => {}
                }
                pending.push((request, what));
            }
            Output::OwnIndex { since } => {
                let buckets = self.store.index(&TABLE, since);
                let event = Event::OwnIndex { buckets: &buckets, seen: &self.seen };
                outputs.extend(session.handle(event, now));
            }
            Output::AreKnown { question, mut ids } => {
                assert!(ids.len() <= MAX_INDEX_IDS && ids.is_sorted_by(|a, b| a < b));
                ids.retain(|id| !self.store.is_known(&TABLE, id));
                outputs.extend(session.handle(Event::Unknown { question, ids }, now));
            }
            Output::OwnGroups { since, level } => {
                let groups = self.store.groups(&TABLE, since, level);
                outputs.extend(session.handle(Event::OwnGroups { groups, newest: self.store.newest() }, now));
            }
            Output::Resolve { question, sids } => {
                assert!(sids.len() <= MAX_RESOLVED);
                let held = self.store.held(&TABLE, &sids);
                outputs.extend(session.handle(Event::Resolved { question, held }, now));
            }
            Output::Residual { residual, .. } => self.residual = residual,
            Output::Remember(known) => self.seen.remember(&known),
            Output::Done(_) => unreachable!("taken by the caller"),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script(Unstructured::new(bytes));
    let mut random = Random::new(script.byte().into());
    let shape = script.byte();
    let count = usize::from(script.byte() % 64);
    let items: Vec<Item> =
        (0..count).map(|_| Item::random(TABLE, random.range(1..20_000), 500, &mut random)).collect();
    let mut own = Store::new(RULES, [TABLE], 0);
    let mut peer = Store::new(RULES, [TABLE], 0);
    for item in &items {
        let place = random.below(4);
        if place < 3 {
            own.admit(*item);
        }
        if place > 0 {
            peer.admit(*item);
        }
        if place == 2 && shape & 1 == 1 {
            own.evict(item);
        }
    }
    if shape & 2 == 2 {
        own = Store::new(RULES, [TABLE], 0);
    }
    let (is_fast, may_page) = (shape & 4 == 4, shape & 8 == 8);
    let mut node = Node { store: own, seen: Seen::new(), residual: Residual::default() };
    let mut script = Some(script);
    node.reconcile(&peer, is_fast, may_page, &mut script);
    assert!(node.store.items().all(|item| item.valid), "an invalid entry was taken");
    // Another peer, or the same that has become honest.
    if shape & 16 == 16 {
        node.residual = Residual::default();
    }
    let mut report = node.reconcile(&peer, is_fast, may_page, &mut None);
    if report.end == End::Cut(Cut::Paged) {
        report = node.reconcile(&peer, is_fast, false, &mut None);
    }
    assert_eq!(report.end, End::Complete);
    let hidden = peer.items().filter(|item| !node.store.is_known(&TABLE, &item.id)).count();
    assert_eq!(hidden, 0, "hidden, after {report:?}");
});
