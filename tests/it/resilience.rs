//! What goes on when nodes go away, and how one finds the others again.

use std::{collections::BTreeSet, net::TcpListener, sync::Arc, time::Duration};

use libp2p::{Multiaddr, multiaddr::Protocol};
use p2pdb::{
    ingest::Mirror,
    node::NodeConfig,
    protocol::{filter::Filter, id::TableId},
};
use tokio_util::sync::CancellationToken;

use crate::{
    peer::Peer,
    support::{TestNode, client, entry, key, network, table, table_id, until},
};

fn only(table: TableId) -> Mirror {
    Mirror::Only(Arc::new(BTreeSet::from([table])))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_node_took_is_served_by_the_others_and_followers_notice_nothing() {
    let network = network();
    let table_of = table_id(table());
    let a = TestNode::start(&network, only(table_of), &[]).await;
    let bootstrap = [a.address.clone()];
    let b = TestNode::start(&network, only(table_of), &bootstrap).await;
    let c = TestNode::start(&network, only(table_of), &bootstrap).await;
    let reader = client(&network, &[&a.address, &b.address, &c.address]).await;
    let mut news = reader.follow(Filter::table(table_of)).unwrap();
    let poster = client(&network, &[&a.address]).await;
    let put = async |node: &TestNode, text: &str| {
        let entry = entry(&network, table(), key(1).public_key(), text);
        let to = poster.connect(node.address.clone()).await.unwrap();
        let outcomes = poster.put_to(to, std::slice::from_ref(&entry), table().public_key()).await.unwrap();
        assert!(outcomes[0].is_held());
        entry.id()
    };
    let before = put(&c, "before").await;
    assert_eq!(news.next().await.unwrap().id(), before);
    for node in [&a, &b] {
        until("the entry is on the others", || async { node.entries().await == 1 }).await;
    }
    let stopped = c.node.peer();
    drop(c.stop().await);
    let after = put(&a, "after").await;
    assert_eq!(news.next().await.unwrap().id(), after);
    until("the entry is on the other", || async { b.entries().await == 2 }).await;

    let found = reader.get(&Filter::table(table_of)).await.unwrap();
    assert!(!found.nodes.contains(&stopped));
    let expected = BTreeSet::from([before, after]);
    assert_eq!(found.entries.iter().map(|entry| entry.id()).collect::<BTreeSet<_>>(), expected);
    // Each of those that are left has all.
    for node in [&a, &b] {
        let found = reader.get_all(node.node.peer(), &Filter::table(table_of)).await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.id()).collect::<BTreeSet<_>>(), expected);
    }
}

/// A way to an address that can be cut: then nothing comes through any more, and nobody is told.
async fn cuttable(to: Multiaddr) -> (Multiaddr, CancellationToken) {
    let port = |address: &Multiaddr| {
        address.iter().find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        })
    };
    let to = port(&to).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    let cut = CancellationToken::new();
    let is_cut = cut.clone();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let is_cut = is_cut.clone();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = is_cut.cancelled() => std::future::pending().await,
                }
            });
        }
    });
    (address.parse().unwrap(), cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_to_a_host_that_is_gone_without_a_word_is_given_up() {
    let network = network();
    let quick = |config: &mut NodeConfig| config.swarm.heartbeat = Duration::from_millis(300);
    let a = TestNode::with(&network, &[], quick).await;
    let (way, cut) = cuttable(a.address.clone()).await;
    let b = TestNode::with(&network, std::slice::from_ref(&way), quick).await;
    let other = Peer::start(&network);
    other.connect(&b.address).await.unwrap();
    let goes_that_way = async || {
        let peers = b.node.swarm().status().await.unwrap().peers;
        peers.iter().any(|peer| peer.address.starts_with(&way.to_string()))
    };
    until("b has dialed a", &goes_that_way).await;
    cut.cancel();
    until("b has given it up", || async { !goes_that_way().await }).await;
    // Who does not speak the protocol of heartbeats may be there all the same.
    let peers = b.node.swarm().status().await.unwrap().peers;
    assert!(peers.iter().any(|peer| peer.peer == other.id().to_string()), "{peers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_its_peers_by_its_routes_after_a_restart() {
    let network = network();
    let a = TestNode::start(&network, Mirror::All, &[]).await;
    let b = TestNode::start(&network, Mirror::All, std::slice::from_ref(&a.address)).await;
    until("b has met a", || async { b.node.routes().of(&a.node.peer()).is_some_and(|route| route.met) })
        .await;
    let b = b.stop().await.without_bootstrap().start().await;
    until("b has dialed a again", || async {
        let peers = b.node.swarm().status().await.unwrap().peers;
        // It listens on another port now, so that a cannot have dialed it.
        peers.iter().any(|peer| peer.peer == a.node.peer().to_string() && !peer.inbound)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_a_mirror_through_a_node_that_is_none() {
    let network = network();
    let (wanted, other) = (table_id(table()), table_id(key(3)));
    let stranger = TestNode::start(&network, only(other), &[]).await;
    let mirror = TestNode::start(&network, only(wanted), std::slice::from_ref(&stranger.address)).await;
    until("they know each other", || async { !stranger.node.routes().is_empty() }).await;
    let poster = client(&network, &[&stranger.address]).await;
    let entry = entry(&network, table(), key(1).public_key(), "found");
    let report = poster.put(&entry, table().public_key()).await.unwrap();
    assert_eq!(report.holders().collect::<Vec<_>>(), [mirror.node.peer()], "{report:?}");
    assert_eq!((mirror.entries().await, stranger.entries().await), (1, 0));
    poster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_dht_knows_a_mirror_that_joined_through_another_node() {
    let network = network();
    let (wanted, other) = (table_id(table()), table_id(key(3)));
    let stranger = TestNode::start(&network, only(other), &[]).await;
    let mirror = TestNode::start(&network, only(wanted), std::slice::from_ref(&stranger.address)).await;
    let peer = mirror.node.peer();
    let client = client(&network, &[&stranger.address]).await;
    until("the DHT names the mirror", || async {
        client.swarm().mirrors(wanted).await.is_ok_and(|found| found.contains(&peer))
    })
    .await;
    client.stop().await;
    drop(mirror.stop().await);
    // The mirror is gone: who names it now was told by it, and keeps the record for others.
    let late = crate::support::client(&network, &[&stranger.address]).await;
    until("the other node keeps the record", || async {
        late.swarm().mirrors(wanted).await.is_ok_and(|found| found.contains(&peer))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_connected_learns_of_an_address_that_comes_later() {
    let network = network();
    // Whoever relays has to know where it is before it listens there.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let relay = TestNode::with(&network, &[], |config| {
        config.swarm.listen = vec![address.clone()];
        config.swarm.external = vec![address];
        config.swarm.nat.relay_server = true;
    })
    .await;
    let hidden = TestNode::with(&network, std::slice::from_ref(&relay.address), |config| {
        config.swarm.nat.relay_client = true;
        config.swarm.relay_patience = Duration::ZERO;
    })
    .await;
    until("the relay can tell others of the way through it", || async {
        let route = relay.node.routes().of(&hidden.node.peer());
        let is_relayed = |address: &Multiaddr| address.iter().any(|part| part == Protocol::P2pCircuit);
        route.is_some_and(|route| route.addresses().any(|address| is_relayed(&address)))
    })
    .await;
}
