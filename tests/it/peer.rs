//! A peer without manners: it sends raw bytes on the protocol streams, and answers with whatever a test says.

mod frame;
mod raw;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, gossipsub, identify,
    identity::Keypair,
    kad, noise,
    request_response::{self, Message, OutboundRequestId, ProtocolSupport},
    swarm::{ConnectionId, NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle, dial_opts::DialOpts},
    tcp, yamux,
};
use p2pdb::{
    protocol::{
        codec::{bounded::List, lenient},
        id::{EntryId, NetworkId, TableId},
        message::{Operation, Reply, Status, announce, get::Get, hello::Hello, index::Index, put::Put, sync},
        network::Network,
        record::{NodeRecord, SignedRecord},
    },
    wire,
};
use tokio::sync::{mpsc, oneshot};

use self::frame::unframed;
pub(crate) use self::{
    frame::{framed, ok, prefix, status, statuses},
    raw::{Hung, Raw, RawCodec},
};
use crate::support::{eventually, now, until};

/// Commands, and announces of tables, that wait.
const QUEUE: usize = 64;
/// Announces of entries that wait: of all that a test puts.
const MAX_HEARD: usize = 1024;

/// The protocol of gossip.
const RUMOURS: &str = "/meshsub/1.1.0";

#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    gossip: gossipsub::Behaviour,
    /// What gossip would not say by itself.
    rumours: request_response::Behaviour<RawCodec>,
    kad: kad::Behaviour<kad::store::MemoryStore>,
    hello: request_response::Behaviour<RawCodec>,
    index: request_response::Behaviour<RawCodec>,
    get: request_response::Behaviour<RawCodec>,
    put: request_response::Behaviour<RawCodec>,
    sync: Toggle<request_response::Behaviour<RawCodec>>,
}

impl Behaviour {
    fn new(
        key: &Keypair,
        network: &Network,
        support: ProtocolSupport,
        syncs: bool,
        hung: Option<Arc<Hung>>,
    ) -> Self {
        let gossip = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Anonymous)
            .message_id_fn(|message| {
                gossipsub::MessageId::new(&announce::message_id(message.topic.as_str(), &message.data))
            })
            .build()
            .unwrap();
        let version = wire::identify_protocol_version(network);
        let with_codec = |name, codec| {
            let config = request_response::Config::default()
                // Longer than a node waits: it has to be the first to give up.
                .with_request_timeout(Duration::from_secs(90))
                .with_max_concurrent_streams(1024);
            request_response::Behaviour::with_codec(codec, [(name, support.clone())], config)
        };
        let exchange = |name| with_codec(name, RawCodec::default());
        Self {
            identify: identify::Behaviour::new(identify::Config::new(version, key.public())),
            gossip: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, gossip).unwrap(),
            rumours: request_response::Behaviour::with_codec(
                RawCodec::default(),
                [(StreamProtocol::new(RUMOURS), ProtocolSupport::Outbound)],
                request_response::Config::default().with_request_timeout(Duration::from_secs(60)),
            ),
            kad: kad::Behaviour::with_config(
                key.public().to_peer_id(),
                kad::store::MemoryStore::with_config(
                    key.public().to_peer_id(),
                    kad::store::MemoryStoreConfig { max_provided_keys: 1 << 20, ..Default::default() },
                ),
                kad::Config::new(wire::kad_protocol_name(network)),
            ),
            hello: exchange(wire::protocol_name::<Hello>(network)),
            index: exchange(wire::protocol_name::<Index>(network)),
            get: with_codec(wire::protocol_name::<Get>(network), RawCodec::hanging(hung)),
            put: exchange(wire::protocol_name::<Put>(network)),
            sync: syncs.then(|| exchange(wire::protocol_name::<sync::Sync>(network))).into(),
        }
    }

    fn exchange(&mut self, operation: &str) -> &mut request_response::Behaviour<RawCodec> {
        match operation {
            Hello::NAME => &mut self.hello,
            Index::NAME => &mut self.index,
            Get::NAME => &mut self.get,
            Put::NAME => &mut self.put,
            RUMOURS => &mut self.rumours,
            sync::Sync::NAME => self.sync.as_mut().expect("this peer speaks the fast form"),
            other => panic!("no operation {other}"),
        }
    }
}

