//! Peers that answer what a node asks with what is no answer at all: it costs them, and keeps nothing away from the node.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use libp2p::identity::Keypair;
use p2pdb::protocol::{
    codec::{
        bounded::{Blob, List},
        lenient,
    },
    entry::Entry,
    message::{
        Operation, Reply,
        get::Get,
        hello::{Hello, HelloResponse},
        index::{Index, IndexResponse},
        sync::Sync,
    },
    network::Network,
};

use crate::{
    announce::served,
    peer::{Answer, Peer, framed, ok, prefix, signed_bytes},
    reconcile::{assert_comes_from_an_honest_node, fallen, index_of, totals, victim},
    support::{entry, key, network, table, until},
};

/// A peer that has one entry and lists and serves it, but answers one operation with these bytes; and how often it did.
fn spoiler(
    network: &Network,
    good: &Entry,
    spoiled: &'static str,
    bytes: Vec<u8>,
) -> (Peer, Arc<AtomicUsize>) {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let (bits, id, encoded) = (network.bucket_bits, good.id(), good.encoded().clone());
    let asked = Arc::<AtomicUsize>::default();
    let count = Arc::clone(&asked);
    let answer: Answer = Arc::new(move |operation, request| match operation {
        operation if operation == spoiled => {
            count.fetch_add(1, Ordering::Relaxed);
            bytes.clone()
        }
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Index::NAME => ok(index_of(id, bits, request)),
        Get::NAME => ok(served(std::slice::from_ref(&encoded), &[table()])),
        _ => Vec::new(),
    });
    let peer = match spoiled {
        Sync::NAME => Peer::syncing(network, key, answer),
        _ => Peer::serving(network, key, answer),
    };
    (peer, asked)
}

/// What is a reply to nothing.
fn spoiled<O: Operation>() -> Vec<(&'static str, Vec<u8>)> {
    let reply = |body: &[u8]| framed(&[&[0x83, 0x00, 0xf6], body].concat());
    vec![
        ("a length over the limit", prefix(O::MAX_RESPONSE + 1)),
        ("the longest length there is", vec![0xff, 0xff, 0xff, 0x7f]),
        ("a length of five bytes", vec![0xff, 0xff, 0xff, 0xff, 0x01]),
        ("a length not in its shortest form", vec![0x83, 0x00, 0x83, 0x00, 0xf6]),
        ("an empty frame", framed(&[])),
        ("as many bytes as may be, and nothing in them", framed(&vec![0xff; O::MAX_RESPONSE])),
        ("a reply without a body", reply(&[0xf6])),
        ("a body that is a number", reply(&[0x07])),
        ("a list of 2^64 - 1 elements", reply(&[0x9b, 255, 255, 255, 255, 255, 255, 255, 255])),
        ("a map of 2^64 - 1 pairs", reply(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255])),
        ("a byte after the reply", framed(&[0x83, 0x00, 0xf6, 0xa0, 0x00])),
    ]
}

async fn are_blamed<O: Operation>() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), O::NAME);
    let mut banned = 0;
    for (name, bytes) in spoiled::<O>() {
        let (spoiler, asked) = spoiler(&network, &good, O::NAME, bytes);
        spoiler.connect(&victim.address).await.unwrap();
        // A session asks a few times again, which may be enough for a ban.
        until(&format!("{}: {name}: it is found out", O::NAME), || async {
            let now = victim.node.swarm().status().await.unwrap().banned;
            fallen(&victim, &spoiler).await || now > banned
        })
        .await;
        assert!(asked.load(Ordering::Relaxed) > 0, "{}: {name}: it was blamed for this", O::NAME);
        drop(spoiler);
        until("it is gone", || async { victim.node.swarm().status().await.unwrap().peers.is_empty() }).await;
        banned = victim.node.swarm().status().await.unwrap().banned;
    }
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_answer_is_blamed_and_the_entry_comes_from_elsewhere() {
    tokio::join!(are_blamed::<Hello>(), are_blamed::<Index>(), are_blamed::<Get>(), are_blamed::<Sync>());
}

/// Connections break, so that nobody is to blame for an answer that does not come whole; but whoever goes on like that is left alone.
async fn are_left_alone<O: Operation>() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), O::NAME);
    let cut = [
        ("a reply that ends early", [prefix(O::MAX_RESPONSE), vec![0x83, 0x00, 0xf6]].concat()),
        ("a length that ends early", vec![0xff]),
        ("nothing", Vec::new()),
    ];
    for (name, bytes) in cut {
        let (spoiler, asked) = spoiler(&network, &good, O::NAME, bytes);
        spoiler.connect(&victim.address).await.unwrap();
        until(&format!("{}: {name}: a session fails", O::NAME), || async {
            asked.load(Ordering::Relaxed) > 0 && totals(&victim).await.running == 0
        })
        .await;
        assert!(!fallen(&victim, &spoiler).await, "{}: {name}", O::NAME);
        let most = 1 + p2pdb::protocol::reconcile::MAX_FAILURES as usize;
        assert!(asked.load(Ordering::Relaxed) <= most, "{}: {name}: {asked:?}", O::NAME);
    }
    assert_eq!(totals(&victim).await.misbehaved, 0);
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_is_nobodys_fault_and_its_peer_is_not_asked_on_and_on() {
    tokio::join!(are_left_alone::<Index>(), are_left_alone::<Get>(), are_left_alone::<Sync>());
}

/// It would be taken for the answer to the next question.
#[tokio::test(flavor = "multi_thread")]
async fn two_answers_to_one_question_are_one_too_many() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), "twice");
    let twice = framed(&lenient::to_vec(&Reply::Ok(IndexResponse::default())).unwrap()).repeat(2);
    let (spoiler, _) = spoiler(&network, &good, Index::NAME, twice);
    spoiler.connect(&victim.address).await.unwrap();
    let to = spoiler.id();
    until("it is found out", || async {
        let _ = victim.node.swarm().request::<Index>(to, Default::default()).await;
        fallen(&victim, &spoiler).await
    })
    .await;
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}
