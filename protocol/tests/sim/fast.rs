//! The faster form: what it costs, that it finds everything, and that liars gain nothing by it.

use std::time::Duration;

use p2pdb_protocol::{
    id::TableId,
    reconcile::{Cut, End, MAX_UNSERVED, Report, Verdict},
};
use proptest::prelude::*;

use super::{
    liar::Lie,
    node::Node,
    pairs::{assert_nothing_is_hidden, items, lacking, pair_of, print, sessions, steady, store},
    random::Random,
    store::{Item, Rules, Store},
    world::{Traffic, World},
};

fn fast_pair(initiator: Store, responder: Store, lie: Option<Lie>, random: Random) -> World<Node> {
    pair_of([initiator, responder], [true, true], lie, random)
}

fn reports(world: &World<Node>) -> Vec<&Report> {
    world.nodes[0].reports.iter().map(|(_, report)| report).collect()
}

/// What the sessions cost from now on up to a number of them; the first question was sent when the world was made.
fn cost(world: &mut World<Node>, count: usize) -> Traffic {
    let before = if count == 1 { Traffic::default() } else { world.traffic };
    sessions(world, count);
    let Traffic { messages, bytes, .. } = world.traffic;
    Traffic { messages: messages - before.messages, bytes: bytes - before.bytes, ..before }
}

/// Entries of which the bytes are counted apart.
const SIZE: u64 = 500;

fn entry_bytes(report: &Report) -> u64 {
    // With its arrival number, and the sid that asked for it.
    report.fetched * (SIZE + 12 + 8)
}

#[test]
fn an_idle_sync_is_one_short_question_whatever_the_tables() {
    let mut random = Random::seeded("idle", 20);
    let all = items(2000, SIZE, &mut random);
    let mut world = fast_pair(store(12, &all), store(12, &all), None, random);
    let cost = cost(&mut world, 1);
    assert_eq!((cost.messages, reports(&world)[0].verdict()), (2, Verdict::Quiet));
    assert!(cost.bytes <= 150, "{} bytes", cost.bytes);

    let mut random = Random::seeded("idle with many tables", 21);
    let tables: Vec<TableId> = (0..100).map(|_| TableId::from_bytes(random.bytes())).collect();
    let mut mirror = Store::new(Rules { bucket_bits: 12, epoch_seconds: 3600 }, tables.clone(), 0);
    for table in tables.iter().skip(5) {
        (0..3).for_each(|_| {
            assert!(mirror.admit(Item::random(*table, 1, SIZE, &mut random)).outcome.is_held())
        });
    }
    let mut nodes = [0, 1].map(|_| Node::new(mirror.clone(), None, &mut random));
    nodes.iter_mut().for_each(|node| node.is_fast = true);
    nodes[0].connect(1, tables.clone(), Duration::ZERO);
    nodes[1].peers.insert(0, tables);
    let mut world = World::new(nodes.into(), steady(), random);
    world.run_until(Duration::from_secs(2));
    assert_eq!((world.traffic.messages, reports(&world).len()), (2, 1));
    assert!(world.traffic.bytes <= 150, "{} bytes", world.traffic.bytes);
}

#[test]
fn fifteen_differences_take_one_question_and_a_get() {
    let mut random = Random::seeded("few differences", 22);
    let all = items(2015, SIZE, &mut random);
    let mut world = fast_pair(store(12, &all[10..]), store(12, &all[..2010]), None, random);
    let cost = cost(&mut world, 1);
    let report = print("10 and 5 of 2,015 differ", &world);
    assert_eq!(lacking(&world, &all[..2010]), 0);
    assert_eq!((report.decoded, report.fetched, report.proven, report.requests), (15, 10, true, 1));
    assert_eq!(cost.messages, 4);
    let question = cost.bytes - entry_bytes(&report) - 100;
    assert!(question <= 400, "{question} bytes");
}

#[test]
fn scattered_differences_cost_some_bytes_each() {
    for (differences, most_each, seed) in [(30, 40, 23), (100, 22, 24), (1000, 18, 25)] {
        let mut random = Random::seeded("scattered", seed);
        let all = items(4000, SIZE, &mut random);
        let half = differences / 2;
        let mut world = fast_pair(store(12, &all[half..]), store(12, &all[..4000 - half]), None, random);
        let cost = cost(&mut world, 1);
        let report = print(&format!("{differences} of 4,000 scattered"), &world);
        assert_eq!(lacking(&world, &all[..4000 - half]), 0);
        assert_eq!((report.decoded, report.fetched), (differences as u64, half as u64));
        assert!(report.proven && report.listed == 0 && report.buckets_compared == 0);
        let question = cost.bytes - entry_bytes(&report) - 400;
        assert!(question <= most_each * differences as u64, "{question} bytes for {differences}");
        assert!(report.requests <= 6, "{} requests", report.requests);
    }
}

