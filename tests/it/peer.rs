//! A peer without manners: it sends raw bytes on the protocol streams, and answers with whatever a test says.

mod behaviour;
mod dht;
mod event_loop;
mod frame;
mod gossip;
mod raw;

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::{
    Multiaddr, PeerId, SwarmBuilder, identity::Keypair, noise, request_response::ProtocolSupport,
    swarm::dial_opts::DialOpts, tcp, yamux,
};
use p2pdb::protocol::{
    codec::lenient,
    id::{EntryId, NetworkId, TableId},
    message::{Operation, Reply, Status},
    network::Network,
    record::{NodeRecord, SignedRecord},
};
use tokio::sync::{mpsc, oneshot};

use self::{
    behaviour::Behaviour,
    event_loop::{Command, EventLoop},
    frame::unframed,
};
pub(crate) use self::{
    event_loop::Answer,
    frame::{field, framed, ok, prefix, said, status, statuses},
    raw::{Hung, Raw, RawCodec},
};
use crate::support::{eventually, now};

/// Commands, and announces of tables, that wait.
const QUEUE: usize = 64;
/// Announces of entries that wait: of all that a test puts.
const MAX_HEARD: usize = 1024;

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
            finding: HashMap::new(),
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

    /// Listens on loopback, if it does not yet; for peers that serve.
    pub(crate) async fn listen(&self) -> Multiaddr {
        self.tell(|event_loop, done| {
            if event_loop.swarm.listeners().next().is_none() {
                event_loop.swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
            }
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
