//! Two or three nodes: what a reconciliation costs, and what each kind of liar can and cannot do.

use std::time::Duration;

use p2pdb_protocol::{
    id::TableId,
    reconcile::{End, MAX_UNSERVED, Report, Verdict, WINDOW},
};

use super::{
    liar::Lie,
    node::Node,
    random::Random,
    store::{Item, Rules, Store},
    world::{Link, World},
};

pub const TABLE: TableId = TableId::from_bytes([7; 32]);
const ROUND_TRIP: Duration = Duration::from_millis(200);

pub fn steady() -> Link {
    Link { latency: 100..101, loss: 0.0, duplication: 0.0 }
}

pub fn items(count: usize, size: u64, random: &mut Random) -> Vec<Item> {
    (0..count).map(|_| Item::random(TABLE, random.range(1..1_000_000), size, random)).collect()
}

pub fn store<'a>(bucket_bits: u8, items: impl IntoIterator<Item = &'a Item>) -> Store {
    let mut store = Store::new(Rules { bucket_bits, epoch_seconds: 3600 }, [TABLE], 0);
    items.into_iter().for_each(|item| assert!(store.admit(*item).outcome.is_held()));
    store
}

/// A world in which the first node connects to the second only, and the second initiates nothing.
pub fn pair(initiator: Store, responder: Store, lie: Option<Lie>, random: Random) -> World<Node> {
    pair_of([initiator, responder], [false, false], lie, random)
}

/// The same; of each it is said whether it speaks the fast form.
pub fn pair_of(stores: [Store; 2], fast: [bool; 2], lie: Option<Lie>, mut random: Random) -> World<Node> {
    let [initiator, responder] = stores;
    let mut first = Node::new(initiator, None, &mut random);
    first.connect(1, vec![TABLE], Duration::ZERO);
    let mut second = Node::new(responder, lie, &mut random);
    [first.is_fast, second.is_fast] = fast;
    World::new(vec![first, second], steady(), random)
}

pub fn lacking(world: &World<Node>, items: &[Item]) -> usize {
    items.iter().filter(|item| !world.nodes[0].store.is_known(&TABLE, &item.id)).count()
}

/// Runs until the first node has ended so many sessions.
pub fn sessions(world: &mut World<Node>, count: usize) {
    while world.nodes[0].reports.len() < count {
        world.run_until(world.now + ROUND_TRIP / 4);
        assert!(world.now < Duration::from_secs(24 * 3600), "the session does not end");
    }
}

/// After a liar, an honest peer brings everything, and nothing invalid got in.
pub fn assert_nothing_is_hidden(world: &mut World<Node>, lie: Lie, all: &[Item]) {
    let now = world.now;
    world.nodes[0].connect(2, vec![TABLE], now);
    world.wake(0);
    world.run_until(now + Duration::from_secs(60));
    assert_eq!(lacking(world, all), 0, "{lie:?} hid entries");
    assert!(world.nodes[0].store.items().all(|item| item.valid));
}

pub fn print(what: &str, world: &World<Node>) -> Report {
    let mut total = Report::default();
    world.nodes[0].reports.iter().for_each(|(_, report)| total.merge(report));
    println!(
        "{what}: {} sessions, {} requests, {} buckets differing, {} seen, {} ids listed, {} fetched, {} missing, \
         {:.1} KB in {:.1} s, {:?}",
        world.nodes[0].reports.len(),
        total.requests,
        total.buckets_differing,
        total.buckets_seen,
        total.listed,
        total.fetched,
        total.missing,
        world.traffic.bytes as f64 / 1e3,
        world.now.as_secs_f64(),
        total.end,
    );
    total
}

#[test]
fn scattered_differences_cost_the_lists_of_their_buckets() {
    let mut random = Random::seeded("scattered differences", 3);
    let all = items(40_000, 1000, &mut random);
    let mut world = pair(store(12, &all[100..]), store(12, &all[..39_900]), None, random);
    sessions(&mut world, 1);
    let total = print("100 of 40,000 scattered", &world);
    assert_eq!(lacking(&world, &all[..39_900]), 0);
    // 100 ids are lacking here and 100 there; each makes at most one bucket of about ten ids differ.
    assert!(total.buckets_differing <= 200);
    assert_eq!(total.fetched, 100);
    assert_eq!(total.false_claims, 0);
    // One index, one page a bucket, one get: the wanted ids are gathered over the buckets.
    assert_eq!(total.requests, 1 + total.buckets_differing + 1);
    let index = 4096 * 24;
    assert!(world.traffic.bytes < index + 200 * (110 + 40 + 25 * 34) + 100 * (1012 + 34) + 1000);
    // Pages go WINDOW at a time.
    assert!(
        world.now < ROUND_TRIP * (total.requests.div_ceil(WINDOW as u64) as u32 + 5),
        "took {:?}",
        world.now
    );
}