#[test]
fn permanent_differences_keep_an_idle_sync_short() {
    let mut random = Random::seeded("permanent", 26);
    let all = items(3000, SIZE, &mut random);
    // 200 that are not wanted here, and 300 that the peer does not ask for.
    let mut own = store(12, &all);
    all[..200].iter().for_each(|item| own.evict(item));
    let mut world = fast_pair(own, store(12, &all[..2700]), None, random);
    sessions(&mut world, 1);
    assert!(reports(&world)[0].proven);
    assert_eq!((reports(&world)[0].decoded, world.nodes[0].residuals.ids()), (500, 500));
    for round in 2..6 {
        let cost = cost(&mut world, round);
        assert_eq!(cost.messages, 2);
        assert!(cost.bytes <= 150, "{} bytes", cost.bytes);
    }
    // Something new at the peer, something that it took, something that it dropped: all in one step.
    let mut other = world.random.clone();
    items(5, SIZE, &mut other)
        .into_iter()
        .for_each(|item| assert!(world.nodes[1].store.admit(item).outcome.is_held()));
    all[2700..2705].iter().for_each(|item| assert!(world.nodes[1].store.admit(*item).outcome.is_held()));
    all[..3].iter().for_each(|item| world.nodes[1].store.evict(item));
    sessions(&mut world, 6);
    let last = reports(&world)[5];
    assert_eq!((last.decoded, last.fetched, last.proven, last.listed), (13, 5, true, 0));
    assert_eq!(world.nodes[0].residuals.ids(), 500 - 5 - 3);
    assert!(cost(&mut world, 7).bytes <= 150);
    // The peer took all that it lacked.
    all[2700..].iter().for_each(|item| assert!(world.nodes[1].store.admit(*item).outcome.is_held()));
    all[..200].iter().for_each(|item| world.nodes[1].store.evict(item));
    assert!(cost(&mut world, 8).bytes <= 150);
    assert_eq!(world.nodes[0].residuals.ids(), 0, "what is equal has no residual");
}

#[test]
fn a_first_sync_pages_and_then_compares() {
    let mut random = Random::seeded("first sync by pages", 27);
    let all = items(6000, 1000, &mut random);
    let mut world = fast_pair(store(12, &all[..100]), store(12, &all), None, random);
    sessions(&mut world, 2);
    let total = print("5,900 of 6,000 by pages", &world);
    assert_eq!(lacking(&world, &all), 0);
    assert_eq!((reports(&world)[0].end, total.fetched, total.listed), (End::Cut(Cut::Paged), 5900, 0));
    assert_eq!(reports(&world)[0].requests, 6, "pages of a thousand");
    assert_eq!(reports(&world)[1].verdict(), Verdict::Quiet);
}

#[test]
fn what_does_not_stay_is_not_paged_again_and_again() {
    let mut random = Random::seeded("nothing stays", 28);
    let all = items(2000, SIZE, &mut random);
    let mut own = store(6, &all);
    all[..1900].iter().for_each(|item| own.evict(item));
    let mut world = fast_pair(own, store(6, &all), None, random);
    sessions(&mut world, 5);
    let ends: Vec<End> = reports(&world).iter().map(|report| report.end).collect();
    assert_eq!(ends[0], End::Cut(Cut::Paged));
    assert_eq!(ends[1..], [End::Complete; 4]);
}

#[test]
fn who_does_not_speak_it_is_served_by_lists() {
    let mut random = Random::seeded("plain peer", 29);
    let all = items(1000, SIZE, &mut random);
    let stores = [store(6, &all[30..]), store(6, &all)];
    let mut world = pair_of(stores, [true, false], None, random);
    sessions(&mut world, 1);
    assert_eq!(lacking(&world, &all), 0);
    assert_eq!((reports(&world)[0].fetched, reports(&world)[0].end), (30, End::Complete));
}

