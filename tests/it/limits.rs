//! What one peer can take: quotas, bans, the byte budget, and what a full put is answered.

use std::{fs, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{Multiaddr, identity::Keypair};
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        entry::Entry,
        filter::Filter,
        id::EntryId,
        limits,
        message::{
            Operation, Reply, Status,
            get::Get,
            hello::{Hello, HelloRequest},
            index::{Index, IndexRequest},
            put::{Put, PutRequest},
            sync::{Asked, GroupsRequest, Sync, SyncRequest},
        },
        network::{Network, NetworkFile},
        refusal::Outcome,
        seal::{Content, Draft},
    },
    swarm::{self, Config, INBOX, INBOX_PER_PEER, RequestError},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Home,
    cli_nodes::Node,
    peer::{Peer, framed, prefix, status},
    reconcile::fallen,
    support::{TestNode, client, entry, eventually, key, mine, network, now, rng, table, table_id, until},
};

fn puts(entries: &[Bytes], keys: &[&[u8]]) -> PutRequest {
    let entries = entries.iter().map(|entry| Blob::try_from(entry.clone()).unwrap());
    let keys = keys.iter().map(|key| Blob::try_from(key.to_vec()).unwrap());
    PutRequest {
        entries: List::try_from(entries.collect::<Vec<_>>()).unwrap(),
        keys: List::try_from(keys.collect::<Vec<_>>()).unwrap(),
    }
}

async fn joined(network: &Network, node: &TestNode) -> Peer {
    let peer = Peer::start(network);
    peer.connect(&node.address).await.unwrap();
    peer
}

