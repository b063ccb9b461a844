//! The task that owns the swarm of a peer.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use futures::StreamExt;
use libp2p::{
    PeerId, Swarm, gossipsub, kad,
    request_response::{self, Message, OutboundRequestId},
    swarm::{ConnectionId, SwarmEvent},
};
use p2pdb::protocol::{
    id::{EntryId, TableId},
    message::{Operation, announce, get::Get, hello::Hello, index::Index, put::Put, sync},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    behaviour::{Behaviour, BehaviourEvent, RUMOURS},
    frame::unframed,
    raw::Raw,
};

/// Answers the requests of a node: the name of the operation, the CBOR of the request, the raw bytes of the response.
pub(crate) type Answer = Arc<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;
/// Whom a query of the DHT found; none if nobody answered.
pub(super) type Found = Option<HashSet<PeerId>>;
pub(super) type Command = Box<dyn FnOnce(&mut EventLoop) + Send>;

pub(super) struct EventLoop {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) answer: Option<Answer>,
    pub(super) waiting: HashMap<(&'static str, OutboundRequestId), oneshot::Sender<Option<Vec<u8>>>>,
    pub(super) dialing: HashMap<ConnectionId, oneshot::Sender<Option<PeerId>>>,
    /// Queries of the DHT: who was found so far, and who waits for it.
    pub(super) finding: HashMap<kad::QueryId, (HashSet<PeerId>, oneshot::Sender<Found>)>,
    pub(super) heard: mpsc::Sender<Vec<EntryId>>,
    pub(super) heard_tables: mpsc::Sender<Vec<TableId>>,
}

impl EventLoop {
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => command(&mut self),
                    None => return,
                },
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                if let Some(dialer) = self.dialing.remove(&connection_id) {
                    let _ = dialer.send(Some(peer_id));
                }
            }
            SwarmEvent::OutgoingConnectionError { connection_id, .. } => {
                if let Some(dialer) = self.dialing.remove(&connection_id) {
                    let _ = dialer.send(None);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Hello(event)) => self.on_exchange(Hello::NAME, event),
            SwarmEvent::Behaviour(BehaviourEvent::Index(event)) => self.on_exchange(Index::NAME, event),
            SwarmEvent::Behaviour(BehaviourEvent::Get(event)) => self.on_exchange(Get::NAME, event),
            SwarmEvent::Behaviour(BehaviourEvent::Put(event)) => self.on_exchange(Put::NAME, event),
            SwarmEvent::Behaviour(BehaviourEvent::Rumours(event)) => self.on_exchange(RUMOURS, event),
            SwarmEvent::Behaviour(BehaviourEvent::Sync(event)) => self.on_exchange(sync::Sync::NAME, event),
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(gossipsub::Event::Message { message, .. })) => {
                // The test may not listen, but it may not miss anything either.
                if message.topic.as_str().contains("/tables/") {
                    let tables = announce::decode_new_tables(&message.data).unwrap().into_inner();
                    self.heard_tables.try_send(tables).expect("fewer announces than the queue holds");
                } else {
                    let ids = announce::decode(&message.data).unwrap().into_inner();
                    self.heard.try_send(ids).expect("fewer announces than the queue holds");
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result,
                stats,
                step,
            })) => {
                let Some((found, _)) = self.finding.get_mut(&id) else { return };
                if let kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders {
                    providers,
                    ..
                })) = result
                {
                    found.extend(providers);
                }
                if step.last
                    && let Some((found, answer)) = self.finding.remove(&id)
                {
                    let _ = answer.send((stats.num_successes() > 0).then_some(found));
                }
            }
            _ => {}
        }
    }

    fn on_exchange(&mut self, operation: &'static str, event: request_response::Event<Raw, Vec<u8>>) {
        match event {
            request_response::Event::Message {
                message: Message::Request { request, channel, .. }, ..
            } => {
                let answer = self.answer.as_ref().expect("only a serving peer is asked");
                let response = answer(operation, unframed(&request.bytes).unwrap());
                let _ = self.swarm.behaviour_mut().exchange(operation).send_response(channel, response);
            }
            request_response::Event::Message {
                message: Message::Response { request_id, response }, ..
            } => {
                if let Some(waiting) = self.waiting.remove(&(operation, request_id)) {
                    // A stream that closes without a byte is no answer, but gossip gives none.
                    let is_answer = !response.is_empty() || operation == RUMOURS;
                    let _ = waiting.send(is_answer.then_some(response));
                }
            }
            request_response::Event::OutboundFailure { request_id, .. } => {
                if let Some(waiting) = self.waiting.remove(&(operation, request_id)) {
                    let _ = waiting.send(None);
                }
            }
            _ => {}
        }
    }
}
