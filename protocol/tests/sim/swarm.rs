//! Many nodes: full and partial mirrors with different horizons, entries that come and go, and liars among them.

use std::{collections::BTreeSet, time::Duration};

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::{End, Report, Verdict},
};

use super::{
    liar::Lie,
    node::Node,
    random::Random,
    store::{Item, Rules, Store},
    world::{Link, World},
};

/// When the simulation begins, in unix seconds.
const UNIX: u64 = 1_800_000_000;
const RULES: Rules = Rules { bucket_bits: 8, epoch_seconds: 3600 };

/// What to simulate.
struct Plan {
    honest: usize,
    lies: Vec<Lie>,
    /// Peers that every node connects to, besides those that connect to it.
    links_each: usize,
    /// Entries of each table at the beginning.
    entries: usize,
    link: Link,
    /// How long entries are put and evicted.
    busy: Duration,
    /// Whether three of four nodes speak the faster form.
    fast: bool,
}

struct Swarm {
    world: World<Node>,
    tables: Vec<TableId>,
    honest: usize,
    /// Every valid entry that ever was.
    truth: Vec<Item>,
    /// What each node evicted.
    evicted: Vec<BTreeSet<EntryId>>,
    /// Entries and their bytes that the honest nodes got otherwise than from each other.
    given: (u64, u64),
}

impl Swarm {
    fn new(plan: &Plan, mut random: Random) -> Self {
        let tables: Vec<TableId> = (0..3).map(|_| TableId::from_bytes(random.bytes())).collect();
        let count = plan.honest + plan.lies.len();
        let mut nodes: Vec<Node> = (0..count)
            .map(|number| {
                let lie = number.checked_sub(plan.honest).map(|liar| plan.lies[liar]);
                // A third are partial mirrors; horizons are none, a day, or half a day.
                let skipped =
                    if lie.is_none() && number % 3 == 2 { Some(number % tables.len()) } else { None };
                let mirrored = tables.iter().enumerate().filter(|(table, _)| Some(*table) != skipped);
                let horizon = match number % 4 {
                    _ if lie.is_some() => 0,
                    2 => UNIX - 24 * 3600,
                    3 => UNIX - 12 * 3600 - 17,
                    _ => 0,
                };
                let store = Store::new(RULES, mirrored.map(|(_, table)| *table), horizon);
                let mut node = Node::new(store, lie, &mut random);
                node.is_fast = plan.fast && number % 4 != 3;
                node
            })
            .collect();
        let mut truth = Vec::new();
        for table in &tables {
            for _ in 0..plan.entries {
                let created = UNIX - random.range(0..48 * 3600);
                truth.push(Item::random(*table, created, random.range(400..6000), &mut random));
            }
        }
        for item in &truth {
            // Horizons and mirrors refuse some; liars are given everything.
            for node in &mut nodes {
                if item.created >= node.store.horizon && (node.lie.is_some() || random.chance(0.4)) {
                    node.store.admit(*item);
                }
            }
        }
        for node in 0..count {
            for _ in 0..plan.links_each {
                let peer = random.below(count);
                if peer == node {
                    continue;
                }
                let common: Vec<TableId> =
                    nodes[node].store.tables().filter(|table| nodes[peer].store.mirrors(table)).collect();
                let horizons = [nodes[node].store.horizon, nodes[peer].store.horizon];
                nodes[node].horizons.insert(peer, horizons[1]);
                nodes[peer].horizons.insert(node, horizons[0]);
                nodes[node].connect(peer, common.clone(), Duration::ZERO);
                nodes[peer].connect(node, common, Duration::ZERO);
            }
        }
        let world = World::new(nodes, plan.link.clone(), random);
        let evicted = vec![BTreeSet::new(); count];
        let mut swarm = Self { world, tables, honest: plan.honest, truth, evicted, given: (0, 0) };
        swarm.given = swarm.held();
        swarm
    }

    /// Puts two entries at some honest node, and evicts one from another.
    fn disturb(&mut self) {
        let unix = UNIX + self.world.now.as_secs();
        let random = &mut self.world.random;
        for _ in 0..2 {
            let table = self.tables[random.below(self.tables.len())];
            let item = Item::random(table, unix, random.range(400..6000), random);
            let node = &mut self.world.nodes[random.below(self.honest)];
            if node.store.mirrors(&table) {
                node.store.admit(item);
                self.truth.push(item);
                self.given = (self.given.0 + 1, self.given.1 + item.size);
            }
        }
        let number = random.below(self.honest);
        let node = &mut self.world.nodes[number];
        let victim = node.store.items().nth(random.below(node.store.items().count().max(1))).copied();
        if let Some(victim) = victim {
            node.store.evict(&victim);
            self.evicted[number].insert(victim.id);
        }
    }

