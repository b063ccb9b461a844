#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::{
    bucket::{self, bucket_of},
    reconcile::{MAX_CLAIMED_IDS, Seen, Served, Verdict, random::Random},
    refusal::{Outcome, Refusal},
};

const TABLE: TableId = TableId::from_bytes([7; 32]);
const EPOCH: u64 = 3600;
const SETUP: Setup = Setup { table: TABLE, bucket_bits: 4, epoch_seconds: EPOCH, since: 10 * EPOCH };
const NOW: Duration = Duration::from_secs(1000);

/// The id number `number` of a bucket; ascending.
fn id(bucket: u8, number: u32) -> EntryId {
    let mut bytes = [0; 32];
    bytes[0] = bucket << 4;
    bytes[1..5].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

fn ids(bucket: u8, numbers: std::ops::Range<u32>) -> Vec<EntryId> {
    numbers.map(|number| id(bucket, number)).collect()
}

fn claim(ids: &[EntryId]) -> BucketSummary {
    let bucket = bucket_of(&ids[0], SETUP.bucket_bits);
    BucketSummary { bucket, count: ids.len() as u64, digest: bucket::digest(ids.iter()) }
}

fn index(buckets: Vec<BucketSummary>) -> Response {
    Response::Index { since: SETUP.since, buckets, ids: vec![], more: false }
}

fn page(ids: Vec<EntryId>, more: bool) -> Response {
    Response::Index { since: SETUP.since, buckets: vec![], ids, more }
}

fn served(ids: &[EntryId], outcome: Outcome) -> Vec<Served> {
    ids.iter().map(|id| Served { id: Some(*id), outcome }).collect()
}

/// A session and what it wants that was not answered yet.
struct Bench {
    session: Session,
    now: Duration,
    seen: Seen,
    sent: VecDeque<(RequestId, Request)>,
    questions: VecDeque<(RequestId, Vec<EntryId>)>,
    scope: Option<u64>,
    remembered: usize,
    done: Option<Report>,
}

impl Bench {
    fn new() -> Self {
        let mut bench = Self {
            session: Session::new(SETUP, NOW, &mut Random::new(0)),
            now: NOW,
            seen: Seen::new(),
            sent: VecDeque::new(),
            questions: VecDeque::new(),
            scope: None,
            remembered: 0,
            done: None,
        };
        bench.tell(Event::Wake);
        bench
    }

    /// A session that has compared this index with an empty own one.
    fn with_index(claims: Vec<BucketSummary>) -> Self {
        let mut bench = Self::new();
        bench.answer(index(claims));
        bench.own_index(&[]);
        bench
    }

    fn tell(&mut self, event: Event<'_>) {
        for output in self.session.handle(event, self.now) {
            assert!(self.done.is_none(), "an output after the end: {output:?}");
            match output {
                Output::Send(request, what) => self.sent.push_back((request, what)),
                Output::OwnIndex { since } => self.scope = Some(since),
                Output::AreKnown { question, ids } => self.questions.push_back((question, ids)),
                Output::Remember(known) => {
                    self.seen.remember(&known);
                    self.remembered += 1;
                }
                Output::Done(report) => self.done = Some(report),
                other => panic!("not of the plain form: {other:?}"),
            }
        }
    }

    fn answer(&mut self, response: Response) {
        let (request, _) = self.sent.pop_front().unwrap();
        self.tell(Event::Response { request, bytes: 1000, response });
    }

    fn fail(&mut self, retry_after: Option<Duration>) {
        let (request, _) = self.sent.pop_front().unwrap();
        self.tell(Event::Failed { request, retry_after });
    }

    fn own_index(&mut self, own: &[BucketSummary]) {
        let seen = std::mem::take(&mut self.seen);
        self.tell(Event::OwnIndex { buckets: own, seen: &seen });
        self.seen = seen;
    }

    /// Answers the oldest question: of the ids asked about, these are unknown.
    fn unknown(&mut self, ids: &[EntryId]) {
        let (question, _) = self.questions.pop_front().unwrap();
        self.tell(Event::Unknown { question, ids: ids.to_vec() });
    }

    fn none_is_known(&mut self) {
        let ids = self.questions[0].1.clone();
        self.unknown(&ids);
    }

    fn end(&self) -> End {
        self.done.as_ref().unwrap().end
    }
}

#[test]
fn what_is_lacking_is_fetched_and_what_is_equal_skipped() {
    let (same, other) = (ids(1, 0..5), ids(2, 0..5));
    let mut bench = Bench::new();
    assert_eq!(bench.sent[0].1, Request::Index { table: TABLE, since: SETUP.since });
    bench.answer(index(vec![claim(&same), claim(&other)]));
    assert_eq!(bench.scope, Some(SETUP.since));
    bench.own_index(&[claim(&same), claim(&other[..3])]);
    let expected =
        Request::Ids { table: TABLE, since: SETUP.since, bucket: 2, after: None, limit: MAX_INDEX_IDS };
    assert_eq!(bench.sent[0].1, expected);
    bench.answer(page(other.clone(), false));
    assert_eq!(bench.questions[0].1, other);
    bench.unknown(&other[3..]);
    assert_eq!(bench.sent[0].1, Request::Get { ids: other[3..].to_vec() });
    assert_eq!(bench.remembered, 0, "not before all ids are Known");
    bench.answer(Response::Entries { entries: served(&other[3..], Outcome::Stored), more: false });
    assert!(bench.seen.contains(&TABLE, 2, &claim(&other).digest));
    let report = bench.done.unwrap();
    assert_eq!((report.end, report.verdict()), (End::Complete, Verdict::Useful { unfinished: false }));
    assert_eq!((report.buckets_compared, report.buckets_differing), (2, 1));
    assert_eq!((report.listed, report.fetched, report.requests, report.received_bytes), (5, 2, 3, 3000));
    assert_eq!(bench.session.next_wake(), None);
}

#[test]
fn a_seen_digest_is_skipped_and_a_claimed_one_never_seen() {
    let list = ids(2, 0..5);
    let mut lie = claim(&list);
    lie.digest = claim(&ids(2, 0..9)).digest;
    let mut bench = Bench::with_index(vec![lie]);
    bench.answer(page(list.clone(), false));
    bench.unknown(&[]);
    assert_eq!(bench.done.as_ref().unwrap().false_claims, 1);
    assert!(bench.seen.contains(&TABLE, 2, &claim(&list).digest), "the digest computed here");
    assert!(!bench.seen.contains(&TABLE, 2, &lie.digest), "the claim");

    let mut next = Bench::new();
    next.seen = bench.seen;
    next.answer(index(vec![claim(&list)]));
    next.own_index(&[]);
    let report = next.done.unwrap();
    assert_eq!((report.end, report.buckets_seen, report.listed), (End::Complete, 1, 0));
}

#[test]
fn nothing_is_remembered_of_a_bucket_with_an_id_that_was_not_served_or_refused() {
    for entries in [vec![], served(&[id(2, 0)], Outcome::Refused(Refusal::QuotaExceeded))] {
        let list = ids(2, 0..5);
        let mut bench = Bench::with_index(vec![claim(&list)]);
        bench.answer(page(list.clone(), false));
        bench.unknown(&list[..1]);
        let refused = entries.len() as u64;
        bench.answer(Response::Entries { entries, more: true });
        if refused == 0 {
            assert_eq!(bench.done.as_ref().unwrap().missing, 1);
        } else {
            assert_eq!(bench.done.as_ref().unwrap().refused, 1);
        }
        assert_eq!(bench.remembered, 0);
    }
}

#[test]
fn what_does_not_fit_into_one_answer_is_asked_for_again() {
    let list = ids(2, 0..10);
    let mut bench = Bench::with_index(vec![claim(&list)]);
    bench.answer(page(list.clone(), false));
    bench.none_is_known();
    bench.answer(Response::Entries { entries: served(&list[..4], Outcome::Stored), more: true });
    assert_eq!(bench.sent[0].1, Request::Get { ids: list[4..].to_vec() });
    bench.answer(Response::Entries { entries: served(&list[4..], Outcome::Known), more: false });
    assert_eq!((bench.done.unwrap().fetched, bench.remembered), (10, 1));
}

#[test]
fn pages_follow_each_other_and_a_cursor_survives_a_failure() {
    let list = ids(2, 0..3000);
    let (first, second) = list.split_at(MAX_INDEX_IDS);
    let mut bench = Bench::with_index(vec![claim(&list)]);
    bench.answer(page(first.to_vec(), true));
    bench.unknown(&[]);
    bench.fail(None);
    let Request::Ids { after, .. } = bench.sent[0].1 else { unreachable!("not a page") };
    assert_eq!(after, first.last().copied());
    bench.answer(page(second.to_vec(), false));
    bench.unknown(&[]);
    assert_eq!((bench.end(), bench.remembered), (End::Complete, 1));
}

#[test]
fn the_window_is_kept_full_and_gets_are_gathered() {
    let claims: Vec<_> = (0..16).map(|bucket| claim(&ids(bucket, 0..100))).collect();
    let mut bench = Bench::with_index(claims);
    assert_eq!(bench.sent.len(), WINDOW);
    for _ in 0..16 {
        assert!(bench.sent.len() <= WINDOW);
        let Request::Ids { bucket, .. } = bench.sent[0].1 else { unreachable!("a get that is not full") };
        bench.answer(page(ids(bucket as u8, 0..100), false));
        bench.none_is_known();
        if let Some(full) = bench.sent.iter().position(|(_, request)| matches!(request, Request::Get { .. }))
        {
            let (request, Request::Get { ids }) = bench.sent.remove(full).unwrap() else { unreachable!() };
            assert_eq!(ids.len(), if bench.sent.is_empty() { 576 } else { MAX_GET_IDS });
            let entries = served(&ids, Outcome::Stored);
            bench.tell(Event::Response {
                request,
                bytes: 0,
                response: Response::Entries { entries, more: false },
            });
        }
    }
    let report = bench.done.unwrap();
    assert_eq!((report.fetched, report.requests, bench.remembered), (1600, 1 + 16 + 2, 16));
}

#[test]
fn a_slow_store_holds_up_the_pages() {
    let claims =
        (0..16).map(|bucket| BucketSummary { count: 1 << 20, ..claim(&ids(bucket, 0..1)) }).collect();
    let mut bench = Bench::with_index(claims);
    let mut listed = [0; 16];
    while let Some((_, request)) = bench.sent.front() {
        let Request::Ids { bucket, .. } = *request else { unreachable!("nothing is wanted yet") };
        let from = listed[usize::from(bucket)];
        let to = from + MAX_INDEX_IDS as u32;
        listed[usize::from(bucket)] = to;
        bench.answer(page(ids(bucket as u8, from..to), true));
        let asked: usize = bench.questions.iter().map(|(_, ids)| ids.len()).sum();
        assert!(asked + bench.sent.len() * MAX_INDEX_IDS <= MAX_WANTED);
    }
    bench.unknown(&[]);
    assert_eq!(bench.sent.len(), 1, "an answer makes room for a page");
}

#[test]
fn the_own_index_is_asked_for_in_the_scope_of_the_answer() {
    let mut bench = Bench::new();
    bench.answer(Response::Index { since: 12 * EPOCH, buckets: vec![], ids: vec![], more: false });
    assert_eq!(bench.scope, Some(12 * EPOCH));
}

#[test]
fn late_and_repeated_events_are_ignored() {
    let list = ids(2, 0..5);
    let mut bench = Bench::with_index(vec![claim(&list)]);
    let (request, _) = bench.sent[0];
    bench.answer(page(list.clone(), false));
    let (question, _) = bench.questions[0];
    bench.tell(Event::Response { request, bytes: 0, response: page(list.clone(), false) });
    bench.tell(Event::Failed { request, retry_after: None });
    bench.own_index(&[]);
    bench.unknown(&list[..1]);
    bench.tell(Event::Unknown { question, ids: list.clone() });
    assert_eq!((bench.sent.len(), bench.questions.len()), (1, 0));
    bench.answer(Response::Entries { entries: served(&list[..1], Outcome::Stored), more: false });
    bench.tell(Event::Close);
    bench.tell(Event::Wake);
    let report = bench.done.unwrap();
    assert_eq!((report.end, report.listed, report.fetched), (End::Complete, 5, 1));
}

#[test]
fn a_broken_index_is_misbehaviour() {
    let (one, two) = (claim(&ids(1, 0..5)), claim(&ids(2, 0..5)));
    let scope = |since| Response::Index { since, buckets: vec![], ids: vec![], more: false };
    let wrong_scope = |got| Misbehaviour::WrongScope { asked: SETUP.since, epoch_seconds: EPOCH, got };
    let cases = [
        (index(vec![two, one]), Misbehaviour::BucketsNotAscending),
        (index(vec![one, one]), Misbehaviour::BucketsNotAscending),
        (index(vec![BucketSummary { bucket: 16, ..one }]), Misbehaviour::NoSuchBucket { bits: 4, got: 16 }),
        (index(vec![BucketSummary { count: 0, ..one }]), Misbehaviour::EmptyBucket { bucket: 1 }),
        (
            index(vec![BucketSummary { count: u64::MAX, ..one }, two]),
            Misbehaviour::TooManyIdsClaimed { limit: MAX_CLAIMED_IDS },
        ),
        (page(ids(1, 0..5), false), Misbehaviour::WrongAnswer),
        (page(vec![], true), Misbehaviour::WrongAnswer),
        (scope(9 * EPOCH), wrong_scope(9 * EPOCH)),
        (scope(11 * EPOCH + 1), wrong_scope(11 * EPOCH + 1)),
    ];
    for (response, expected) in cases {
        let mut bench = Bench::new();
        bench.answer(response);
        assert_eq!(bench.end(), End::Misbehaved(expected));
    }
}

#[test]
fn a_broken_page_is_misbehaviour() {
    let list = ids(2, 0..3000);
    let wrong_scope = Misbehaviour::WrongScope { asked: SETUP.since, epoch_seconds: EPOCH, got: 9 * EPOCH };
    let cases = [
        (page(vec![list[1], list[0]], false), Misbehaviour::IdsNotAscending),
        (page(vec![list[1], list[1]], false), Misbehaviour::IdsNotAscending),
        (page(vec![id(3, 0)], false), Misbehaviour::WrongBucket { expected: 2, got: 3 }),
        (page(vec![], true), Misbehaviour::EmptyPageWithMore),
        (
            page(list[..=MAX_INDEX_IDS].to_vec(), true),
            Misbehaviour::PageTooLong { limit: MAX_INDEX_IDS, got: MAX_INDEX_IDS + 1 },
        ),
        (index(vec![claim(&list)]), Misbehaviour::WrongAnswer),
        (Response::Index { since: 9 * EPOCH, buckets: vec![], ids: vec![], more: false }, wrong_scope),
    ];
    for (response, expected) in cases {
        let mut bench = Bench::with_index(vec![claim(&list)]);
        bench.answer(response);
        assert_eq!(bench.end(), End::Misbehaved(expected));
        assert!(bench.seen.is_empty());
    }
    // The second page has to go on where the first one ended.
    let mut bench = Bench::with_index(vec![claim(&list)]);
    bench.answer(page(list[..MAX_INDEX_IDS].to_vec(), true));
    bench.answer(page(list[MAX_INDEX_IDS - 1..].to_vec(), false));
    assert_eq!(bench.end(), End::Misbehaved(Misbehaviour::IdsNotAscending));
}

#[test]
fn a_page_in_a_later_scope_is_fine() {
    let list = ids(2, 0..5);
    let mut bench = Bench::with_index(vec![claim(&list)]);
    let later = Response::Index { since: 11 * EPOCH, buckets: vec![], ids: list[..3].to_vec(), more: false };
    bench.answer(later);
    bench.unknown(&[]);
    assert!(bench.seen.contains(&TABLE, 2, &claim(&list[..3]).digest));
}

#[test]
fn entries_that_are_invalid_or_not_asked_for_are_misbehaviour() {
    let list = ids(2, 0..5);
    let spoiled = Outcome::Refused(Refusal::SignatureInvalid);
    let undecodable = Served { id: None, outcome: Outcome::Refused(Refusal::Malformed) };
    let cases = [
        (served(&list[..1], spoiled), Misbehaviour::InvalidEntry(Refusal::SignatureInvalid)),
        (vec![undecodable], Misbehaviour::InvalidEntry(Refusal::Malformed)),
        (served(&[id(2, 9)], Outcome::Stored), Misbehaviour::Unsolicited),
        (served(&[list[0], list[0]], Outcome::Stored), Misbehaviour::Unsolicited),
    ];
    for (entries, expected) in cases {
        let mut bench = Bench::with_index(vec![claim(&list)]);
        bench.answer(page(list.clone(), false));
        bench.none_is_known();
        bench.answer(Response::Entries { entries, more: false });
        assert_eq!((bench.end(), bench.remembered), (End::Misbehaved(expected), 0));
    }
}

#[test]
fn a_list_much_longer_than_its_claim_is_cut() {
    let mut lie = claim(&ids(2, 0..5));
    lie.count = 100;
    let mut bench = Bench::with_index(vec![lie]);
    let mut listed = 0;
    while bench.done.is_none() {
        let next = listed + MAX_INDEX_IDS as u32;
        bench.answer(page(ids(2, listed..next), true));
        bench.unknown(&[]);
        listed = next;
    }
    assert_eq!(listed as usize, 2 * MAX_INDEX_IDS);
    assert_eq!((bench.done.unwrap().false_claims, bench.remembered), (1, 0));
}

#[test]
fn a_session_ends_after_too_many_failures_in_a_row() {
    let list = ids(2, 0..5);
    let mut bench = Bench::new();
    for _ in 0..MAX_FAILURES {
        bench.fail(None);
    }
    bench.answer(index(vec![claim(&list)]));
    bench.own_index(&[]);
    for _ in 0..=MAX_FAILURES {
        assert_eq!(bench.done, None);
        bench.fail(None);
    }
    assert_eq!(bench.end(), End::Cut(Cut::Failures));
}

#[test]
fn a_busy_peer_is_given_the_time_it_asks_for() {
    let mut bench = Bench::new();
    bench.fail(Some(Duration::from_secs(5)));
    assert!(bench.sent.is_empty());
    assert_eq!(bench.session.next_wake(), Some(NOW + Duration::from_secs(5)));
    bench.now += Duration::from_millis(4999);
    bench.tell(Event::Wake);
    assert!(bench.sent.is_empty());
    bench.now += Duration::from_millis(1);
    bench.tell(Event::Wake);
    assert_eq!(bench.sent.len(), 1);
    let wait = MAX_PAUSE + Duration::from_secs(1);
    bench.fail(Some(wait));
    assert_eq!(bench.end(), End::Cut(Cut::Busy(wait)));
}

#[test]
fn a_peer_that_delivers_too_slowly_loses_its_place() {
    let list = ids(2, 0..5);
    let mut bench = Bench::new();
    let (request, _) = bench.sent.pop_front().unwrap();
    bench.now = NOW + GRACE - Duration::from_secs(1);
    // Ten seconds' worth.
    bench.tell(Event::Response { request, bytes: 10 * MIN_RATE, response: index(vec![claim(&list)]) });
    bench.own_index(&[]);
    assert_eq!(bench.session.next_wake(), Some(NOW + GRACE + Duration::from_secs(10)));
    bench.now = NOW + GRACE + Duration::from_secs(9);
    bench.tell(Event::Wake);
    assert_eq!(bench.done, None);
    bench.now += Duration::from_secs(1);
    bench.tell(Event::Wake);
    assert_eq!(bench.end(), End::Cut(Cut::TooSlow));
}

#[test]
fn a_full_disk_ends_the_session() {
    let list = ids(2, 0..2000);
    let mut bench = Bench::with_index(vec![claim(&list)]);
    bench.answer(page(list.clone(), false));
    bench.none_is_known();
    while bench.done.is_none() {
        let Request::Get { ids } = bench.sent[0].1.clone() else { unreachable!("not a get") };
        let entries = served(&ids, Outcome::Refused(Refusal::StoreFailed));
        bench.answer(Response::Entries { entries, more: false });
    }
    assert_eq!(bench.end(), End::Cut(Cut::Refused));
}
