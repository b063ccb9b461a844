//! What gossip takes of peers. All that it takes it remembers for minutes, of topics that nobody here cares for as well: what is of
//! no use, and what is too much, must not reach it.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{
    PeerId,
    gossipsub::{
        self, DataTransform, IdentityTransform, MaxCountSubscriptionFilter, RawMessage, TopicHash,
        TopicSubscriptionFilter,
    },
};
use p2pdb_protocol::{id::TableId, message::announce, network::Network};

use crate::swarm::ip_limits::Origin;

/// Gossip behind its guards.
pub(crate) type Gossipsub = gossipsub::Behaviour<Guard, MaxCountSubscriptionFilter<Topics>>;

/// Topics that a node takes part in: more are not remembered of a peer (SPEC 9.1).
pub(super) const MAX_TOPICS: usize = 1024;
/// Bytes of a message: who sends some more than an announce may have is blamed when it is decoded.
const MAX_BYTES: usize = 2 * announce::MAX_BYTES;
/// Messages that are taken from one [`Guard::renew`] to the next. What gossip remembers of each, for two minutes at most, are
/// some hundred bytes.
const MAX_MESSAGES: usize = 8192;
/// For so many times of [`Guard::renew`] what was taken is remembered: each five seconds, for a minute as gossip does.
const REMEMBERED: u64 = 13;
/// Whoever sends the most when there are too many is to blame, if it is more than this part.
const TOO_MANY: usize = MAX_MESSAGES / 8;

/// Takes messages of topics that this node takes part in, as many and as long as may be. Clones share what they know.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guard(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    joined: HashSet<TopicHash>,
    /// What gossip remembers, and when it was taken: a copy of it is nothing new, and takes no place.
    taken: HashMap<[u8; 20], u64>,
    /// How many of these since the last [`Guard::renew`], of which there were so many.
    fresh: usize,
    renewed: u64,
    is_full: bool,
}

impl Guard {
    pub(super) fn join(&self, topic: TopicHash) {
        self.lock().joined.insert(topic);
    }

    pub(super) fn leave(&self, topic: &TopicHash) {
        self.lock().joined.remove(topic);
    }

    /// Topics that this node takes part in.
    pub(super) fn joined(&self) -> usize {
        self.lock().joined.len()
    }

    pub(super) fn has_joined(&self, topic: &TopicHash) -> bool {
        self.lock().joined.contains(topic)
    }

    /// Begins to count anew, and says whether there were too many messages.
    pub(super) fn renew(&self) -> bool {
        let mut inner = self.lock();
        inner.fresh = 0;
        inner.renewed += 1;
        let renewed = inner.renewed;
        inner.taken.retain(|_, taken| renewed - *taken < REMEMBERED);
        std::mem::take(&mut inner.is_full)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DataTransform for Guard {
    fn inbound_transform(&self, message: RawMessage) -> io::Result<gossipsub::Message> {
        let mut inner = self.lock();
        if !inner.joined.contains(&message.topic) {
            return Err(io::Error::other("this node does not take part in the topic"));
        }
        if message.data.len() > MAX_BYTES {
            return Err(io::Error::other("far longer than any announce"));
        }
        let id = announce::message_id(message.topic.as_str(), &message.data);
        if !inner.taken.contains_key(&id) {
            if inner.fresh >= MAX_MESSAGES {
                inner.is_full = true;
                return Err(io::Error::other("too many messages"));
            }
            let renewed = inner.renewed;
            inner.taken.insert(id, renewed);
            inner.fresh += 1;
        }
        drop(inner);
        IdentityTransform.inbound_transform(message)
    }

    fn outbound_transform(&self, topic: &TopicHash, data: Vec<u8>) -> io::Result<Vec<u8>> {
        IdentityTransform.outbound_transform(topic, data)
    }
}

/// What a peer told since the last time.
pub(super) struct Told {
    pub(super) peer: PeerId,
    pub(super) origin: Option<Origin>,
    pub(super) messages: usize,
}

/// Who is to blame if there were too many messages: of the address that the most came from, those who sent no less than the
/// others there. It may have had several peers share the work.
pub(super) fn to_blame(told: impl IntoIterator<Item = Told>) -> Vec<PeerId> {
    let mut by_origin: HashMap<Result<Origin, PeerId>, Vec<Told>> = HashMap::new();
    for told in told {
        let origin = told.origin.filter(|origin| !origin.is_loopback()).ok_or(told.peer);
        by_origin.entry(origin).or_default().push(told);
    }
    let sum = |told: &Vec<Told>| told.iter().map(|told| told.messages).sum::<usize>();
    let most =
        by_origin.into_values().max_by_key(sum).filter(|told| sum(told) > TOO_MANY).unwrap_or_default();
    let share = sum(&most) / most.len().max(1);
    most.into_iter().filter(|told| told.messages >= share).map(|told| told.peer).collect()
}

/// Knows the network's topics: those that it knows of are remembered of each peer.
#[derive(Debug)]
pub(crate) struct Topics(Network);

impl Topics {
    /// The topics of a network, of which at most [`MAX_TOPICS`] are remembered of a peer.
    pub(crate) const fn limited(network: Network) -> MaxCountSubscriptionFilter<Self> {
        MaxCountSubscriptionFilter {
            filter: Self(network),
            max_subscribed_topics: MAX_TOPICS,
            max_subscriptions_per_request: MAX_TOPICS,
        }
    }
}

impl TopicSubscriptionFilter for Topics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        let name = topic.as_str();
        let table = name.rsplit('/').next().and_then(|table| table.parse::<TableId>().ok());
        match table {
            Some(table) => name == announce::topic(&self.0, &table),
            None => name == announce::new_tables_topic(&self.0),
        }
    }
}

#[cfg(test)]
mod tests;