/// Each liar has the node for itself for hours; then an honest peer with the same entries comes.
#[test]
fn no_lie_in_sketches_costs_much_or_hides_anything_from_an_honest_peer() {
    const HOURS: Duration = Duration::from_secs(6 * 3600);
    for lie in Lie::ALL {
        for own in [300, 900] {
            let mut random = Random::seeded("liar in sketches", 30);
            let all = items(1000, SIZE, &mut random);
            let mut world = fast_pair(store(6, &all[own..]), store(6, &all[..700]), Some(lie), random);
            let mut honest = Node::new(store(6, &all), None, &mut world.random);
            honest.is_fast = true;
            world.add(honest);
            world.run_until(HOURS);
            let total = print(&format!("{lie:?} for hours against {own}"), &world);
            if lie == Lie::ShortSketches && own == 300 {
                assert_eq!(reports(&world)[0].verdict(), Verdict::Misbehaved);
            }
            assert!(total.missing <= MAX_UNSERVED * 20, "{lie:?}: {} ids were not served", total.missing);
            assert!(total.requests < 10_000, "{lie:?}: {} requests", total.requests);
            assert!(world.traffic.bytes < 30_000_000, "{lie:?}: {} bytes", world.traffic.bytes);
            assert!(world.nodes[0].store.dropped.is_empty(), "{lie:?} had entries refused for good");

            assert_nothing_is_hidden(&mut world, lie, &all);
        }
    }
}

/// What plays a part in one random pair.
#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    tables: usize,
    count: usize,
    held: [f64; 2],
    evicted: f64,
    horizons: [u64; 2],
    busy: bool,
}

fn case() -> impl Strategy<Value = Case> {
    let share = prop_oneof![Just(0.0), Just(0.5), Just(0.97), Just(1.0)];
    let horizon = prop_oneof![Just(0_u64), 0_u64..900_000];
    let evicted = prop_oneof![Just(0.0), Just(0.02), Just(0.3)];
    (
        any::<u64>(),
        1_usize..4,
        0_usize..700,
        [share.clone(), share],
        evicted,
        [horizon.clone(), horizon],
        any::<bool>(),
    )
        .prop_map(|(seed, tables, count, held, evicted, horizons, busy)| Case {
            seed,
            tables,
            count,
            held,
            evicted,
            horizons,
            busy,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Both reconcile with each other, with tables, horizons and evictions of their own: soon each knows what the other has and
    /// it may hold, and from then on the rounds are short.
    #[test]
    fn honest_pairs_become_level(case in case()) {
        let mut random = Random::new(case.seed);
        let rules = Rules { bucket_bits: 8, epoch_seconds: 3600 };
        let tables: Vec<TableId> = (0..case.tables).map(|_| TableId::from_bytes(random.bytes())).collect();
        let mut stores = case.horizons.map(|horizon| Store::new(rules, tables.clone(), horizon));
        let made = |random: &mut Random| {
            Item::random(tables[random.below(tables.len())], random.range(1..1_000_000), 800, random)
        };
        for _ in 0..case.count {
            let item = made(&mut random);
            for (store, share) in stores.iter_mut().zip(case.held) {
                if item.created >= store.horizon && random.chance(share) {
                    store.admit(item);
                    if random.chance(case.evicted) {
                        store.evict(&item);
                    }
                }
            }
        }
        let mut nodes = stores.map(|store| Node::new(store, None, &mut random));
        for (me, peer) in [(0, 1), (1, 0)] {
            nodes[me].is_fast = true;
            nodes[me].horizons.insert(peer, case.horizons[peer]);
            nodes[me].connect(peer, tables.clone(), Duration::ZERO);
        }
        let mut world = World::new(nodes.into(), steady(), random);
        let scope = rules.round_up(case.horizons[0].max(case.horizons[1]));
        let mut changes = if case.busy { 12 } else { 0 };
        let minutes = 20;
        for _ in 0..minutes * 6 {
            world.run_until(world.now + Duration::from_secs(10));
            if changes > 0 {
                changes -= 1;
                // Something new, and something dropped, while sessions run.
                let item = made(&mut world.random);
                let node = &mut world.nodes[changes % 2];
                if item.created >= node.store.horizon {
                    node.store.admit(item);
                }
                let victim = node.store.items().nth(changes).copied();
                victim.iter().for_each(|item| node.store.evict(item));
            }
        }
        // What was evicted while it was fetched counts against a peer, which is then avoided for a while.
        world.run_until(world.now + Duration::from_secs(3 * 3600));
        for (me, peer) in [(0, 1), (1, 0)] {
            let unknown = world.nodes[peer].store.items().filter(|item| {
                item.created >= scope && !world.nodes[me].store.is_known(&item.table, &item.id)
            });
            prop_assert_eq!(unknown.count(), 0, "node {} lacks entries", me);
            for (_, report) in &world.nodes[me].reports {
                prop_assert!(!matches!(report.end, End::Misbehaved(_)), "an honest peer was accused: {:?}", report);
                prop_assert_eq!((report.false_claims, report.refused), (0, 0));
            }
        }
        let before = world.traffic;
        world.run_until(world.now + Duration::from_secs(120));
        let (messages, bytes) = (world.traffic.messages - before.messages, world.traffic.bytes - before.bytes);
        prop_assert!(bytes <= 200 * messages, "{} bytes in {} idle messages", bytes, messages);
    }
}