    /// Entries that an honest node still lacks although an honest peer of its has them and both may.
    fn lacking(&self) -> usize {
        let mut lacking = 0;
        for node in &self.world.nodes[..self.honest] {
            for (peer, common) in node.peers.iter().filter(|(peer, _)| **peer < self.honest) {
                let peer = &self.world.nodes[*peer];
                let scope = RULES.round_up(node.store.horizon.max(peer.store.horizon));
                let may = |item: &&Item| common.contains(&item.table) && item.created >= scope;
                lacking += peer
                    .store
                    .items()
                    .filter(may)
                    .filter(|item| !node.store.is_known(&item.table, &item.id))
                    .count();
            }
        }
        lacking
    }

    /// Entries that the honest nodes hold or held, and their bytes.
    fn held(&self) -> (u64, u64) {
        let nodes = self.world.nodes[..self.honest].iter().zip(&self.evicted);
        let held = nodes.flat_map(|(node, evicted)| {
            node.store.items().chain(self.truth.iter().filter(|item| evicted.contains(&item.id)))
        });
        held.fold((0, 0), |(count, bytes), item| (count + 1, bytes + item.size))
    }

    /// Runs to convergence and says how long it took after the last disturbance.
    fn converge(&mut self, busy: Duration, patience: Duration) -> Duration {
        let step = Duration::from_secs(5);
        while self.world.now < busy {
            self.world.run_until(self.world.now + step);
            self.disturb();
        }
        while self.lacking() > 0 {
            let spent = self.world.now - busy;
            assert!(spent < patience, "{} entries are still lacking after {spent:?}", self.lacking());
            self.world.run_until(self.world.now + step);
        }
        self.world.now - busy
    }

