//! Fan-out of announces over a mesh of 1,000 nodes: who gets an entry when, and how often it is sent.
//!
//! Each node does as SPEC 9 and the real relay do: an announce is held, the entry is got from whoever announced it, and
//! only then the announce is passed on to the mesh; one fetch in flight per entry, the next announcer after 10 seconds;
//! what came in during the last second is told to two peers beside the mesh; a round of reconciliation now and then.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use super::{
    random::Random,
    world::{Actor, Context, Link, World},
};

const NODES: usize = 1000;
/// Half of the mesh degree: each random ring through all nodes gives every node two neighbours.
const MESH_RINGS: usize = 3;
const OTHER_RINGS: usize = 3;
const ENTRIES: usize = 20;

const ENTRY_BYTES: u64 = 4096;
const FETCH_PATIENCE: Duration = Duration::from_secs(10);
const MAX_ASKED: usize = 4;
const HEARTBEAT: Duration = Duration::from_secs(1);
const GOSSIP_LAZY: usize = 2;
const SYNC_PERIOD_MS: u64 = 30_000;

type Id = usize;

#[derive(Clone)]
enum Message {
    Announce(Id),
    /// It could be announced.
    Have(Id),
    Want(Id),
    Get(Id),
    Entry(Id),
    /// An entry that reconciliation found to be lacking.
    Lacked(Id),
    /// What the sender lacks is to be sent: a round of reconciliation, as far as it matters here.
    Sync(BTreeSet<Id>),
}

/// What a node knows of an entry.
#[derive(Default)]
struct Fetch {
    announcers: VecDeque<usize>,
    asked: usize,
    /// When the one who is asked has had his time.
    deadline: Option<Duration>,
}

struct Node {
    mesh: Vec<usize>,
    others: Vec<usize>,
    fetches: BTreeMap<Id, Fetch>,
    stored: BTreeMap<Id, Duration>,
    /// An entry that somebody put here.
    put: Option<Id>,
    /// Stored since the last heartbeat, to be told beside the mesh.
    fresh: Vec<Id>,
    heartbeat: Duration,
    sync: Duration,
    /// Copies of entries that came, and announces of them.
    copies: u64,
    announces: u64,
    by_announce: u64,
}

impl Node {
    fn store(&mut self, id: Id, from: Option<usize>, context: &mut Context<'_, Message>) {
        if self.stored.insert(id, context.now).is_some() {
            return;
        }
        self.fetches.remove(&id);
        // What reconciliation brought is announced too while it is young, which it is here.
        self.fresh.push(id);
        for peer in self.mesh.iter().filter(|peer| Some(**peer) != from) {
            context.send(*peer, Message::Announce(id));
        }
    }

    /// Asks the next announcer, if nobody is being asked.
    fn ask(&mut self, id: Id, context: &mut Context<'_, Message>) {
        let Some(fetch) = self.fetches.get_mut(&id) else { return };
        if fetch.deadline.is_some_and(|deadline| deadline > context.now) || fetch.asked == MAX_ASKED {
            return;
        }
        if let Some(peer) = fetch.announcers.pop_front() {
            fetch.asked += 1;
            let deadline = context.now + FETCH_PATIENCE;
            fetch.deadline = Some(deadline);
            context.send(peer, Message::Get(id));
            context.wake_at(deadline);
        }
    }
}

impl Actor for Node {
    type Message = Message;

    fn size(message: &Message) -> u64 {
        match message {
            Message::Announce(_) | Message::Get(_) => 100,
            Message::Have(_) | Message::Want(_) => 30,
            Message::Entry(_) | Message::Lacked(_) => ENTRY_BYTES,
            Message::Sync(_) => 400,
        }
    }

    fn receive(&mut self, from: usize, message: Message, context: &mut Context<'_, Message>) {
        match message {
            Message::Announce(id) => {
                self.announces += 1;
                if !self.stored.contains_key(&id) {
                    self.fetches.entry(id).or_default().announcers.push_back(from);
                    self.ask(id, context);
                }
            }
            Message::Have(id) if !self.stored.contains_key(&id) && !self.fetches.contains_key(&id) => {
                context.send(from, Message::Want(id));
            }
            Message::Want(id) => context.send(from, Message::Announce(id)),
            Message::Get(id) if self.stored.contains_key(&id) => context.send(from, Message::Entry(id)),
            Message::Entry(id) => {
                self.copies += 1;
                self.by_announce += u64::from(!self.stored.contains_key(&id));
                self.store(id, Some(from), context);
            }
            Message::Lacked(id) => {
                self.copies += 1;
                self.store(id, Some(from), context);
            }
            Message::Sync(theirs) => {
                for id in self.stored.keys().filter(|id| !theirs.contains(id)) {
                    context.send(from, Message::Lacked(*id));
                }
            }
            _ => {}
        }
    }

