//! One session with random stores, and with an adversary who answers anything, in any order of events.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use p2pdb_protocol::{
    bucket::{BucketSummary, Digest, bucket_of, digest, id_range},
    id::{EntryId, TableId},
    limits::{MAX_GET_IDS, MAX_INDEX_IDS},
    reconcile::{
        End, Event, KnownBucket, MAX_FAILURES, MAX_REFUSED, MAX_SHORT_PAGES, MAX_UNSERVED, MAX_WANTED,
        Output, Report, Request, RequestId, Response, Seen, Session, Setup, WINDOW,
    },
};
use proptest::prelude::*;

use super::{
    node::Answer,
    random::Random,
    store::{Item, Rules, Store},
};

const TABLE: TableId = TableId::from_bytes([7; 32]);

/// What a session did, as seen from outside.
struct Outcome {
    report: Report,
    remembered: Vec<KnownBucket>,
    /// Answers and failures that the session got.
    steps: u64,
}

/// Drives a session to its end; of what is pending, a random one happens next. `respond` may leave a request unanswered.
fn drive(
    store: &mut Store,
    random: &mut Random,
    mut respond: impl FnMut(&Request, &mut Random) -> Option<Answer>,
) -> Outcome {
    let Rules { bucket_bits, epoch_seconds } = store.rules;
    let setup = Setup { table: TABLE, bucket_bits, epoch_seconds, since: store.horizon };
    let now = Duration::ZERO;
    let mut session = Session::new(setup, now, random);
    let mut outputs = session.handle(Event::Wake, now);
    let mut pending: Vec<Output> = Vec::new();
    let mut remembered = Vec::new();
    let mut steps = 0;
    loop {
        for output in outputs.drain(..) {
            match output {
                Output::Remember(known) => remembered.push(known),
                Output::Done(report) => return Outcome { report, remembered, steps },
                other => pending.push(other),
            }
        }
        check_bounds(&pending);
        assert!(!pending.is_empty(), "the session waits for nothing");
        outputs = match pending.swap_remove(random.below(pending.len())) {
            Output::OwnIndex { since } => {
                let buckets = store.index(&TABLE, since);
                session.handle(Event::OwnIndex { buckets: &buckets, seen: &Seen::new() }, now)
            }
            Output::AreKnown { question, mut ids } => {
                ids.retain(|id| !store.is_known(&TABLE, id));
                session.handle(Event::Unknown { question, ids }, now)
            }
            Output::Send(request, what) => {
                steps += 1;
                session.handle(happens(request, respond(&what, random), store), now)
            }
            _ => unreachable!("the plain form asks for nothing else"),
        };
    }
}

fn happens(request: RequestId, answer: Option<Answer>, store: &mut Store) -> Event<'static> {
    let Some(answer) = answer else { return Event::Failed { request, retry_after: None } };
    let bytes = answer.size();
    let response = match answer {
        Answer::Index { since, buckets, ids, more } => Response::Index { since, buckets, ids, more },
        Answer::Entries { items, more } => {
            Response::Entries { entries: items.into_iter().map(|item| store.admit(item)).collect(), more }
        }
        Answer::Groups { .. } | Answer::Page { .. } => unreachable!("not of the plain form"),
    };
    Event::Response { request, bytes, response }
}

fn check_bounds(pending: &[Output]) {
    let mut sent = 0;
    let mut asked = 0;
    for output in pending {
        match output {
            Output::Send(_, Request::Get { ids }) => {
                sent += 1;
                assert!((1..=MAX_GET_IDS).contains(&ids.len()));
                assert!(ids.is_sorted_by(|a, b| a < b));
            }
            Output::Send(..) => sent += 1,
            Output::AreKnown { ids, .. } => asked += ids.len(),
            _ => {}
        }
    }
    assert!(sent <= WINDOW, "{sent} requests in flight");
    assert!(asked <= MAX_WANTED, "{asked} ids asked about");
}

