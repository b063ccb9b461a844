//! The client library: whom it puts to, whom it asks, and what it leaves behind.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use libp2p::{Multiaddr, identity::Keypair};
use p2pdb::{
    client::{Client, ClientConfig, MAX_EMPTY_PAGES},
    protocol::{
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        filter::{Cursor, Filter},
        id::TableId,
        message::{
            Operation,
            get::{Get, GetResponse},
            hello::{Hello, HelloResponse},
            put::{Put, PutRequest, PutResponse},
        },
        refusal::Outcome,
    },
};
use tokio::net::TcpListener;

use crate::{
    announce::served,
    peer::{Answer, Peer, ok, record, signed, signed_bytes},
    support::{TestNode, client, entry, key, network, table, table_id, until},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_put_goes_on_to_further_mirrors_until_enough_hold_it() {
    let network = network();
    let good = [TestNode::with(&network, &[], |_| {}).await, TestNode::with(&network, &[], |_| {}).await];
    // One that has no room for any table, and one that takes an entry a minute.
    let full = TestNode::with(&network, &[], |config| config.max_tables = 0).await;
    let strict = TestNode::with(&network, &[], |config| config.rates.puts = 1).await;
    let all = [&good[0], &good[1], &full, &strict];
    let config = ClientConfig {
        nodes: 2,
        bootstrap: all.iter().map(|node| node.address.clone()).collect(),
        ..ClientConfig::new(&support_file(&network)).unwrap()
    };
    let client = Client::start(config).await.unwrap();
    let tables = [table_id(table())];
    until("all four are connected", || async {
        client.nodes(&tables, 4).await.is_ok_and(|nodes| nodes.len() == 4)
    })
    .await;
    let mut refused = BTreeSet::new();
    let mut puts = 0;
    // Whom it asks first is chance.
    while refused.len() < 2 {
        puts += 1;
        assert!(puts < 200, "two of four are asked first each time, and never these two");
        let entry = entry(&network, table(), key(1).public_key(), &format!("number {puts}"));
        let report = client.put(&entry, table().public_key()).await.unwrap();
        assert_eq!(report.holders().count(), 2, "{report:?}");
        let asked: BTreeSet<_> = report.nodes.iter().map(|put| put.node).collect();
        assert_eq!(asked.len(), report.nodes.len(), "each is asked once");
        refused.extend(report.nodes.iter().filter(|put| !put.is_held()).map(|put| put.node));
    }
    assert_eq!(refused, [full.node.peer(), strict.node.peer()].into());
    // Where too few are left, all are asked and the report says so.
    let [first, second] = good;
    first.stop().await;
    let last = entry(&network, table(), key(1).public_key(), "the last");
    let report = client.put(&last, table().public_key()).await.unwrap();
    assert_eq!(report.holders().collect::<Vec<_>>(), [second.node.peer()]);
    assert!(report.nodes.iter().any(|put| put.outcome.as_ref().is_ok_and(|o| o.name() == "quota_exceeded")));
    assert!(report.nodes.iter().any(|put| put.outcome.is_err()));
    client.stop().await;
}

fn support_file(network: &p2pdb::protocol::network::Network) -> p2pdb::protocol::network::NetworkFile {
    p2pdb::protocol::network::NetworkFile { network: network.clone(), bootstrap: Vec::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_fewer_nodes_than_he_wants_does_not_dial_again_each_time() {
    let network = network();
    let node = TestNode::with(&network, &[], |_| {}).await;
    // A node of which a record tells, and which does not answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Multiaddr =
        format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port()).parse().unwrap();
    let dials = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&dials);
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            // Counted before the other end can notice that it is closed.
            counted.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    // One node is enough for its upkeep: whoever dials more does so for `nodes`.
    let config = ClientConfig {
        nodes: 1,
        bootstrap: vec![node.address.clone()],
        ..ClientConfig::new(&support_file(&network)).unwrap()
    };
    let client = Client::start(config).await.unwrap();
    assert_eq!(client.nodes(&[], 1).await.unwrap(), [node.node.peer()]);
    let silent = Keypair::generate_ed25519();
    let mut told = record(&silent);
    told.addresses.push(address.to_vec());
    let encoded = signed(&told, &silent, &network.id()).encoded().clone();
    assert!(client.routes().heard(encoded, Some(address), told.sequence).unwrap().is_some());
    for _ in 0..5 {
        assert_eq!(client.nodes(&[table_id(table())], 3).await.unwrap(), [node.node.peer()]);
    }
    // Each dial was over, and counted, before its call returned.
    assert_eq!(dials.load(Ordering::SeqCst), 1);
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_following_leaves_the_gossip() {
    let network = network();
    let node = TestNode::with(&network, &[], |_| {}).await;
    let client = client(&network, &[&node.address]).await;
    let topics = async || client.swarm().status().await.unwrap().topics;
    let both = Filter::table(table_id(table())).with_table(TableId::from_bytes([7; 32]));
    let wide = client.follow(both).unwrap();
    let narrow = client.follow(Filter::table(table_id(table()))).unwrap();
    until("both tables are followed", || async { topics().await == 2 }).await;
    drop(wide);
    until("the other follower keeps his table", || async { topics().await == 1 }).await;
    drop(narrow);
    until("nobody follows any more", || async { topics().await == 0 }).await;
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_slow_node_has_is_followed_in_its_time_and_holds_up_nobody() {
    let network = network();
    let honest = TestNode::with(&network, &[], |_| {}).await;
    let identity = Keypair::generate_ed25519();
    let own = Blob::try_from(signed_bytes(&identity, &network)).unwrap();
    let late = entry(&network, table(), key(1).public_key(), "late");
    let (asked, encoded) = (Arc::new(AtomicUsize::new(0)), late.encoded().clone());
    let counted = Arc::clone(&asked);
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: own.clone(), records: List::default() }),
        Get::NAME => {
            counted.fetch_add(1, Ordering::SeqCst);
            // As long as a page may take over a slow link, and less than an answer may.
            tokio::task::block_in_place(|| std::thread::sleep(Duration::from_secs(8)));
            ok(served(std::slice::from_ref(&encoded), &[table()]))
        }
        _ => Vec::new(),
    });
    let slow = Peer::serving(&network, identity, answer);
    let client = client(&network, &[&honest.address, &slow.listen().await]).await;
    until("both are met", || async {
        client.nodes(&[table_id(table())], 2).await.is_ok_and(|nodes| nodes.len() == 2)
    })
    .await;
    let mut news = client.follow(Filter::table(table_id(table()))).unwrap();
    until("the slow one is asked", || async { asked.load(Ordering::SeqCst) == 1 }).await;
    let posted = entry(&network, table(), key(1).public_key(), "in time");
    let peer = honest.node.peer();
    let put = client.put_to(peer, std::slice::from_ref(&posted), table().public_key()).await;
    assert_eq!(put.unwrap(), [Outcome::Stored]);
    assert_eq!(news.next().await.unwrap().id(), posted.id());
    let late_one = tokio::time::timeout(Duration::from_secs(60), news.next()).await;
    assert_eq!(late_one.expect("what it sends is not thrown away").unwrap().id(), late.id());
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_a_put_to_one_node_is_that_node_s() {
    let network = network();
    let node = TestNode::with(&network, &[], |_| {}).await;
    let client = client(&network, &[]).await;
    let peer = client.connect(node.address.clone()).await.unwrap();
    let entry = entry(&network, table(), key(1).public_key(), "twice");
    let put = || client.put_to(peer, std::slice::from_ref(&entry), table().public_key());
    assert_eq!(put().await.unwrap(), [Outcome::Stored]);
    assert_eq!(put().await.unwrap(), [Outcome::Known]);
    assert_eq!(node.node.gate().totals().verified, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_always_promises_more_and_has_nothing_is_left_at_some_time() {
    let network = network();
    let key = Keypair::generate_ed25519();
    let own = Blob::try_from(signed_bytes(&key, &network)).unwrap();
    let pages = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&pages);
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: own.clone(), records: List::default() }),
        Get::NAME => {
            let page = counted.fetch_add(1, Ordering::SeqCst) + 1;
            let next = Cursor { store: [1; 8], arrival: page };
            ok(GetResponse { entries: List::default(), keys: List::default(), next, more: true })
        }
        _ => Vec::new(),
    });
    let node = Peer::serving(&network, key, answer);
    let client = client(&network, &[]).await;
    let peer = client.connect(node.listen().await).await.unwrap();
    assert!(client.get_all(peer, &Filter::table(table_id(table()))).await.unwrap().is_empty());
    assert_eq!(pages.load(Ordering::SeqCst), u64::from(MAX_EMPTY_PAGES));
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_tasks_put_at_once_goes_out_in_few_requests() {
    let network = network();
    let identity = Keypair::generate_ed25519();
    let (release, released) = std::sync::mpsc::sync_channel::<()>(0);
    let released = Mutex::new(released);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let requests = Arc::clone(&asked);
    let answer: Answer = Arc::new(move |operation, body| {
        if operation != Put::NAME {
            return Vec::new();
        }
        // The first answer waits until everything has been put; after that nothing waits any more.
        let _ = released.lock().unwrap().recv();
        let request: PutRequest = lenient::from_slice(body).unwrap();
        let outcomes = vec![Outcome::Stored.code(); request.entries.len()];
        requests.lock().unwrap().push(request);
        ok(PutResponse { outcomes: List::try_from(outcomes).unwrap() })
    });
    let node = Peer::serving(&network, identity, answer);
    let client = client(&network, &[]).await;
    let peer = client.connect(node.listen().await).await.unwrap();
    let entries: Vec<_> = (0..20)
        .map(|number| entry(&network, table(), key(1).public_key(), &format!("number {number}")))
        .collect();
    let puts = entries.chunks(2).map(|pair| client.put_to(peer, pair, table().public_key()));
    let mut puts = std::pin::pin!(futures::future::join_all(puts));
    assert!(futures::poll!(&mut puts).is_pending());
    drop(release);
    for outcomes in puts.await {
        assert_eq!(outcomes.unwrap(), [Outcome::Stored; 2]);
    }
    client.stop().await;
    let asked = asked.lock().unwrap();
    assert!(asked.len() <= 3, "two under way, and one with everything else: {}", asked.len());
    let put: BTreeSet<_> =
        asked.iter().flat_map(|request| request.entries.iter()).map(|e| e.to_vec()).collect();
    assert_eq!(put, entries.iter().map(|entry| entry.encoded().to_vec()).collect());
    assert!(
        asked.iter().all(|request| request.keys.len() == 1),
        "the key of their table goes with them once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_that_share_a_request_are_each_answered_for_themselves() {
    let network = network();
    let node = TestNode::with(&network, &[], |config| config.rates.puts = 0).await;
    let client = client(&network, &[&node.address]).await;
    let peer = client.connect(node.address.clone()).await.unwrap();
    let cheap = p2pdb::protocol::network::Network { work_price: network.work_price / 16, ..network.clone() };
    let puts = (0..64).map(|number| {
        // One has done less work than this network asks for.
        let network = if number == 40 { &cheap } else { &network };
        let entry = entry(network, table(), key(1).public_key(), &format!("number {number}"));
        let client = client.clone();
        async move { client.put_to(peer, &[entry], table().public_key()).await.unwrap() }
    });
    let outcomes = futures::future::join_all(puts).await;
    for (number, outcomes) in outcomes.iter().enumerate() {
        assert_eq!(outcomes.len(), 1);
        let stored = outcomes.iter().all(|outcome| *outcome == Outcome::Stored);
        assert_eq!(stored, number != 40, "number {number}: {outcomes:?}");
    }
    assert_eq!(node.entries().await, 63);
    client.stop().await;
}
