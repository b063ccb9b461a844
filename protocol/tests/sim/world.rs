//! A network in virtual time: nodes exchange messages over links that lose, delay, reorder and repeat them.
//!
//! It knows nothing of what the messages mean, and everything follows from the seed.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use super::random::Random;

/// A node of the simulated network.
pub trait Actor {
    /// What nodes send each other.
    type Message: Clone;

    /// The length of a message on the wire, in bytes.
    fn size(message: &Self::Message) -> u64;

    /// A message came.
    fn receive(&mut self, from: usize, message: Self::Message, context: &mut Context<'_, Self::Message>);

    /// A time has come that was asked for with [`Context::wake_at`]; it may also come for no reason.
    fn wake(&mut self, context: &mut Context<'_, Self::Message>);
}

/// What an actor may do while it handles something.
pub struct Context<'a, M> {
    pub now: Duration,
    pub random: &'a mut Random,
    sent: Vec<(usize, M)>,
    wake_at: Option<Duration>,
}

impl<M> Context<'_, M> {
    pub fn send(&mut self, to: usize, message: M) {
        self.sent.push((to, message));
    }

    /// The earliest of the times asked for counts.
    pub fn wake_at(&mut self, at: Duration) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// How all links behave.
#[derive(Clone)]
pub struct Link {
    /// In milliseconds.
    pub latency: Range<u64>,
    /// Probability that a message is lost.
    pub loss: f64,
    /// Probability that a message comes twice.
    pub duplication: f64,
}

/// What went over the links.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub messages: u64,
    pub bytes: u64,
    pub lost: u64,
    pub repeated: u64,
}

pub struct World<A: Actor> {
    pub nodes: Vec<A>,
    pub now: Duration,
    pub random: Random,
    pub traffic: Traffic,
    link: Link,
    queue: BTreeMap<(Duration, u64), Happening<A::Message>>,
    /// For each node the earliest wake in the queue.
    wakes: Vec<Option<Duration>>,
    sequence: u64,
}

enum Happening<M> {
    Deliver { from: usize, to: usize, message: M },
    Wake { node: usize },
}

impl<A: Actor> World<A> {
    pub fn new(nodes: Vec<A>, link: Link, random: Random) -> Self {
        let mut world = Self {
            wakes: vec![None; nodes.len()],
            nodes,
            now: Duration::ZERO,
            random,
            traffic: Traffic::default(),
            link,
            queue: BTreeMap::new(),
            sequence: 0,
        };
        (0..world.nodes.len()).for_each(|node| world.wake(node));
        world
    }

    /// Adds a node; it is woken first when something concerns it.
    pub fn add(&mut self, node: A) {
        self.nodes.push(node);
        self.wakes.push(None);
    }

    /// Wakes a node now, say because it was changed from outside.
    pub fn wake(&mut self, node: usize) {
        self.act(node, |actor, context| actor.wake(context));
    }

    /// Lets everything happen up to a time.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(next) = self.queue.first_entry() {
            let at = next.key().0;
            if at > end {
                break;
            }
            self.now = at;
            match next.remove() {
                Happening::Deliver { from, to, message } => {
                    self.act(to, |actor, context| actor.receive(from, message, context));
                }
                Happening::Wake { node } => {
                    if self.wakes[node] == Some(at) {
                        self.wakes[node] = None;
                    }
                    self.wake(node);
                }
            }
        }
        self.now = end;
    }

    fn act(&mut self, me: usize, action: impl FnOnce(&mut A, &mut Context<'_, A::Message>)) {
        let mut context =
            Context { now: self.now, random: &mut self.random, sent: Vec::new(), wake_at: None };
        action(&mut self.nodes[me], &mut context);
        let Context { sent, wake_at, .. } = context;
        for (to, message) in sent {
            self.transmit(me, to, message);
        }
        let Some(at) = wake_at.map(|at| at.max(self.now)) else { return };
        if self.wakes[me].is_none_or(|pending| at < pending) {
            self.wakes[me] = Some(at);
            self.push(at, Happening::Wake { node: me });
        }
    }

    fn transmit(&mut self, from: usize, to: usize, message: A::Message) {
        self.traffic.messages += 1;
        self.traffic.bytes += A::size(&message);
        if self.random.chance(self.link.loss) {
            self.traffic.lost += 1;
            return;
        }
        if self.random.chance(self.link.duplication) {
            self.traffic.repeated += 1;
            self.deliver_later(from, to, message.clone());
        }
        self.deliver_later(from, to, message);
    }

    fn deliver_later(&mut self, from: usize, to: usize, message: A::Message) {
        let latency = self.random.range(self.link.latency.clone());
        let at = self.now + Duration::from_millis(latency);
        self.push(at, Happening::Deliver { from, to, message });
    }

    fn push(&mut self, at: Duration, happening: Happening<A::Message>) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }
}
