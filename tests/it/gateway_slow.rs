//! The daemon beside a node that takes requests and does not answer them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use libp2p::identity::Keypair;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::bounded::{Blob, List},
        message::{
            Operation,
            hello::{Hello, HelloResponse},
        },
        network::Network,
    },
};
use serde_json::json;

use crate::{
    gateway::{has, to_bob},
    gateway_http::Daemon,
    peer::{Answer, Peer, ok, signed_bytes},
    support::{TestNode, client, entry, key, network, table, until},
};

/// Less than a request to a node may take.
const SOON: Duration = Duration::from_secs(25);

/// A peer that introduces itself well, and then keeps whoever asks it waiting until the sender is dropped. Says when it
/// does so.
fn hung(network: &Network) -> (Peer, mpsc::Sender<()>, Arc<AtomicBool>) {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let (release, held) = mpsc::channel();
    let held = Mutex::new(held);
    let is_asked = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&is_asked);
    let answer: Answer = Arc::new(move |operation, _| {
        if operation == Hello::NAME {
            return ok(HelloResponse { record: record.clone(), records: List::default() });
        }
        asked.store(true, Ordering::SeqCst);
        tokio::task::block_in_place(|| held.lock().unwrap().recv().unwrap_err());
        Vec::new()
    });
    (Peer::serving(network, key, answer), release, is_asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hangs_holds_up_neither_reading_nor_sending() {
    let network = network();
    let honest = TestNode::start(&network, Mirror::All, &[]).await;
    let (hung, release, is_asked) = hung(&network);
    let address = hung.listen().await;
    let daemon = Daemon::start(&network, &[&honest.address, &address], &["bob"]).await;
    until("both are met", || async { daemon.http.get("/v1/status").await["nodes_connected"] == 2 }).await;
    until("the one that hangs is asked", || async { is_asked.load(Ordering::SeqCst) }).await;

    let writer = client(&network, &[&honest.address]).await;
    let posted = entry(&network, table(), key(2).public_key(), "from elsewhere");
    let reading = async {
        writer.put(&posted, table().public_key()).await.unwrap();
        has(&daemon.http, 1).await
    };
    tokio::time::timeout(SOON, reading).await.expect("the other node is read meanwhile");

    let put = to_bob("own");
    let stored = daemon.http.put("?wait=stored", &put);
    let stored = tokio::time::timeout(SOON, stored).await.expect("one node that holds it is enough");
    assert_eq!(
        (&stored["state"], &stored["nodes"]),
        (&json!("stored"), &json!([honest.node.peer().to_string()]))
    );
    drop(release);
    writer.stop().await;
    daemon.gateway.stop().await;
}