#[test]
fn a_first_sync_pages_through_everything_and_keeps_the_window_full() {
    let mut random = Random::seeded("first sync", 4);
    let all = items(20_000, 4096, &mut random);
    let mut world = pair(store(2, []), store(2, &all), None, random);
    sessions(&mut world, 1);
    let total = print("20,000 of 4 KiB into an empty store", &world);
    assert_eq!(lacking(&world, &all), 0);
    assert_eq!((total.end, total.fetched, total.listed), (End::Complete, 20_000, 20_000));
    let pages = 4 * (5000_u64.div_ceil(2048) + 1);
    let gets = (20_000_u64 * 4096).div_ceil(1 << 20) + 20_000_u64.div_ceil(1024);
    assert!(total.requests <= 1 + pages + gets, "expected at most {}", 1 + pages + gets);
    assert!(world.now < ROUND_TRIP * (total.requests as u32 / 4 + 5), "took {:?}", world.now);
}

#[test]
fn one_bucket_for_all_works_too() {
    let mut random = Random::seeded("one bucket", 5);
    let all = items(10_000, 500, &mut random);
    let mut world = pair(store(0, &all[50..]), store(0, &all), None, random);
    sessions(&mut world, 1);
    let total = print("50 of 10,000 in one bucket", &world);
    assert_eq!(lacking(&world, &all), 0);
    assert_eq!(total.requests, 1 + 10_000_u64.div_ceil(2048) + 1);
}

#[test]
fn what_was_evicted_here_is_listed_once() {
    let mut random = Random::seeded("permanent differences", 6);
    let all = items(5000, 500, &mut random);
    let mut world = pair(store(12, &all), store(12, &all), None, random);
    all[..50].iter().for_each(|item| world.nodes[0].store.evict(item));
    sessions(&mut world, 5);
    print("50 of 5,000 evicted here", &world);
    let reports: Vec<&Report> = world.nodes[0].reports.iter().map(|(_, report)| report).collect();
    let differing = reports[0].buckets_differing;
    assert!((45..=50).contains(&differing));
    assert_eq!(world.nodes[0].seen.len() as u64, differing);
    for report in &reports {
        assert_eq!((report.fetched, report.end), (0, End::Complete));
        assert_eq!(report.verdict(), Verdict::Quiet);
    }
    for later in &reports[1..] {
        assert_eq!((later.listed, later.buckets_seen, later.requests), (0, differing, 1));
    }
}

/// Each liar has the node for itself for a day; then an honest peer with the same entries comes.
#[test]
fn no_lie_costs_much_or_hides_anything_from_an_honest_peer() {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    for lie in Lie::ALL.into_iter().filter(|lie| !lie.is_of_sketches()) {
        let mut random = Random::seeded("liar", 7);
        let all = items(3000, 500, &mut random);
        let mut world = pair(store(6, &all[1000..]), store(6, &all[..2000]), Some(lie), random);
        let honest = Node::new(store(6, &all), None, &mut world.random);
        world.add(honest);
        world.run_until(DAY);
        let total = print(&format!("{lie:?} for a day"), &world);
        let reports = &world.nodes[0].reports;
        if lie.is_provable() {
            assert_eq!(reports.len(), 1, "{lie:?} was not found out at once");
            assert_eq!(reports[0].1.verdict(), Verdict::Misbehaved);
        }
        assert!(total.missing <= MAX_UNSERVED * 20, "{lie:?}: {} ids were not served", total.missing);
        assert!(total.requests < 6000, "{lie:?}: {} requests", total.requests);
        assert!(world.traffic.bytes < 20_000_000, "{lie:?}: {} bytes", world.traffic.bytes);
        assert!(world.nodes[0].store.dropped.is_empty(), "{lie:?} had entries refused for good");

        assert_nothing_is_hidden(&mut world, lie, &all);
    }
}
