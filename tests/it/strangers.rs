//! Peers that go their own way in libp2p's own protocols: what these would do for a peer or remember of it, filters keep them from.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::StreamExt;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, identify, noise, ping,
    request_response::{self, Message, ProtocolSupport},
    swarm::{NetworkBehaviour, SwarmEvent, behaviour::toggle::Toggle},
    tcp, yamux,
};
use p2pdb::{ingest::Mirror, protocol::network::Network, wire};
use tokio::time::timeout;

use crate::{
    peer::{Peer, RawCodec, framed, said},
    support::{TestNode, eventually, network, until},
};

/// A peer that says who it is, and whatever a test wants in one other protocol.
#[derive(NetworkBehaviour)]
struct Behaviour {
    identify: identify::Behaviour,
    /// As often as it tries the connection itself, if it does.
    ping: Toggle<ping::Behaviour>,
    raw: request_response::Behaviour<RawCodec>,
}

struct Stranger {
    swarm: Swarm<Behaviour>,
    node: PeerId,
}

impl Stranger {
    async fn connected(network: &Network, protocol: &'static str, node: &TestNode) -> Self {
        Self::with(network, protocol, node, None).await
    }

    async fn with(
        network: &Network,
        protocol: &'static str,
        node: &TestNode,
        heartbeat: Option<Duration>,
    ) -> Self {
        let pings = |interval| ping::Behaviour::new(ping::Config::new().with_interval(interval));
        let version = wire::identify_protocol_version(network);
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|key| Behaviour {
                identify: identify::Behaviour::new(identify::Config::new(version, key.public())),
                ping: heartbeat.map(pings).into(),
                raw: request_response::Behaviour::new(
                    [(StreamProtocol::new(protocol), ProtocolSupport::Outbound)],
                    request_response::Config::default(),
                ),
            })
            .unwrap()
            .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(120)))
            .build();
        swarm.dial(node.address.clone()).unwrap();
        // Only of whom it knows a node hears further news.
        loop {
            let event = swarm.select_next_some().await;
            if matches!(event, SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Sent { .. })))
            {
                return Self { swarm, node: node.node.peer() };
            }
        }
    }

    /// Sends bytes on a stream, and returns the answer when the node closes it; none if it breaks.
    async fn say(&mut self, bytes: Vec<u8>) -> Option<Vec<u8>> {
        self.swarm.behaviour_mut().raw.send_request(&self.node, bytes.into());
        loop {
            match self.swarm.select_next_some().await {
                SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::Message {
                    message: Message::Response { response, .. },
                    ..
                })) => return Some(response),
                SwarmEvent::Behaviour(BehaviourEvent::Raw(request_response::Event::OutboundFailure {
                    ..
                })) => return None,
                _ => {}
            }
        }
    }
}

/// A field of a message in protobuf that is bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &framed(bytes)].concat()
}

/// Everything that autonat wants of who asks to be dialed at an address that it is not seen at: the most data that it may ask for, too.
fn dial_me_at(address: &str) -> Vec<u8> {
    let address = address.parse::<Multiaddr>().unwrap().to_vec();
    let nonce = [&[2 << 3 | 1][..], &[7; 8]].concat();
    let request = framed(&field(1, &[field(1, &address), nonce].concat()));
    let data = framed(&field(4, &field(1, &[0; 4000])));
    [request, data.repeat(100_000 / 4000)].concat()
}

/// A place where a connection that is made can be seen, and its port.
fn place() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