    /// What must hold whatever the liars do.
    fn check(&self) {
        let truth: BTreeSet<_> = self.truth.iter().map(|item| item.id).collect();
        for (number, node) in self.world.nodes[..self.honest].iter().enumerate() {
            for item in node.store.items() {
                assert!(item.valid && truth.contains(&item.id), "an invented entry was stored");
            }
            let evicted = &self.evicted[number];
            let old = |id| self.truth.iter().any(|item| item.id == id && item.created < node.store.horizon);
            for id in &node.store.dropped {
                assert!(evicted.contains(id) || old(*id), "a liar had an honest entry refused for good");
            }
            for (peer, report) in &node.reports {
                match self.world.nodes[*peer].lie {
                    None => assert!(
                        !matches!(report.end, End::Misbehaved(_)),
                        "an honest peer was accused: {report:?}"
                    ),
                    // A spoiled copy of what came meanwhile from elsewhere is Known and not looked at.
                    Some(Lie::SpoiledSignatures) => {}
                    // What is said by sketches is not said by lists.
                    Some(_) if node.is_fast => {}
                    Some(lie) if lie.is_provable() => {
                        let caught = report.verdict() == Verdict::Misbehaved;
                        assert!(caught || report.fetched == 0, "{lie:?} was not caught: {report:?}");
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn print(&self, test: &str, time: Duration) -> Report {
        let mut total = Report::default();
        let mut sessions = 0;
        for (_, report) in self.world.nodes[..self.honest].iter().flat_map(|node| &node.reports) {
            total.merge(report);
            sessions += 1;
        }
        let traffic = self.world.traffic;
        println!(
            "{test}: {} entries, converged {} s after the last change; {sessions} sessions, {} requests, {} failed; \
             {} ids listed, {} fetched, {} missing; {} messages, {:.1} MB",
            self.truth.len(),
            time.as_secs(),
            total.requests,
            total.failures,
            total.listed,
            total.fetched,
            total.missing,
            traffic.messages,
            traffic.bytes as f64 / 1e6,
        );
        total
    }
}

fn rough() -> Link {
    Link { latency: 20..800, loss: 0.05, duplication: 0.05 }
}

#[test]
fn honest_nodes_converge_in_spite_of_loss_and_evictions() {
    let random = Random::seeded("honest swarm", 1);
    let busy = Duration::from_secs(120);
    let plan =
        Plan { honest: 12, lies: vec![], links_each: 3, entries: 300, link: rough(), busy, fast: false };
    let mut swarm = Swarm::new(&plan, random);
    let time = swarm.converge(plan.busy, Duration::from_secs(3600));
    swarm.check();
    let total = swarm.print("honest swarm", time);
    assert_eq!(total.refused, 0, "nothing is fetched that is beyond the horizon");

    // Sessions that run at the same time fetch some entries twice; more than twice on average would be a fault.
    let (held, held_bytes) = swarm.held();
    let (spread, spread_bytes) = (held - swarm.given.0, held_bytes - swarm.given.1);
    assert!(total.fetched <= 2 * spread, "{} fetched for {spread} that spread", total.fetched);
    let sessions: usize = swarm.world.nodes.iter().map(|node| node.reports.len()).sum();
    let overhead = sessions as u64 * 256 * 24 + total.listed * (34 + 34) * 2 + total.requests * 150;
    let traffic = swarm.world.traffic;
    assert!(traffic.bytes <= 2 * spread_bytes + 2 * overhead, "{} bytes", traffic.bytes);
    assert!(traffic.messages <= 2 * total.requests + 1000, "{} messages", traffic.messages);
}

#[test]
fn liars_do_not_keep_honest_nodes_from_converging() {
    let random = Random::seeded("swarm with liars", 2);
    let busy = Duration::from_secs(120);
    let lies = Lie::ALL.into_iter().filter(|lie| !lie.is_of_sketches()).collect();
    let plan = Plan { honest: 14, lies, links_each: 4, entries: 150, link: rough(), busy, fast: false };
    let mut swarm = Swarm::new(&plan, random);
    let time = swarm.converge(plan.busy, Duration::from_secs(4 * 3600));
    swarm.check();
    swarm.print("swarm with liars", time);
}

#[test]
fn a_mixed_swarm_converges_by_sketches_for_a_fraction_of_the_bytes() {
    let run = |fast| {
        let random = Random::seeded("mixed swarm", 9);
        let busy = Duration::from_secs(120);
        let plan = Plan { honest: 12, lies: vec![], links_each: 3, entries: 300, link: rough(), busy, fast };
        let mut swarm = Swarm::new(&plan, random);
        let time = swarm.converge(plan.busy, Duration::from_secs(3600));
        swarm.check();
        let total = swarm.print(if fast { "with sketches" } else { "plain" }, time);
        assert_eq!(total.refused, 0, "nothing is fetched that is beyond the horizon");
        let (held, held_bytes) = swarm.held();
        assert!(total.fetched <= 2 * (held - swarm.given.0));
        (total, swarm.world.traffic.bytes - (held_bytes - swarm.given.1).min(swarm.world.traffic.bytes))
    };
    let (plain, plain_bytes) = run(false);
    let (fast, fast_bytes) = run(true);
    assert!(fast.decoded > 0 && fast.proven);
    assert!(fast.listed < plain.listed / 2, "{} of {} ids were listed", fast.listed, plain.listed);
    assert!(fast_bytes < plain_bytes, "{fast_bytes} of {plain_bytes} bytes");
}

#[test]
fn liars_in_sketches_do_not_keep_honest_nodes_from_converging() {
    let random = Random::seeded("swarm with liars in sketches", 10);
    let busy = Duration::from_secs(120);
    let lies = Lie::ALL.to_vec();
    let plan = Plan { honest: 14, lies, links_each: 4, entries: 150, link: rough(), busy, fast: true };
    let mut swarm = Swarm::new(&plan, random);
    let time = swarm.converge(plan.busy, Duration::from_secs(4 * 3600));
    swarm.check();
    swarm.print("swarm with liars in sketches", time);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let busy = Duration::from_secs(20);
        let plan = Plan {
            honest: 5,
            lies: vec![Lie::InventedIds],
            links_each: 2,
            entries: 40,
            link: rough(),
            busy,
            fast: false,
        };
        let mut swarm = Swarm::new(&plan, Random::new(seed));
        let time = swarm.converge(plan.busy, Duration::from_secs(3600));
        (time, swarm.world.traffic)
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).1, run(8).1);
}