/// Two stores that share some entries, each with evictions and a horizon of its own.
fn stores(seed: u64, bits: u8, count: usize, horizons: [u64; 2]) -> (Store, Store, Random) {
    let mut random = Random::new(seed);
    let rules = Rules { bucket_bits: bits, epoch_seconds: 100 };
    let [mut own, mut other] = horizons.map(|horizon| Store::new(rules, [TABLE], horizon));
    for _ in 0..count {
        let item = Item::random(TABLE, random.range(1..1000), random.range(1..20_000), &mut random);
        for store in [&mut own, &mut other] {
            if item.created >= store.horizon && random.chance(0.8) {
                store.admit(item);
                if random.chance(0.1) {
                    store.evict(&item);
                }
            }
        }
    }
    (own, other, random)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// With an honest peer everything that both may hold is Known afterwards, whatever the order of events.
    #[test]
    fn a_complete_session_leaves_nothing_out(
        seed in any::<u64>(),
        bits in 0_u8..=12,
        count in 0_usize..600,
        horizons in [0_u64..900, 0_u64..900],
        failures in 0.0..0.1,
    ) {
        let (mut own, other, mut random) = stores(seed, bits, count, horizons);
        let scope = other.scope(own.horizon);
        let own_index = own.index(&TABLE, scope);
        let differing = other.index(&TABLE, scope).iter().filter(|theirs| !own_index.contains(theirs)).count();
        let Outcome { report, remembered, .. } = drive(&mut own, &mut random, |request, random| {
            (!random.chance(failures)).then(|| Answer::honest(&other, &TABLE, request))
        });
        prop_assert_eq!(report.end, End::Complete);
        prop_assert_eq!(report.buckets_differing, differing as u64, "both are compared in the same scope");
        for item in other.items().filter(|item| item.created >= scope) {
            prop_assert!(own.is_known(&TABLE, &item.id));
        }
        prop_assert_eq!((report.missing, report.refused, report.false_claims), (0, 0, 0));
        prop_assert_eq!(remembered.len() as u64, report.buckets_differing);
        let peers: BTreeMap<u16, Digest> =
            other.index(&TABLE, scope).iter().map(|summary| (summary.bucket, summary.digest)).collect();
        for known in remembered {
            prop_assert_eq!(peers.get(&known.bucket()), Some(&known.digest()));
        }
    }

    /// Whatever the peer answers, the session ends within its bounds and remembers only what is Known.
    #[test]
    fn any_adversary_is_survived(seed in any::<u64>(), bits in 0_u8..=6, count in 0_usize..600) {
        let (mut own, other, mut random) = stores(seed, bits, count, [0, 0]);
        let mut adversary = Adversary::new(other, &mut random);
        let Outcome { report, remembered, steps } =
            drive(&mut own, &mut random, |request, random| adversary.respond(request, random));

        let known = (own.items().count() + own.dropped.len()) as u64;
        let lost = MAX_UNSERVED + MAX_REFUSED + (MAX_WANTED + WINDOW * (MAX_GET_IDS + MAX_INDEX_IDS)) as u64;
        prop_assert!(report.listed <= known + lost, "{:?}", report);
        let pages = report.listed / MAX_INDEX_IDS as u64 + u64::from(MAX_SHORT_PAGES) + (1 << bits) + 1;
        // Every get settles an id at least.
        let gets = report.listed;
        let answers = 1 + pages + gets;
        prop_assert!(steps <= answers * u64::from(MAX_FAILURES + 1), "{} steps, {:?}", steps, report);

        for bucket in remembered {
            let listed = adversary.listed.get(&bucket.bucket()).cloned().unwrap_or_default();
            prop_assert_eq!(digest(listed.iter()), bucket.digest(), "not over what was listed");
            prop_assert!(listed.iter().all(|id| own.is_known(&TABLE, id)), "an id that is not Known");
        }
    }
}

/// A peer that tells lies of all sizes, most of them well-formed, so that it gets far.
struct Adversary {
    store: Store,
    /// How likely each kind of lie is in this run.
    likely: [f64; 4],
    /// What it listed of each bucket.
    listed: BTreeMap<u16, BTreeSet<EntryId>>,
}

impl Adversary {
    fn new(store: Store, random: &mut Random) -> Self {
        let likely = std::array::from_fn(|_| [0.0, 0.02, 0.5, 0.95][random.below(4)]);
        Self { store, likely, listed: BTreeMap::new() }
    }

    fn respond(&mut self, request: &Request, random: &mut Random) -> Option<Answer> {
        let [fails, invents, withholds, breaks] = self.likely;
        if random.chance(fails * 0.9) {
            return None;
        }
        let mut answer = Answer::honest(&self.store, &TABLE, request);
        match (&mut answer, request) {
            (Answer::Index { buckets, .. }, Request::Index { .. }) => {
                let all = 0..1_u16 << self.store.rules.bucket_bits;
                if random.chance(invents) {
                    let count = 1 << random.below(24);
                    let mut claim =
                        |bucket| BucketSummary { bucket, count, digest: Digest::from_bytes(random.bytes()) };
                    *buckets = all.map(&mut claim).collect();
                }
            }
            (Answer::Index { ids, more, .. }, Request::Ids { bucket, after, limit, .. }) => {
                if random.chance(invents) {
                    let most = [3, 300, 3000][random.below(3)];
                    ids.extend(self.invent(*bucket, *after, most, random));
                    ids.sort_unstable();
                    ids.dedup();
                    *more = random.chance(invents) && !ids.is_empty();
                }
                if random.chance(breaks * 0.01) {
                    ids.reverse();
                } else if ids.len() > *limit {
                    ids.truncate(*limit);
                    *more = true;
                }
                if random.chance(withholds * 0.5) && ids.len() > 1 {
                    ids.truncate(1 + random.below(ids.len() - 1));
                    *more = true;
                }
                self.listed.entry(*bucket).or_default().extend(ids.iter());
            }
            (Answer::Entries { items, more }, Request::Get { .. }) => {
                if random.chance(withholds) {
                    items.truncate(random.below(items.len() + 1));
                    *more = random.chance(0.8);
                }
                if random.chance(breaks * 0.01) {
                    items.iter_mut().for_each(|item| item.valid = false);
                }
            }
            _ => unreachable!("an answer of the wrong kind"),
        }
        Some(answer)
    }

    /// Ids of a bucket that belong to no entry, after the cursor.
    fn invent(&self, bucket: u16, after: Option<EntryId>, most: usize, random: &mut Random) -> Vec<EntryId> {
        let bits = self.store.rules.bucket_bits;
        let (first, _) = id_range(bucket, bits);
        let mut start = *after.unwrap_or(first).as_bytes();
        // Short steps, so that a bucket has room for endless pages.
        let mut invented = Vec::new();
        for _ in 0..random.below(most) {
            let [.., a, b, c, d, _, _, _, _] = &mut start;
            let step = u32::from_be_bytes([*a, *b, *c, *d]).saturating_add(1 + random.next_u32() % 8);
            [*a, *b, *c, *d] = step.to_be_bytes();
            let id = EntryId::from_bytes(start);
            if bucket_of(&id, bits) == bucket && after.is_none_or(|after| id > after) {
                invented.push(id);
            }
        }
        invented
    }
}