const DIAL_REQUEST: &str = "/libp2p/autonat/2/dial-request";

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_has_a_node_dial_one_plain_address_at_a_time_and_nothing_else() {
    let network = network();
    let node = TestNode::with(&network, &[], |config| config.swarm.nat.autonat = true).await;
    let mut peer = Stranger::connected(&network, DIAL_REQUEST, &node).await;
    let mut other = Stranger::connected(&network, DIAL_REQUEST, &node).await;
    let (listener, port) = place();
    for address in [
        format!("/dns4/localhost/tcp/{port}"),
        format!("/dns/localhost/tcp/{port}"),
        format!("/ip4/127.0.0.1/tcp/{port}/ws"),
    ] {
        assert!(peer.say(dial_me_at(&address)).await.is_some(), "{address}: it is told that this cannot be");
        assert!(listener.accept().is_err(), "{address} was dialed");
    }
    // Where it may be, it is dialed; nobody answers there.
    let asked = tokio::spawn(async move {
        peer.say(dial_me_at(&format!("/ip4/127.0.0.1/tcp/{port}"))).await;
    });
    let dialed = eventually("it is dialed", || async { listener.accept().ok() }).await;
    // While it is, nobody else at its address is.
    let (second, port) = place();
    let elsewhere = format!("/ip4/127.0.0.1/tcp/{port}");
    assert!(other.say(dial_me_at(&elsewhere)).await.is_some());
    assert!(second.accept().is_err(), "two at a time");
    drop((dialed, listener));
    asked.await.unwrap();
    // Once that is over, it is their turn.
    let asking = async {
        loop {
            other.say(dial_me_at(&elsewhere)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        _ = eventually("the other one is dialed", || async { second.accept().ok() }) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_hears_little_of_what_a_peer_says_of_itself_again_and_again() {
    let network = network();
    let node = TestNode::with(&network, &[], |_| {}).await;
    let mut peer = Stranger::connected(&network, "/ipfs/id/push/1.0.0", &node).await;
    let id = peer.swarm.local_peer_id().to_string();
    let heard = async || {
        let status = node.node.swarm().status().await.unwrap();
        let agent = status.peers.into_iter().find(|peer| peer.peer == id).unwrap().agent;
        agent.strip_prefix("push ").map(|number| number.parse::<usize>().unwrap())
    };
    until("it is known", || async { node.node.swarm().status().await.unwrap().peers.len() == 1 }).await;
    for number in 0..100 {
        peer.say(framed(&field(6, format!("push {number}").as_bytes()))).await.unwrap();
    }
    let last = eventually("something is heard", &heard).await;
    assert!(last < 8, "push {last} was heard");
}

/// A heartbeat finds connections that are dead, not peers that have none.
#[tokio::test(flavor = "multi_thread")]
async fn who_knows_no_heartbeat_stays_connected() {
    let network = network();
    let heartbeat = Duration::from_secs(1);
    let node = TestNode::with(&network, &[], |config| config.swarm.heartbeat = heartbeat).await;
    let silent = Stranger::connected(&network, DIAL_REQUEST, &node).await;
    let mut other = Stranger::with(&network, DIAL_REQUEST, &node, Some(heartbeat)).await;
    // A connection is closed when two in a row fail.
    let mut beats = 0;
    while beats < 4 {
        if let SwarmEvent::Behaviour(BehaviourEvent::Ping(event)) = other.swarm.select_next_some().await {
            assert!(event.result.is_ok(), "{event:?}");
            beats += 1;
        }
    }
    let (id, status) = (silent.swarm.local_peer_id().to_string(), node.node.swarm().status().await.unwrap());
    assert!(status.peers.iter().any(|peer| peer.peer == id), "{status:?}");
}

/// Frames of gossip that are quickly said, and take longer to be heard: in topics that nobody has.
fn rumours() -> Bytes {
    let name = |number: u8| format!("/p2pdb/dev/announce/1.0.0/{number:080}");
    let joins = |number| field(1, &[&[0x08, 1][..], &field(2, name(number).as_bytes())].concat());
    let topics: Vec<u8> = (0..200).flat_map(joins).collect();
    let messages: Vec<u8> = (0..16).flat_map(|number| said(&name(number), &[number; 6000])).collect();
    [framed(&topics), framed(&messages)].concat().into()
}

/// A swarm that takes longer to answer its owner does not answer at all.
const ANSWERS: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn who_never_stops_gossiping_keeps_nobody_out() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let id = node.node.peer();
    let mut gossips = Vec::new();
    for _ in 0..6 {
        let gossip = Peer::start(&network);
        assert_eq!(gossip.connect(&node.address).await, Some(id));
        gossips.push(gossip);
    }
    let heard: Vec<Arc<AtomicUsize>> = gossips.iter().map(|_| Arc::default()).collect();
    for (gossip, heard) in gossips.into_iter().zip(&heard) {
        let (says, _) = gossip.speak(id).await;
        let heard = Arc::clone(heard);
        tokio::spawn(async move {
            let frames = rumours();
            while says.send(frames.clone()).await.is_ok() {
                heard.fetch_add(1, Ordering::Relaxed);
            }
            drop(gossip);
        });
    }
    for round in 1..=5 {
        until("each of them goes on", || async {
            heard.iter().all(|heard| heard.load(Ordering::Relaxed) >= 10 * round)
        })
        .await;
        // The swarm does what its owner wants, and takes who comes.
        assert!(
            timeout(ANSWERS, node.node.swarm().status()).await.is_ok_and(|status| status.is_ok()),
            "a command"
        );
        assert_eq!(Peer::start(&network).connect(&node.address).await, Some(id), "somebody new");
    }
    node.stop().await;
}
