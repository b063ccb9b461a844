//! Who stands between two ends reads nothing, and whatever he changes ends the connection.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use libp2p::{Multiaddr, identity::Keypair, multiaddr::Protocol};
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::bounded::{Blob, List},
        entry::Entry,
        filter::Filter,
        message::{
            get::Get,
            put::{Put, PutRequest},
        },
        network::Network,
    },
    store::Presence,
    swarm::{self, Config, RequestError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

use crate::support::{TestNode, entry, key, network, table, table_id, until};

/// A way through which everything goes: to the node, and back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    There,
    Back,
}

/// Stands in the way to a node, keeps what it sees, and changes one byte of each connection if it is to.
struct Observer {
    address: Multiaddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Observer {
    async fn before(node: &TestNode, flips: Option<(Way, usize)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<u8>>>::default());
        let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", node.node.peer()).parse().unwrap();
        let to = node.address.iter().find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        });
        let keeps = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let node = TcpStream::connect(("127.0.0.1", to.unwrap())).await.unwrap();
                let ((from_client, to_client), (from_node, to_node)) =
                    (client.into_split(), node.into_split());
                let flip = |way| flips.filter(|(flips, _)| *flips == way).map(|(_, at)| at);
                tokio::spawn(pass(from_client, to_node, Arc::clone(&keeps), flip(Way::There)));
                tokio::spawn(pass(from_node, to_client, Arc::clone(&keeps), flip(Way::Back)));
            }
        });
        Self { address, seen }
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    seen: Arc<Mutex<Vec<u8>>>,
    flip: Option<usize>,
) {
    let (mut buffer, mut passed) = (vec![0; 1 << 16], 0);
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let bytes = &mut buffer[..read];
        seen.lock().unwrap().extend_from_slice(bytes);
        if let Some(byte) = flip.and_then(|at| bytes.get_mut(at.checked_sub(passed)?)) {
            *byte ^= 1;
        }
        passed += read;
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// Puts an entry through an observer, and reads it again.
async fn put_and_get(network: &Network, observer: &Observer, entry: &Entry) -> Result<Bytes, RequestError> {
    let shutdown = CancellationToken::new();
    let config = Config::client(network.clone());
    let (swarm, _inbox, task) =
        swarm::start(Keypair::generate_ed25519(), config, shutdown.clone()).await.unwrap();
    let put = PutRequest {
        entries: List::try_from(vec![Blob::try_from(entry.encoded().clone()).unwrap()]).unwrap(),
        keys: List::try_from(vec![Blob::try_from(table().public_key().der().to_vec()).unwrap()]).unwrap(),
    };
    let get = Filter::ids(vec![entry.id()]).to_request().unwrap();
    let through = async {
        let node = swarm.connect_to(observer.address.clone()).await?;
        swarm.request::<Put>(node, put).await?;
        let found = swarm.request::<Get>(node, get).await?;
        Ok(found.entries[0].1.clone().into_inner())
    };
    let got = through.await;
    if got.is_err() {
        until("the connection is over", || async { swarm.status().await.unwrap().peers.is_empty() }).await;
    }
    shutdown.cancel();
    task.await.unwrap();
    got
}

/// An entry of many bytes.
fn long(network: &Network) -> Entry {
    entry(network, table(), key(1).public_key(), &"long ago and far away ".repeat(1000))
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sees_every_byte_sees_no_entry_no_key_and_no_id() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let observer = Observer::before(&node, None).await;
    let entry = long(&network);
    assert_eq!(put_and_get(&network, &observer, &entry).await.unwrap(), *entry.encoded());
    let seen = observer.seen.lock().unwrap().clone();
    let has = |piece: &[u8]| seen.windows(piece.len()).any(|window| window == piece);
    assert!(
        has(b"/noise") && seen.len() > 2 * entry.encoded().len(),
        "{} bytes, all that there were",
        seen.len()
    );
    let pieces = entry.encoded().chunks_exact(16);
    assert!(pieces.len() > 1000);
    for piece in pieces {
        assert!(!has(piece), "a piece of the entry was seen");
    }
    let recipient = key(1).public_key().recipient_id();
    for id in [entry.id().as_bytes(), table_id(table()).as_bytes(), recipient.as_bytes()] {
        assert!(!has(&id[..16]), "an id was seen");
    }
    for key in [table().public_key(), key(1).public_key()] {
        assert!(key.der().chunks_exact(16).skip(2).all(|piece| !has(piece)), "a key was seen");
    }
    // Nor who they are, nor which operations they speak.
    assert!(!has(&node.node.peer().to_bytes()[6..]) && !has(b"p2pdb"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_changed_on_the_way_ends_the_connection_and_nothing_else() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let untouched = Observer::before(&node, None).await;
    let good = long(&network);
    for way in [Way::There, Way::Back] {
        // In the handshake, right behind it, and in the middle of an entry.
        for at in [40, 400, 10_000] {
            let observer = Observer::before(&node, Some((way, at))).await;
            let entry = long(&network);
            let got = put_and_get(&network, &observer, &entry).await;
            assert!(got.is_err(), "{way:?} {at}: {got:?}");
            let known = node.node.store().known(table_id(table()), vec![entry.id()]).await.unwrap();
            // What was changed on the way back had come before.
            assert!(way == Way::Back || known == [Presence::Unknown], "{way:?} {at}: {known:?}");
            assert_eq!(put_and_get(&network, &untouched, &good).await.unwrap(), *good.encoded());
        }
    }
    assert_eq!(node.node.swarm().status().await.unwrap().banned, 0, "nobody is blamed");
    // And all that came is whole.
    assert!((1..=4).contains(&node.entries().await));
}