/// Answers the requests of a node: the name of the operation, the CBOR of the request, the raw bytes of the response.
pub(crate) type Answer = Arc<dyn Fn(&str, &[u8]) -> Vec<u8> + Send + Sync>;
type Command = Box<dyn FnOnce(&mut EventLoop) + Send>;

struct EventLoop {
    swarm: Swarm<Behaviour>,
    answer: Option<Answer>,
    waiting: HashMap<(&'static str, OutboundRequestId), oneshot::Sender<Option<Vec<u8>>>>,
    dialing: HashMap<ConnectionId, oneshot::Sender<Option<PeerId>>>,
    heard: mpsc::Sender<Vec<EntryId>>,
    heard_tables: mpsc::Sender<Vec<TableId>>,
}

impl EventLoop {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
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
                    // A stream that closes without a byte is no answer.
                    let _ = waiting.send(Some(response).filter(|response| !response.is_empty()));
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

/// A connection of its own to the swarm, with nothing of a node behind it.
pub(crate) struct Peer {
    pub(crate) key: Keypair,
    network: Network,
    commands: mpsc::Sender<Command>,
    heard: mpsc::Receiver<Vec<EntryId>>,
    heard_tables: mpsc::Receiver<Vec<TableId>>,
}

impl Peer {
    /// A peer that only asks.
    pub(crate) fn start(network: &Network) -> Self {
        Self::with(network, Keypair::generate_ed25519(), None, true, None)
    }

    /// A peer that answers, so that nodes take it for one of theirs.
    pub(crate) fn serving(network: &Network, key: Keypair, answer: Answer) -> Self {
        Self::with(network, key, Some(answer), false, None)
    }

    /// The same, but gets are left to hang.
    pub(crate) fn hanging(network: &Network, key: Keypair, answer: Answer) -> (Self, Arc<Hung>) {
        let hung = Arc::<Hung>::default();
        (Self::with(network, key, Some(answer), false, Some(Arc::clone(&hung))), hung)
    }

    /// The same, and one that speaks the fast form of reconciliation.
    pub(crate) fn syncing(network: &Network, key: Keypair, answer: Answer) -> Self {
        Self::with(network, key, Some(answer), true, None)
    }

    fn with(
        network: &Network,
        key: Keypair,
        answer: Option<Answer>,
        syncs: bool,
        hung: Option<Arc<Hung>>,
    ) -> Self {
        let support = if answer.is_some() { ProtocolSupport::Full } else { ProtocolSupport::Outbound };
        let swarm = SwarmBuilder::with_existing_identity(key.clone())
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| Behaviour::new(key, network, support, syncs, hung))
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
            .build();
        let (commands, queue) = mpsc::channel(QUEUE);
        let (heard, hears) = mpsc::channel(MAX_HEARD);
        let (heard_tables, hears_tables) = mpsc::channel(QUEUE);
        let event_loop = EventLoop {
            swarm,
            answer,
            waiting: HashMap::new(),
            dialing: HashMap::new(),
            heard,
            heard_tables,
        };
        tokio::spawn(event_loop.run(queue));
        Self { key, network: network.clone(), commands, heard: hears, heard_tables: hears_tables }
    }

