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
};

use crate::{
    peer::{Peer, ok, signed_bytes},
    support::{TestNode, client, network, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn requests_one_after_the_other_share_a_stream_and_those_at_once_have_their_own() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let client = client(&network, &[&node.address]).await;
    let to = client.connect(node.address.clone()).await.unwrap();
    let streams = async || node.node.swarm().status().await.unwrap().streams;
    // A hello, too.
    for _ in 0..20 {
        client.swarm().request::<Index>(to, IndexRequest::default()).await.unwrap();
    }
    assert!((1..=2).contains(&streams().await), "{}", streams().await);
    let ask = |_| client.swarm().request::<Index>(to, IndexRequest::default());
    let answers = futures::future::join_all((0..10).map(ask)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!((2..=11).contains(&streams().await), "{}", streams().await);
    client.stop().await;
    until("the streams of who has gone are closed", || async { streams().await == 0 }).await;
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
    let client = client(&network, &[&address]).await;
    let to = client.connect(address).await.unwrap();
    for _ in 0..2 {
        let answer = client.swarm().request::<Index>(to, IndexRequest::default()).await.unwrap();
        assert!(!answer.more);
    }
    until("it counts against the peer", || async {
        let peers = client.swarm().status().await.unwrap().peers;
        peers.iter().any(|peer| peer.score < 0.0)
    })
    .await;
    client.stop().await;
}
