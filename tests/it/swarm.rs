//! Nodes meet, take entries, tell each other, and serve them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use p2pdb::{
    ingest::Mirror,
    protocol::{filter::Filter, seal},
};

use crate::support::{self, TestNode, client, entry, key, network, table, table_id, until};

async fn three(mirror: Mirror) -> [TestNode; 3] {
    let network = network();
    let a = TestNode::start(&network, mirror.clone(), &[]).await;
    let bootstrap = [a.address.clone()];
    let b = TestNode::start(&network, mirror.clone(), &bootstrap).await;
    let c = TestNode::start(&network, mirror, &bootstrap).await;
    [a, b, c]
}

fn only(tables: &[p2pdb::protocol::id::TableId]) -> Mirror {
    Mirror::Only(Arc::new(tables.iter().copied().collect::<BTreeSet<_>>()))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_put_on_one_node_is_read_from_another_by_its_recipient() {
    let network = network();
    let [a, b, c] = three(only(&[table_id(table())])).await;
    let recipient = key(1);
    let entry = entry(&network, table(), recipient.public_key(), "hello");

    let poster = client(&network, &[&a.address]).await;
    let node = poster.connect(a.address.clone()).await.unwrap();
    let outcomes = poster.put_to(node, std::slice::from_ref(&entry), table().public_key()).await.unwrap();
    assert_eq!(outcomes, [p2pdb::protocol::refusal::Outcome::Stored]);
    for other in [&b, &c] {
        until("the entry is everywhere", || async { other.entries().await == 1 }).await;
    }

    let reader = client(&network, &[&c.address]).await;
    let filter = Filter::recipient(recipient.public_key().recipient_id()).with_table(table_id(table()));
    let found = reader.get(&filter).await.unwrap();
    assert_eq!(found.entries.len(), 1);
    let opened = seal::open(&found.entries[0], recipient).unwrap();
    assert_eq!(opened.content.data, b"hello");
    assert!(seal::open(&found.entries[0], key(2)).is_err());
    poster.stop().await;
    reader.stop().await;
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_finds_mirrors_it_was_not_told_of_and_puts_to_three() {
    let network = network();
    let [a, b, c] = three(Mirror::All).await;
    for node in [&a, &b, &c] {
        until("the nodes know each other", || async { node.node.routes().len() == 2 }).await;
    }
    let client = client(&network, &[&b.address]).await;
    let entry = entry(&network, table(), key(1).public_key(), "three times");
    until("the client sees three nodes", || async {
        client.nodes(&[table_id(table())], 3).await.is_ok_and(|nodes| nodes.len() == 3)
    })
    .await;
    let report = client.put(&entry, table().public_key()).await.unwrap();
    assert_eq!(report.holders().count(), 3, "{report:?}");
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_late_and_one_that_was_away_catch_up() {
    let network = network();
    let a = TestNode::start(&network, Mirror::All, &[]).await;
    let b = TestNode::start(&network, Mirror::All, std::slice::from_ref(&a.address)).await;
    let client = client(&network, &[&a.address]).await;
    let node = client.connect(a.address.clone()).await.unwrap();
    let put = async |text: String| {
        let entry = entry(&network, table(), key(1).public_key(), &text);
        let outcomes = client.put_to(node, &[entry], table().public_key()).await.unwrap();
        assert!(outcomes[0].is_held());
    };
    for number in 0..20 {
        put(format!("before {number}")).await;
    }
    until("b has what was put", || async { b.entries().await == 20 }).await;
    let away = b.stop().await;
    for number in 0..20 {
        put(format!("meanwhile {number}")).await;
    }
    let back = away.start().await;
    let late = TestNode::start(&network, Mirror::All, std::slice::from_ref(&a.address)).await;
    for node in [&back, &late] {
        until("they catch up", || async { node.entries().await == 40 }).await;
    }
    let index = async |node: &TestNode| node.node.store().index(table_id(table()), 0).await.unwrap();
    assert_eq!(index(&a).await, index(&back).await);
    assert_eq!(index(&a).await, index(&late).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partial_mirror_never_stores_another_table() {
    let network = network();
    let (one, other) = (table(), key(3));
    let full = TestNode::start(&network, Mirror::All, &[]).await;
    let part = TestNode::start(&network, only(&[table_id(one)]), std::slice::from_ref(&full.address)).await;
    let client = client(&network, &[&full.address]).await;
    let node = client.connect(full.address.clone()).await.unwrap();
    for number in 0..10 {
        for table in [one, other] {
            let entry = entry(&network, table, key(1).public_key(), &format!("{number}"));
            let outcomes = client.put_to(node, &[entry], table.public_key()).await.unwrap();
            assert!(outcomes[0].is_held());
        }
    }
    until("the part arrives", || async { part.entries().await == 10 }).await;
    let store = part.node.store();
    assert_eq!(
        store.index(table_id(one), 0).await.unwrap(),
        full.node.store().index(table_id(one), 0).await.unwrap()
    );
    assert!(store.index(table_id(other), 0).await.unwrap().buckets.is_empty());
    let direct = client.connect(part.address.clone()).await.unwrap();
    let refused = support::entry(&network, other, key(1).public_key(), "not here");
    let outcomes = client.put_to(direct, &[refused], other.public_key()).await.unwrap();
    assert_eq!(outcomes[0].name(), "table_not_mirrored");
    assert_eq!(part.entries().await, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_hears_of_entries_as_they_come() {
    let network = network();
    let [a, b, _c] = three(only(&[table_id(table())])).await;
    let reader = client(&network, &[&b.address]).await;
    let mut news = reader.follow(Filter::table(table_id(table()))).unwrap();
    let poster = client(&network, &[&a.address]).await;
    let node = poster.connect(a.address.clone()).await.unwrap();
    for number in 0..5 {
        let entry = entry(&network, table(), key(1).public_key(), &format!("news {number}"));
        poster.put_to(node, std::slice::from_ref(&entry), table().public_key()).await.unwrap();
        assert_eq!(news.next().await.unwrap().id(), entry.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_nobody_can_dial_is_reached_through_a_relay() {
    let network = network();
    let relay = TestNode::with(&network, &[], |config| {
        config.swarm.nat.relay_server = true;
        // A relay tells its clients how it is reached; here it is known beforehand.
        let port = free_port();
        config.swarm.listen = vec![format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()];
        config.swarm.external = config.swarm.listen.clone();
    })
    .await;
    let hidden = TestNode::with(&network, std::slice::from_ref(&relay.address), |config| {
        config.swarm.nat.relay_client = true;
        config.swarm.relay_patience = Duration::ZERO;
    })
    .await;
    let circuit = support::eventually("the hidden node has an address at the relay", || async {
        let addresses = hidden.node.addresses().await.unwrap();
        addresses.into_iter().find(|address| address.to_string().contains("p2p-circuit"))
    })
    .await;
    let client = client(&network, &[]).await;
    assert_eq!(client.connect(circuit).await.unwrap(), hidden.node.peer());
    let entry = entry(&network, table(), key(1).public_key(), "around the corner");
    let outcomes = client.put_to(hidden.node.peer(), &[entry], table().public_key()).await.unwrap();
    assert_eq!(outcomes[0].name(), "stored");
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