    async fn tell<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut EventLoop, oneshot::Sender<T>) + Send + 'static,
    ) -> T {
        let (answer, answered) = oneshot::channel();
        let command: Command = Box::new(move |event_loop| command(event_loop, answer));
        assert!(self.commands.send(command).await.is_ok());
        answered.await.unwrap()
    }

    pub(crate) fn id(&self) -> PeerId {
        self.key.public().to_peer_id()
    }

    /// Dials a node; none if it does not take the connection.
    pub(crate) async fn connect(&self, address: &Multiaddr) -> Option<PeerId> {
        let options = DialOpts::from(address.clone());
        self.tell(move |event_loop, answer| {
            event_loop.dialing.insert(options.connection_id(), answer);
            event_loop.swarm.dial(options).unwrap();
        })
        .await
    }

    pub(crate) async fn is_connected(&self, node: PeerId) -> bool {
        self.tell(move |event_loop, answer| answer.send(event_loop.swarm.is_connected(&node)).unwrap()).await
    }

    /// Listens on loopback; for peers that serve.
    pub(crate) async fn listen(&self) -> Multiaddr {
        self.tell(|event_loop, done| {
            event_loop.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
            done.send(()).unwrap();
        })
        .await;
        let address = eventually("the peer listens", || async {
            self.tell(|event_loop, answer| answer.send(event_loop.swarm.listeners().next().cloned()).unwrap())
                .await
        });
        address.await.with_p2p(self.id()).unwrap()
    }

    /// Sends raw bytes on a stream of an operation; the raw answer comes when it comes.
    pub(crate) async fn begin<O: Operation>(
        &self,
        node: PeerId,
        bytes: Vec<u8>,
    ) -> oneshot::Receiver<Option<Vec<u8>>> {
        self.send::<O>(node, bytes.into()).await
    }

    /// Sends raw bytes on a stream of an operation, and returns the raw answer; none if the stream closes.
    pub(crate) async fn ask<O: Operation>(&self, node: PeerId, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.send::<O>(node, bytes.into()).await.await.unwrap()
    }

    /// As [`Self::ask`], but keeps the stream open until the sender is dropped; does not wait for the answer.
    pub(crate) async fn hold<O: Operation>(
        &self,
        node: PeerId,
        bytes: Vec<u8>,
    ) -> (oneshot::Sender<()>, oneshot::Receiver<Option<Vec<u8>>>) {
        let (release, hold) = oneshot::channel();
        (release, self.send::<O>(node, Raw { hold: Some(hold), ..bytes.into() }).await)
    }

    /// As [`Self::begin`], but reads nothing of the answer until the sender is dropped.
    pub(crate) async fn ignore<O: Operation>(
        &self,
        node: PeerId,
        bytes: Vec<u8>,
    ) -> (oneshot::Sender<()>, oneshot::Receiver<Option<Vec<u8>>>) {
        let (release, deaf) = oneshot::channel();
        (release, self.send::<O>(node, Raw { deaf: Some(deaf), ..bytes.into() }).await)
    }

    /// Tells the DHT that it provides tables of these keys, any number of them.
    pub(crate) async fn provide(&self, node: PeerId, address: &Multiaddr, keys: Vec<[u8; 32]>) {
        let address = address.clone();
        self.tell(move |event_loop, done| {
            let kad = &mut event_loop.swarm.behaviour_mut().kad;
            kad.add_address(&node, address);
            for key in keys {
                kad.start_providing(key.to_vec().into()).unwrap();
            }
            done.send(()).unwrap();
        })
        .await;
    }

    /// Says something in a topic if anybody listens; whether it was sent.
    pub(crate) async fn shout(&self, table: TableId, ids: &[EntryId]) -> bool {
        let topic = gossipsub::IdentTopic::new(announce::topic(&self.network, &table));
        let ids: announce::Announce = List::try_from(ids.to_vec()).unwrap();
        let data = lenient::to_vec(&ids).unwrap();
        self.tell(move |event_loop, done| {
            done.send(event_loop.swarm.behaviour_mut().gossip.publish(topic, data).is_ok()).unwrap();
        })
        .await
    }

    /// Sends these bytes on a stream of gossip, and waits until the node has taken them or closed the stream.
    pub(crate) async fn spread(&self, node: PeerId, bytes: Vec<u8>) {
        // Gossip does not answer.
        let _ = self.send_as(RUMOURS, node, bytes.into()).await.await;
    }

    async fn send<O: Operation>(&self, node: PeerId, raw: Raw) -> oneshot::Receiver<Option<Vec<u8>>> {
        self.send_as(O::NAME, node, raw).await
    }

    async fn send_as(
        &self,
        name: &'static str,
        node: PeerId,
        raw: Raw,
    ) -> oneshot::Receiver<Option<Vec<u8>>> {
        let (waiting, answered) = oneshot::channel();
        self.tell(move |event_loop, sent| {
            let id = event_loop.swarm.behaviour_mut().exchange(name).send_request(&node, raw);
            event_loop.waiting.insert((name, id), waiting);
            sent.send(()).unwrap();
        })
        .await;
        answered
    }

    /// The status that a node answers raw bytes with; none if it closes the stream.
    pub(crate) async fn status<O: Operation>(&self, node: PeerId, bytes: Vec<u8>) -> Option<Status> {
        self.ask::<O>(node, bytes).await.map(|answer| status(&answer))
    }

    /// A well-formed request.
    pub(crate) async fn request<O: Operation>(
        &self,
        node: PeerId,
        request: &O::Request,
    ) -> Reply<O::Response> {
        let answer = self.ask::<O>(node, framed(&lenient::to_vec(request).unwrap())).await;
        lenient::from_slice(unframed(&answer.expect("the node answers")).unwrap()).unwrap()
    }

    /// Listens to the announces of a table.
    pub(crate) async fn subscribe(&self, table: TableId) {
        self.join(announce::topic(&self.network, &table)).await;
    }

    /// Listens to the announces of new tables.
    pub(crate) async fn subscribe_to_new_tables(&self) {
        self.join(announce::new_tables_topic(&self.network)).await;
    }

    async fn join(&self, topic: String) {
        let topic = gossipsub::IdentTopic::new(topic);
        self.tell(move |event_loop, done| {
            event_loop.swarm.behaviour_mut().gossip.subscribe(&topic).unwrap();
            done.send(()).unwrap();
        })
        .await;
    }

    /// Announces ids; waits until a peer is there that listens.
    pub(crate) async fn announce(&self, table: TableId, ids: &[EntryId]) {
        let ids: announce::Announce = List::try_from(ids.to_vec()).unwrap();
        self.announce_raw(table, lenient::to_vec(&ids).unwrap()).await;
    }

    pub(crate) async fn announce_raw(&self, table: TableId, data: Vec<u8>) {
        self.publish(announce::topic(&self.network, &table), data).await;
    }

    /// Announces new tables; waits until a peer is there that listens.
    pub(crate) async fn announce_tables(&self, tables: &[TableId]) {
        let tables: announce::NewTables = List::try_from(tables.to_vec()).unwrap();
        self.publish(announce::new_tables_topic(&self.network), lenient::to_vec(&tables).unwrap()).await;
    }

    async fn publish(&self, topic: String, data: Vec<u8>) {
        let topic = gossipsub::IdentTopic::new(topic);
        until("somebody hears the announce", || async {
            let (topic, data) = (topic.clone(), data.clone());
            self.tell(move |event_loop, done| {
                let published = event_loop.swarm.behaviour_mut().gossip.publish(topic, data);
                done.send(published.is_ok()).unwrap();
            })
            .await
        })
        .await;
    }

    /// The next announce of new tables that comes.
    pub(crate) async fn hears_of_tables(&mut self) -> Vec<TableId> {
        let heard = tokio::time::timeout(Duration::from_secs(60), self.heard_tables.recv());
        heard.await.expect("an announce").unwrap()
    }

    /// The next announce that comes.
    pub(crate) async fn hears(&mut self) -> Vec<EntryId> {
        tokio::time::timeout(Duration::from_secs(60), self.heard.recv()).await.expect("an announce").unwrap()
    }
}

/// The record of a node with this key that mirrors everything and listens nowhere.
pub(crate) fn record(key: &Keypair) -> NodeRecord {
    NodeRecord {
        key: key.clone().try_into_ed25519().unwrap().public().to_bytes(),
        sequence: now(),
        addresses: Vec::new(),
        tables: None,
        horizon: 0,
        puts_per_minute: 1,
    }
}

pub(crate) fn signed(record: &NodeRecord, key: &Keypair, network: &NetworkId) -> SignedRecord {
    record.sign(network, |message| key.sign(message).unwrap().try_into().unwrap()).unwrap()
}

pub(crate) fn signed_bytes(key: &Keypair, network: &Network) -> Bytes {
    signed(&record(key), key, &network.id()).encoded().clone()
}
