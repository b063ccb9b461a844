//! Who asks one request after the other asks them on one stream (SPEC 8.1).

use std::sync::Arc;

use libp2p::identity::Keypair;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::bounded::{Blob, List},
        message::{
            Operation,
            hello::{Hello, HelloResponse},
            index::{Index, IndexRequest, IndexResponse},
        },
    },
    swarm::{self, Config},
};
use tokio_util::sync::CancellationToken;

use crate::{
    peer::{Peer, ok, signed_bytes},
    support::{TestNode, client, eventually, network, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_share_a_stream() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    // A second connection would make it give up the streams of the first.
    let client = client(&network, &[]).await;
    let to = client.connect(node.address.clone()).await.unwrap();
    let streams = async || node.node.swarm().status().await.unwrap().streams;
    for _ in 0..20 {
        client.swarm().request::<Index>(to, IndexRequest::default()).await.unwrap();
    }
    // There was a hello, too, and the first stream may not be kept: it can be there before the connection is known.
    until("the streams are few", || async { (1..=2).contains(&streams().await) }).await;
    client.stop().await;
    until("the streams of who has gone are closed", || async { streams().await == 0 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_at_once_do_not_wait_for_each_other() {
    let network = network();
    let shutdown = CancellationToken::new();
    let config = Config::node(network.clone(), vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    // Nobody takes anything out of the inbox.
    let (swarm, inbox, task) =
        swarm::start(Keypair::generate_ed25519(), config, shutdown.clone()).await.unwrap();
    let address = eventually("it listens", || async { swarm.own_addresses().await.unwrap().pop() }).await;
    let client = client(&network, &[]).await;
    let to = client.connect(address.with_p2p(swarm.local_peer()).unwrap()).await.unwrap();
    let ask = |_| client.swarm().request::<Index>(to, IndexRequest::default());
    let asking = futures::future::join_all((0..10).map(ask));
    let arrived = until("all ten are there before one is answered", || async { inbox.index.len() == 10 });
    tokio::select! {
        answers = asking => panic!("{answers:?}"),
        () = arrived => {}
    }
    // Nobody waits for its answers any more.
    drop(inbox);
    shutdown.cancel();
    task.await.unwrap();
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_unasked_is_not_taken_for_the_answer_to_the_next_request() {
    let network = network();
    let key = Keypair::generate_ed25519();
    let own = signed_bytes(&key, &network);
    let record = Blob::try_from(own).unwrap();
    let reply = move |operation: &str, _: &[u8]| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        _ => {
            let answer = |more| ok(IndexResponse { more, ..IndexResponse::default() });
            [answer(false), answer(true)].concat()
        }
    };
    let peer = Peer::serving(&network, key, Arc::new(reply));
    let address = peer.listen().await;
    let client = client(&network, &[]).await;
    let to = client.connect(address).await.unwrap();
    // The first stream may not be kept: it can be there before the connection is known.
    until("it counts against the peer", || async {
        let answer = client.swarm().request::<Index>(to, IndexRequest::default()).await.unwrap();
        assert!(!answer.more);
        let peers = client.swarm().status().await.unwrap().peers;
        peers.iter().any(|peer| peer.score < 0.0)
    })
    .await;
    client.stop().await;
}
