//! The gossip side of the event loop (SPEC 9).

pub(super) mod guard;

use libp2p::{
    PeerId,
    gossipsub::{self, IdentTopic, MessageAcceptance, MessageId},
};
use p2pdb_protocol::{
    codec::lenient,
    id::TableId,
    message::announce::{self, Announce, NewTables},
    network::Network,
};

use self::guard::Told;
use crate::swarm::{Conduct, event_loop::EventLoop, ip_limits::Origin, share::Share};

/// Something that gossip is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// The fresh entries of a table.
    Entries(TableId),
    /// Tables that are new to somebody.
    NewTables,
}

impl Topic {
    pub(super) fn name(&self, network: &Network) -> IdentTopic {
        IdentTopic::new(match self {
            Topic::Entries(table) => announce::topic(network, table),
            Topic::NewTables => announce::new_tables_topic(network),
        })
    }
}

/// What gossip says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A table has fresh entries.
    Entries {
        /// The table.
        table: TableId,
        /// The ids of the entries.
        ids: Announce,
    },
    /// Somebody has entries of tables that were new to him.
    NewTables(NewTables),
}

impl News {
    /// The topic that this is said in.
    #[must_use]
    pub const fn topic(&self) -> Topic {
        match self {
            News::Entries { table, .. } => Topic::Entries(*table),
            News::NewTables(_) => Topic::NewTables,
        }
    }

    fn decode(topic: Topic, data: &[u8]) -> Result<Self, lenient::Error> {
        Ok(match topic {
            Topic::Entries(table) => News::Entries { table, ids: announce::decode(data)? },
            Topic::NewTables => News::NewTables(announce::decode_new_tables(data)?),
        })
    }

    fn encode(&self) -> Result<Vec<u8>, lenient::Error> {
        match self {
            News::Entries { ids, .. } => lenient::to_vec(ids),
            News::NewTables(tables) => lenient::to_vec(tables),
        }
    }
}

/// An announce that waits for its entries to be fetched and verified (SPEC 9.2, 9.3).
#[derive(Debug)]
pub struct Announced {
    /// Who forwarded it, and can serve the entries.
    pub source: PeerId,
    /// Where that peer is, if it is known by its IP address.
    pub origin: Option<Origin>,
    /// What it says.
    pub news: News,
    /// What [`Handle::judge`](crate::swarm::Handle::judge) wants back.
    pub message_id: MessageId,
    /// Its place among those of the same peer.
    pub(super) _share: Share,
}

impl EventLoop {
    pub(super) fn on_gossip(&mut self, source: PeerId, id: MessageId, message: &gossipsub::Message) {
        if let Some(peer) = self.peers.get_mut(&source) {
            peer.told = peer.told.saturating_add(1);
        }
        let Some((topic, _)) = self.topics.get(&message.topic) else {
            return self.judge(&id, &source, MessageAcceptance::Ignore);
        };
        let Ok(news) = News::decode(*topic, &message.data) else {
            self.report(source, Conduct::Misbehaviour);
            return self.judge(&id, &source, MessageAcceptance::Reject);
        };
        if let Some((place, share)) = self.announced.reserve(source) {
            let origin = self.origin(&source);
            return place.send(Announced { source, origin, news, message_id: id, _share: share });
        }
        self.judge(&id, &source, MessageAcceptance::Ignore);
    }

    /// Takes part in a topic; as often as [`Self::unsubscribe`] has to be called to leave it again.
    pub(super) fn subscribe(&mut self, topic: Topic) {
        let name = topic.name(&self.network);
        let (_, subscribers) = self.topics.entry(name.hash()).or_insert((topic, 0));
        *subscribers += 1;
        if *subscribers == 1 {
            self.join(topic);
        }
    }

    /// Takes part in a topic, if it is not one too many. The topic of new tables has its place.
    fn join(&mut self, topic: Topic) {
        if topic != Topic::NewTables && self.guard.joined() >= guard::MAX_TOPICS - 1 {
            return tracing::debug!(?topic, "too many topics: of these entries only reconciliation tells");
        }
        let name = topic.name(&self.network);
        self.guard.join(name.hash());
        if let Err(error) = self.swarm.behaviour_mut().gossip.subscribe(&name) {
            tracing::warn!(?topic, %error, "cannot subscribe to announces");
        }
    }

    pub(super) fn unsubscribe(&mut self, topic: Topic) {
        let name = topic.name(&self.network);
        let Some((_, subscribers)) = self.topics.get_mut(&name.hash()) else { return };
        *subscribers -= 1;
        if *subscribers == 0 {
            self.topics.remove(&name.hash());
            self.guard.leave(&name.hash());
            self.swarm.behaviour_mut().gossip.unsubscribe(&name);
            let mut others = self.topics.iter().filter(|(name, _)| !self.guard.has_joined(name));
            if let Some(topic) = others.next().map(|(_, (topic, _))| *topic) {
                self.join(topic);
            }
        }
    }

    /// Says whether any peer listens.
    pub(super) fn announce(&mut self, news: &News) -> bool {
        let Ok(data) = news.encode() else { return false };
        let topic = news.topic();
        match self.swarm.behaviour_mut().gossip.publish(topic.name(&self.network), data) {
            // Somebody else said the same, and it was passed on.
            Ok(_) | Err(gossipsub::PublishError::Duplicate) => true,
            Err(error) => {
                tracing::debug!(?topic, %error, "nobody heard an announce");
                false
            }
        }
    }

    pub(super) fn judge(&mut self, id: &MessageId, source: &PeerId, acceptance: MessageAcceptance) {
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, source, acceptance);
    }

    /// If there were too many messages since the last time, blames who sent the most of them.
    pub(super) fn count_gossip(&mut self) {
        let too_many = self.guard.renew();
        let told = self.peers.iter_mut().map(|(peer, known)| Told {
            peer: *peer,
            origin: known.origin,
            messages: std::mem::take(&mut known.told),
        });
        let told: Vec<_> = told.filter(|told| told.messages > 0).collect();
        if too_many {
            for peer in guard::to_blame(told) {
                self.report(peer, Conduct::Misbehaviour);
            }
        }
    }

    /// Peers that take part in a topic's gossip with this node, and serve what they pass on.
    pub(super) fn forwarders(&self, topic: Topic) -> Vec<PeerId> {
        let name = topic.name(&self.network).hash();
        let mesh = self.swarm.behaviour().gossip.mesh_peers(&name);
        mesh.filter(|peer| self.peers.get(peer).is_some_and(|peer| peer.serves)).copied().collect()
    }

    /// Who serves takes part in the mesh; who does not hears everything beside it (SPEC 9.4), so that silent listeners
    /// do not take the places of those who pass on.
    pub(super) fn listens_only(&mut self, peer: &PeerId, only: bool) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        if only {
            gossip.add_explicit_peer(peer);
        } else {
            gossip.remove_explicit_peer(peer);
        }
    }
}