    fn wake(&mut self, context: &mut Context<'_, Message>) {
        let now = context.now;
        if let Some(id) = self.put.take() {
            self.store(id, None, context);
        }
        let late = self.fetches.iter().filter(|(_, fetch)| fetch.deadline.is_some_and(|at| at <= now));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.ask(id, context);
        }
        if self.heartbeat <= now {
            for id in std::mem::take(&mut self.fresh) {
                for _ in 0..GOSSIP_LAZY {
                    let peer = self.others[context.random.below(self.others.len())];
                    context.send(peer, Message::Have(id));
                }
            }
            self.heartbeat += HEARTBEAT;
        }
        if self.sync <= now {
            let peer = self.mesh[context.random.below(self.mesh.len())];
            context.send(peer, Message::Sync(self.stored.keys().copied().collect()));
            let pause = context.random.range(SYNC_PERIOD_MS / 2..SYNC_PERIOD_MS * 3 / 2);
            self.sync = now + Duration::from_millis(pause);
        }
        let deadlines = self.fetches.values().filter_map(|fetch| fetch.deadline).filter(|at| *at > now);
        let next = deadlines.chain([self.heartbeat, self.sync]).min();
        next.into_iter().for_each(|at| context.wake_at(at));
    }
}

/// Rings through all nodes, each in another random order.
fn rings(count: usize, random: &mut Random) -> Vec<Vec<usize>> {
    let mut neighbours = vec![BTreeSet::new(); NODES];
    for _ in 0..count {
        let mut order: Vec<usize> = (0..NODES).collect();
        for place in (1..NODES).rev() {
            order.swap(place, random.below(place + 1));
        }
        for (place, node) in order.iter().enumerate() {
            let next = order[(place + 1) % NODES];
            neighbours[*node].insert(next);
            neighbours[next].insert(*node);
        }
    }
    neighbours.into_iter().map(|peers| peers.into_iter().collect()).collect()
}

#[derive(Debug, PartialEq)]
struct Spread {
    copies: f64,
    announces: f64,
    /// Of all nodes, by announces alone and in all.
    announced: f64,
    covered: f64,
    /// Seconds until half, 99 of 100 and all of the nodes that have it had it.
    times: [f64; 3],
    bytes_per_node: f64,
}

fn spread(loss: f64, mut random: Random) -> Spread {
    let mesh = rings(MESH_RINGS, &mut random);
    let others = rings(OTHER_RINGS, &mut random);
    let nodes = mesh.into_iter().zip(others).map(|(mesh, others)| Node {
        mesh,
        others,
        fetches: BTreeMap::new(),
        stored: BTreeMap::new(),
        put: None,
        fresh: Vec::new(),
        heartbeat: Duration::from_millis(random.range(0..1000)),
        sync: Duration::from_millis(random.range(0..SYNC_PERIOD_MS)),
        copies: 0,
        announces: 0,
        by_announce: 0,
    });
    let nodes = nodes.collect();
    let link = Link { latency: 30..150, loss, duplication: 0.0 };
    let mut world = World::new(nodes, link, random);
    let mut origins = Vec::new();
    for id in 0..ENTRIES {
        let origin = world.random.below(NODES);
        origins.push(world.now);
        world.nodes[origin].put = Some(id);
        world.wake(origin);
        world.run_until(world.now + Duration::from_secs(2));
    }
    world.run_until(world.now + Duration::from_secs(180));
    let fanned_out = ((NODES - 1) * ENTRIES) as f64;
    let sum = |count: fn(&Node) -> u64| world.nodes.iter().map(count).sum::<u64>() as f64;
    let mut times: Vec<f64> = world
        .nodes
        .iter()
        .flat_map(|node| node.stored.iter().map(|(id, at)| (*at - origins[*id]).as_secs_f64()))
        .collect();
    times.sort_by(f64::total_cmp);
    let held = (times.len() - ENTRIES) as f64;
    Spread {
        copies: sum(|node| node.copies) / held,
        announces: sum(|node| node.announces) / held,
        announced: sum(|node| node.by_announce) / fanned_out,
        covered: held / fanned_out,
        times: [times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]],
        bytes_per_node: world.traffic.bytes as f64 / held,
    }
}

#[test]
fn each_of_a_thousand_nodes_gets_an_entry_once() {
    let spread = spread(0.0, Random::seeded("announce", 31));
    println!("announce, no loss: {spread:.3?}");
    assert_eq!(spread.covered, 1.0);
    assert!(spread.announced > 0.99, "reconciliation has next to nothing to do");
    assert!(spread.copies < 1.02, "one copy each");
    assert!(spread.announces < 5.6, "each neighbour but the one that it came from, and few beside the mesh");
    assert!(spread.times[1] < 2.0, "99 of 100 have it within two seconds");
}

#[test]
fn lost_messages_cost_time_and_no_copies() {
    let spread = spread(0.2, Random::seeded("announce with loss", 32));
    println!("announce, 20 % loss: {spread:.3?}");
    assert_eq!(spread.covered, 1.0);
    // A fetch needs two messages to arrive, and has another try after ten seconds: reconciliation is sometimes first.
    assert!(spread.announced > 0.85);
    assert!(spread.copies < 1.1);
    assert!(spread.times[0] < 3.0 && spread.times[1] < 60.0);
}

#[test]
fn the_same_seed_spreads_the_same() {
    assert_eq!(spread(0.1, Random::new(7)), spread(0.1, Random::new(7)));
}
