//! The daemon beside a node that takes requests and does not answer them.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use data_encoding::BASE64;
use libp2p::identity::Keypair;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::bounded::{Blob, List},
        message::{
            Operation,
            get::Get,
            hello::{Hello, HelloResponse},
            put::Put,
        },
        network::Network,
    },
};
use serde_json::json;

use crate::{
    announce::served,
    gateway::{has, to_bob},
    gateway_http::Daemon,
    gateway_process::{self, Process},
    peer::{Answer, Peer, ok, signed_bytes},
    support::{TestNode, client, entry, eventually, key, network, table, until},
};

/// Less than a request to a node may take.
const SOON: Duration = Duration::from_secs(25);

/// The request that a peer keeps waiting.
type Held = Arc<Mutex<Option<Vec<u8>>>>;

/// A peer that introduces itself well, has nothing, and keeps whoever asks it for one of these operations waiting until the
/// sender is dropped.
fn hung(network: &Network, operations: &'static [&str]) -> (Peer, mpsc::SyncSender<()>, Held) {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let (release, held) = mpsc::sync_channel(1);
    let held = Mutex::new(held);
    let request = Held::default();
    let asked = Arc::clone(&request);
    let answer: Answer = Arc::new(move |operation, request| match operation {
        operation if operations.contains(&operation) => {
            *asked.lock().unwrap() = Some(request.to_vec());
            tokio::task::block_in_place(|| held.lock().unwrap().recv().unwrap_err());
            Vec::new()
        }
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Get::NAME => ok(served(&[], &[])),
        _ => Vec::new(),
    });
    (Peer::serving(network, key, answer), release, request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_node_that_hangs_holds_up_neither_reading_nor_sending() {
    let network = network();
    let honest = TestNode::start(&network, Mirror::All, &[]).await;
    let (hung, release, held) = hung(&network, &[Get::NAME, Put::NAME]);
    let address = hung.listen().await;
    let daemon = Daemon::start(&network, &[&honest.address, &address], &["bob"]).await;
    until("both are met", || async { daemon.http.get("/v1/status").await["nodes_connected"] == 2 }).await;
    until("the one that hangs is asked", || async { held.lock().unwrap().is_some() }).await;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_entry_that_a_node_has_when_the_daemon_is_killed_is_sent_again_as_the_same() {
    let network = gateway_process::network();
    let home = gateway_process::home(&network);
    let (hung, release, held) = hung(&network, &[Put::NAME]);
    let daemon = Process::start(&home, &hung.listen().await);
    let body = json!({"space": "notes", "recipients": ["me"], "content": {"text": "handed out"}});
    let job = daemon.http.put("", &body).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let request =
        eventually("a node has the entry, and says nothing", || async { held.lock().unwrap().clone() });
    let request = request.await;
    // This is the moment, and no other one.
    let sending = daemon.http.get(&path).await;
    assert_eq!((&sending["state"], &sending["can_cancel"]), (&json!("sending"), &json!(false)), "{sending}");
    assert_eq!((&sending["nodes"], &sending["tries"]), (&json!([]), &json!(0)), "{sending}");
    daemon.kill();
    drop(release);

    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let daemon = Process::start(&home, &node.address);
    let stored = eventually("it is stored", || async {
        Some(daemon.http.get(&path).await).filter(|job| job["state"] == "stored")
    });
    assert_eq!(stored.await["nodes"], json!([node.node.peer().to_string()]));
    assert_eq!(node.entries().await, 1);
    let page = daemon.http.get("/v1/get?space=notes&raw=1").await;
    let raw = BASE64.decode(page["entries"][0]["raw"].as_str().unwrap().as_bytes()).unwrap();
    assert!(request.windows(raw.len()).any(|window| window == raw), "the first node has the same bytes");
    daemon.kill();
}
