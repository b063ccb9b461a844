//! Twenty nodes, each a process of its own: how often each of them fetches what one of them is given.

use std::fs;

use p2pdb::{
    client::{Client, ClientConfig},
    protocol::network::NetworkFile,
};

use crate::{
    cli::Home,
    cli_nodes::{Node, status, until},
    support::{entry, key, table},
};

const NODES: usize = 20;
const ENTRIES: usize = 12;
/// Nodes that each has to be connected with before the first entry comes.
const NEIGHBOURS: usize = 4;

/// Copies that came to a node otherwise than by a put.
fn fetched(status: &serde_json::Value) -> u64 {
    status["gate"]["announced"].as_u64().unwrap() + status["gate"]["reconciled"].as_u64().unwrap()
}

#[test]
fn each_of_twenty_processes_fetches_an_entry_once() {
    let homes: Vec<Home> = (0..NODES).map(|_| Home::dev()).collect();
    let mut nodes: Vec<Node> = Vec::new();
    for (number, home) in homes.iter().enumerate() {
        let mut args = vec!["--set", "sync_interval=1 hours"];
        // The one before, one half way, and the first.
        for known in [number.checked_sub(1), Some(number / 2), Some(0)].into_iter().flatten() {
            if let Some(node) = nodes.get(known) {
                args.extend(["--bootstrap", &node.address]);
            }
        }
        let node = Node::run(home, &args);
        nodes.push(node);
    }
    until("meeting", || {
        let peers = |home| status(home)["swarm"]["peers"].as_array().unwrap().len();
        homes.iter().all(|home| peers(home) >= NEIGHBOURS)
    });

    let file = fs::read_to_string(homes[0].root().join("network.toml")).unwrap();
    let file = NetworkFile::parse(&file).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client =
            Client::start(ClientConfig { nodes: 1, ..ClientConfig::new(&file).unwrap() }).await.unwrap();
        for number in 0..ENTRIES {
            let node = client.connect(nodes[number * 7 % NODES].address.parse().unwrap()).await.unwrap();
            let entry = entry(&file.network, table(), key(1).public_key(), &format!("number {number}"));
            let outcomes = client.put_to(node, &[entry], table().public_key()).await.unwrap();
            assert_eq!(outcomes[0].name(), "stored");
        }
        client.stop().await;
    });
    until("arrival everywhere", || homes.iter().all(|home| status(home)["entries"] == ENTRIES));

    let mut copies = 0;
    for home in &homes {
        let status = status(home);
        copies += fetched(&status);
        assert_eq!(status["gate"]["verified"], ENTRIES, "each entry is verified once: {}", status["gate"]);
    }
    let wanted = (NODES - 1) * ENTRIES;
    println!("{NODES} processes, {ENTRIES} entries: {copies} fetched for {wanted} that spread");
    assert!(copies >= wanted as u64);
    // The first entry may come twice: its table is announced too.
    let most = (wanted + wanted / 10 + NODES) as u64;
    assert!(copies <= most, "{copies} copies for {wanted} that spread, at most {most}");
    for node in nodes {
        assert_eq!(node.stop(), Some(0));
    }
}