async fn is_limited<O: Operation>(peer: &Peer, node: &TestNode, request: &O::Request) -> bool {
    match peer.request::<O>(node.node.peer(), request).await {
        Reply::Ok(_) => false,
        Reply::Refused { status: Status::RateLimited, retry_after_ms } => {
            assert!(retry_after_ms.is_some_and(|wait| wait > 0), "{}", O::NAME);
            true
        }
        other => panic!("{}: {other:?}", O::NAME),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_over_its_quota_is_told_so_and_others_go_on() {
    let network = network();
    // What is used up comes back in half a minute: later than this test is over.
    let node = TestNode::with(&network, &[], |config| {
        let rates = &mut config.rates;
        (rates.hellos, rates.indexes, rates.index_pages, rates.gets, rates.puts) = (2, 2, 2, 2, 2);
        (rates.syncs, rates.sync_bytes) = (4, 64);
    })
    .await;
    let (greedy, modest) = (joined(&network, &node).await, joined(&network, &node).await);
    let hello = HelloRequest::default();
    let index = IndexRequest { table: Some(table_id(table())), ..Default::default() };
    let page = IndexRequest { bucket: Some(1), ..index.clone() };
    let get = Filter::table(table_id(table())).to_request().unwrap();
    let roots = SyncRequest { all: Some(List::try_from(Vec::new()).unwrap()), ..Default::default() };
    let four_syndromes = Asked { table: table_id(table()), level: 0, groups: vec![0], syndromes: 0..4 };
    let sketch = SyncRequest { groups: Some(GroupsRequest::new(&four_syndromes)), ..Default::default() };
    let encoded = |text: &str| entry(&network, table(), key(1).public_key(), text).encoded().clone();
    let der = table().public_key().der();
    let put = |texts: &[&str]| puts(&texts.iter().map(|text| encoded(text)).collect::<Vec<_>>(), &[der]);
    for _ in 0..2 {
        assert!(!is_limited::<Hello>(&greedy, &node, &hello).await);
        assert!(!is_limited::<Index>(&greedy, &node, &index).await);
        assert!(!is_limited::<Index>(&greedy, &node, &page).await);
        assert!(!is_limited::<Get>(&greedy, &node, &get).await);
        assert!(!is_limited::<Sync>(&greedy, &node, &roots).await);
        assert!(!is_limited::<Sync>(&greedy, &node, &sketch).await);
    }
    // Entries count, not requests.
    assert!(!is_limited::<Put>(&greedy, &node, &put(&["one", "two"])).await);
    assert_eq!(node.entries().await, 2);
    assert!(is_limited::<Hello>(&greedy, &node, &hello).await);
    assert!(is_limited::<Index>(&greedy, &node, &index).await);
    assert!(is_limited::<Index>(&greedy, &node, &page).await);
    assert!(is_limited::<Get>(&greedy, &node, &get).await);
    assert!(is_limited::<Sync>(&greedy, &node, &roots).await);
    assert!(is_limited::<Sync>(&greedy, &node, &sketch).await);
    assert!(is_limited::<Put>(&greedy, &node, &put(&["three"])).await);
    assert_eq!(node.entries().await, 2);

    assert!(!is_limited::<Hello>(&modest, &node, &hello).await);
    assert!(!is_limited::<Index>(&modest, &node, &index).await);
    assert!(!is_limited::<Get>(&modest, &node, &get).await);
    assert!(!is_limited::<Sync>(&modest, &node, &roots).await);
    assert!(!is_limited::<Sync>(&modest, &node, &sketch).await);
    assert!(!is_limited::<Put>(&modest, &node, &put(&["four"])).await);
    assert_eq!(node.entries().await, 3);
}

/// A question for groups costs what it takes, and not only the few bytes of its answer.
#[tokio::test(flavor = "multi_thread")]
async fn questions_for_groups_are_charged_by_the_ids_that_they_look_at() {
    let network = network();
    let texts = ["one", "two", "three", "four"];
    let entries = texts.map(|text| entry(&network, table(), key(1).public_key(), text).encoded().clone());
    let groups = |level, groups: Vec<u16>| {
        let asked = Asked { table: table_id(table()), level, groups, syndromes: 0..1 };
        SyncRequest { groups: Some(GroupsRequest::new(&asked)), ..Default::default() }
    };
    // Four ids, of which the share in the only group of level 0 is computed, as entries just put and as those of their epoch.
    let whole = 2 * 4 * 17 + 1;
    for (syncs, sync_work) in [(3, 1 << 20), (100, 2 * whole + 12)] {
        let node = TestNode::with(&network, &[], |config| {
            (config.rates.syncs, config.rates.sync_work) = (syncs, sync_work);
        })
        .await;
        let (greedy, modest) = (joined(&network, &node).await, joined(&network, &node).await);
        assert!(!is_limited::<Put>(&greedy, &node, &puts(&entries, &[table().public_key().der()])).await);
        assert!(!is_limited::<Sync>(&greedy, &node, &groups(0, vec![0])).await);
        assert!(!is_limited::<Sync>(&greedy, &node, &groups(0, vec![0])).await);
        // Of one group among 4,096 hardly anything is computed.
        assert!(!is_limited::<Sync>(&greedy, &node, &groups(12, vec![77])).await);
        assert!(is_limited::<Sync>(&greedy, &node, &groups(0, vec![0])).await);
        assert!(!is_limited::<Sync>(&modest, &node, &groups(0, vec![0])).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_misbehaves_again_and_again_is_banned_and_others_go_on() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let honest = joined(&network, &node).await;
    let get = Filter::table(table_id(table())).to_request().unwrap();
    let vandal = joined(&network, &node).await;
    let mut strikes = 0;
    while vandal.is_connected(node.node.peer()).await {
        assert!(strikes < 10, "ten strikes, and still connected");
        // The last one may not be answered any more.
        let _ = vandal.ask::<Get>(node.node.peer(), framed(&[0xff])).await;
        strikes += 1;
        let banned = async || node.node.swarm().status().await.unwrap().banned == 1;
        if banned().await {
            until("the vandal is thrown out", || async { !vandal.is_connected(node.node.peer()).await })
                .await;
        }
    }
    assert!(strikes >= 2, "a single mistake is no reason for a ban");
    // It gets no further than the handshake.
    let _ = vandal.connect(&node.address).await;
    until("the vandal stays out", || async { !vandal.is_connected(node.node.peer()).await }).await;
    let status = node.node.swarm().status().await.unwrap();
    assert!(status.peers.iter().all(|peer| peer.peer != vandal.id().to_string()));
    assert!(!is_limited::<Get>(&honest, &node, &get).await);
    assert!(!is_limited::<Get>(&joined(&network, &node).await, &node, &get).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_of_requests_are_bounded_in_all_and_come_back_when_their_sender_stalls() {
    let network = network();
    let node = TestNode::with(&network, &[], |config| {
        config.swarm.limits.request_bytes = limits::PUT_REQUEST_BYTES;
        config.swarm.read_timeout = Duration::from_secs(3);
    })
    .await;
    let (staller, other) = (joined(&network, &node).await, joined(&network, &node).await);
    // Long enough to be charged.
    let ids = (0..200).map(|number| EntryId::from_bytes([number; 32])).collect();
    let ask = Filter::ids(ids).to_request().unwrap();
    let small = Filter::table(table_id(table())).to_request().unwrap();
    let status = async || match other.request::<Get>(node.node.peer(), &ask).await {
        Reply::Ok(_) => Status::Ok,
        Reply::Refused { status, .. } => status,
    };
    assert_eq!(status().await, Status::Ok);
    // It says that a megabyte will come, which is all there is, and sends all but the last byte.
    let almost = [prefix(limits::PUT_REQUEST_BYTES), vec![0; limits::PUT_REQUEST_BYTES - 1]].concat();
    let stalled = async || {
        eventually("the node is busy", || async {
            let (held, _) = staller.hold::<Put>(node.node.peer(), almost.clone()).await;
            for _ in 0..100 {
                if status().await == Status::Busy {
                    return Some(held);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // If somebody asked just when the last of it came, it is the staller who was told to come back later.
            None
        })
        .await
    };
    let release = stalled().await;
    let answer = other.request::<Get>(node.node.peer(), &small).await;
    assert!(matches!(answer, Reply::Ok(_)), "who asks for little is answered: {answer:?}");
    drop(release);
    until("the broken stream gives its bytes back", || async { status().await == Status::Ok }).await;

    let _held = stalled().await;
    until("the stalled stream is given up", || async { status().await == Status::Ok }).await;
    // To say it and send nothing costs others nothing.
    let (_idle, _) = staller.hold::<Put>(node.node.peer(), prefix(limits::PUT_REQUEST_BYTES)).await;
    assert_eq!(status().await, Status::Ok);
}

/// Something comes all the time, so that no timer of idleness would ever end it.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_request_byte_by_byte_is_given_up_and_blamed() {
    let network = network();
    let node =
        TestNode::with(&network, &[], |config| config.swarm.read_timeout = Duration::from_secs(3)).await;
    let to = node.node.peer();
    let ask = Filter::ids((0..200).map(|number| EntryId::from_bytes([number; 32])).collect());
    let ask = framed(&lenient::to_vec(&ask.to_request().unwrap()).unwrap());
    let (dripping, other) = (joined(&network, &node).await, joined(&network, &node).await);
    // It would take an hour.
    let _answer = dripping.drip::<Get>(to, ask.clone(), Duration::from_millis(500)).await;
    until("its stream is open", || async { node.node.swarm().status().await.unwrap().streams == 1 }).await;
    until("it is blamed", || async { fallen(&node, &dripping).await }).await;
    until("its stream is closed", || async { node.node.swarm().status().await.unwrap().streams == 0 }).await;
    assert!(dripping.is_connected(to).await, "once is no reason for a ban");
    assert_eq!(other.status::<Get>(to, ask).await, Some(Status::Ok));
}

/// A line may be slow, so that nobody is blamed, but an answer is not offered for longer than a request may take.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_an_answer_bit_by_bit_is_given_up() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let groups = (0..4096).collect();
    let asked = Asked { table: table_id(table()), level: 12, groups, syndromes: 0..64 };
    let sketch = SyncRequest { groups: Some(GroupsRequest::new(&asked)), ..Default::default() };
    let sketch = framed(&lenient::to_vec(&sketch).unwrap());
    let sipping = joined(&network, &node).await;
    let pace = (16 << 10, Duration::from_secs(1));
    // Two megabytes: it would take two minutes.
    let _answer = sipping.sip::<Sync>(node.node.peer(), sketch, pace).await;
    until("its stream is open", || async { node.node.swarm().status().await.unwrap().streams == 1 }).await;
    until("its stream is closed", || async { node.node.swarm().status().await.unwrap().streams == 0 }).await;
    assert!(!fallen(&node, &sipping).await && sipping.is_connected(node.node.peer()).await);
}

/// It is read as it comes, and dropped: who is still sending hears nothing.
#[tokio::test(flavor = "multi_thread")]
async fn who_sends_more_than_there_is_room_for_is_told_so() {
    let network = network();
    let node = TestNode::with(&network, &[], |config| config.swarm.limits.request_bytes = 100_000).await;
    let client = client(&network, &[&node.address]).await;
    let to = client.connect(node.address.clone()).await.unwrap();
    let long = Bytes::from(vec![0; 300_000]);
    for _ in 0..3 {
        let answer = client.swarm().request::<Put>(to, puts(&[long.clone(), long.clone()], &[])).await;
        assert!(matches!(answer, Err(RequestError::Refused { status: Status::Busy, .. })), "{answer:?}");
    }
    client.stop().await;
}

/// The memory that counts is that of the whole process: a node of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_over_its_memory_takes_no_new_connection_and_serves_on_those_that_it_has() {
    let home = Home::dev();
    let settings = ["limits.max_memory=128MiB", "limits.max_request_memory=256MiB", "log=error"];
    let node = Node::run(&home, &settings.map(|setting| ["--set", setting]).concat());
    let network = fs::read_to_string(home.root().join("network.toml")).unwrap();
    let network = NetworkFile::parse(&network).unwrap().network;
    let address: Multiaddr = node.address.parse().unwrap();
    let connected = async || {
        let peer = Peer::start(&network);
        (peer.connect(&address).await, peer)
    };
    let (to, old) = connected().await;
    let to = to.expect("a node that has room takes a connection");
    // Megabytes that are never finished, which it gives up after a while.
    let almost = [prefix(limits::PUT_REQUEST_BYTES), vec![0; limits::PUT_REQUEST_BYTES - 1]].concat();
    eventually("who is new is turned away", || async {
        let mut held = Vec::new();
        for _ in 0..150 {
            held.push(old.hold::<Put>(to, almost.clone()).await);
        }
        for _ in 0..50 {
            if connected().await.0.is_none() {
                return Some(held);
            }
        }
        None
    })
    .await;
    let get = Filter::table(table_id(table())).to_request().unwrap();
    let get = framed(&lenient::to_vec(&get).unwrap());
    assert_eq!(old.status::<Get>(to, get).await, Some(Status::Ok));
    until("there is room again", || async { connected().await.0.is_some() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_put_is_answered_entry_by_entry_in_order() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let recipient = key(1).public_key();
    let at = |created, expires| -> Entry {
        let content = Content { media_type: "text/plain".to_owned(), data: b"time".to_vec() };
        let recipients = std::slice::from_ref(recipient);
        let draft = Draft { table: table(), recipients, created, expires, content: &content, author: None };
        mine(&network, &draft.seal(&mut rng(), &network).unwrap())
    };
    let mut entries: Vec<Bytes> = Vec::new();
    let mut expected = Vec::new();
    for number in 0..limits::MAX_PUT_ENTRIES {
        let text = format!("number {number}");
        let (encoded, outcome) = match number % 8 {
            1 => (entries[number - 1].clone(), "known"),
            2 => (at(now() + network.max_clock_ahead + 600, None).encoded().clone(), "created_in_future"),
            3 => (at(now() - 10, Some(now() - 5)).encoded().clone(), "expired"),
            4 => (entry(&network, key(3), recipient, &text).encoded().clone(), "table_key_missing"),
            5 => (entry(&network, table(), recipient, &text).encoded().slice(1..), "malformed"),
            6 => (entry(&network, key(2), recipient, &text).encoded().clone(), "stored"),
            _ => (entry(&network, table(), recipient, &text).encoded().clone(), "stored"),
        };
        entries.push(encoded);
        expected.push(outcome);
    }
    let peer = joined(&network, &node).await;
    let request = puts(&entries, &[table().public_key().der(), key(2).public_key().der()]);
    let Reply::Ok(response) = peer.request::<Put>(node.node.peer(), &request).await else {
        panic!("no reply")
    };
    let outcomes: Vec<_> = response.outcomes.iter().map(|code| Outcome::from_code(*code).name()).collect();
    assert_eq!(outcomes.len(), expected.len());
    for (number, (got, expected)) in outcomes.iter().zip(&expected).enumerate() {
        // Of two copies in one request either may be the first.
        let copies = number % 8 < 2 && ["stored", "known"].contains(got);
        assert!(got == expected || copies, "entry {number}: {got}, expected {expected}");
    }
    let count = |outcomes: &[&str], name| outcomes.iter().filter(|outcome| **outcome == name).count();
    assert_eq!(count(&outcomes, "stored"), count(&expected, "stored"));
    assert_eq!(node.entries().await, count(&expected, "stored") as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_fills_its_share_of_an_inbox_and_all_together_fill_it() {
    let network = network();
    let shutdown = CancellationToken::new();
    let config = Config::node(network.clone(), vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()]);
    // Nobody takes anything out of the inbox.
    let (swarm, mut inbox, task) =
        swarm::start(Keypair::generate_ed25519(), config, shutdown.clone()).await.unwrap();
    let node = swarm.local_peer();
    let address = eventually("it listens", || async { swarm.own_addresses().await.unwrap().pop() }).await;
    let address = address.with_p2p(node).unwrap();
    let request = framed(&lenient::to_vec(&Filter::table(table_id(table())).to_request().unwrap()).unwrap());
    let peer = async || {
        let peer = Peer::start(&network);
        peer.connect(&address).await.unwrap();
        peer
    };
    // As many answers as are due come, and say that the node is busy; which of the requests they answer is chance.
    let ask = async |peer: &Peer, requests: usize, refused: usize| {
        let mut answers = FuturesUnordered::new();
        for _ in 0..requests {
            answers.push(peer.begin::<Get>(node, request.clone()).await);
        }
        for _ in 0..refused {
            assert_eq!(status(&answers.next().await.unwrap().unwrap().unwrap()), Status::Busy);
        }
        answers
    };
    let (greedy, modest) = (peer().await, peer().await);
    let mut waiting = vec![ask(&greedy, INBOX_PER_PEER + 10, 10).await];
    assert_eq!(inbox.get.len(), INBOX_PER_PEER);
    waiting.push(ask(&modest, 1, 0).await);
    let filled = async |inbox: &swarm::Inbox, places| {
        until("the requests are in the inbox", || async { inbox.get.len() == places }).await;
    };
    filled(&inbox, INBOX_PER_PEER + 1).await;
    let mut others = Vec::new();
    for place in 2..=INBOX / INBOX_PER_PEER {
        let other = peer().await;
        // The one of the modest peer takes a place that the last of them finds missing.
        let refused = usize::from(place == INBOX / INBOX_PER_PEER);
        waiting.push(ask(&other, INBOX_PER_PEER, refused).await);
        others.push(other);
        filled(&inbox, (place * INBOX_PER_PEER + 1).min(INBOX)).await;
    }
    let late = peer().await;
    drop(ask(&late, 1, 1).await);
    // A place that comes free is anybody's.
    drop(inbox.get.recv().await.unwrap());
    waiting.push(ask(&late, 2, 1).await);
    filled(&inbox, INBOX).await;
    shutdown.cancel();
    task.await.unwrap();
}
