//! Reconciliation with peers that lie: what they spoil is not stored, and comes from honest ones all the same.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use libp2p::identity::Keypair;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        bucket::{BucketSummary, bucket_of, digest},
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        entry::Entry,
        id::EntryId,
        message::{
            Operation,
            get::Get,
            hello::{Hello, HelloResponse},
            index::{Index, IndexRequest, IndexResponse},
        },
        network::Network,
    },
};

use crate::{
    announce::served,
    peer::{Answer, Peer, ok, signed_bytes},
    refusals::Parts,
    support::{self, TestNode, entry, key, network, table, table_id, until},
};

/// How a peer lists an id, and what it then serves.
#[derive(Clone)]
struct Lie {
    ids: Vec<EntryId>,
    more: bool,
    since: u64,
    entries: Vec<Bytes>,
}

fn summary(ids: &[EntryId], bits: u8) -> BucketSummary {
    BucketSummary { bucket: bucket_of(&ids[0], bits), count: ids.len() as u64, digest: digest(ids.iter()) }
}

/// A peer that introduces itself well, claims one bucket, and goes on as the lie says.
fn liar(network: &Network, claim: EntryId, lie: Lie) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let bits = network.bucket_bits;
    let answer: Answer = Arc::new(move |operation, request| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Index::NAME => {
            let request: IndexRequest = lenient::from_slice(request).unwrap();
            let mut response = IndexResponse { since: lie.since, ..Default::default() };
            if request.bucket.is_some() {
                response.ids = List::try_from(lie.ids.clone()).unwrap();
                response.more = lie.more;
            } else {
                response.buckets = List::try_from(vec![summary(&[claim], bits)]).unwrap();
            }
            ok(response)
        }
        Get::NAME => ok(served(&lie.entries, &[table()])),
        _ => Vec::new(),
    });
    Peer::serving(network, key, answer)
}

async fn victim(network: &Network) -> TestNode {
    TestNode::start(network, Mirror::Only(Arc::new(BTreeSet::from([table_id(table())]))), &[]).await
}

async fn fallen(node: &TestNode, peer: &Peer) -> bool {
    let id = peer.id().to_string();
    let status = node.node.swarm().status().await.unwrap();
    status.peers.iter().any(|peer| peer.peer == id && peer.score < 0.0)
}

async fn assert_comes_from_an_honest_node(network: &Network, victim: &TestNode, good: &Entry) {
    let stats = victim.node.store().stats().await.unwrap();
    assert_eq!((stats.entries, stats.dropped), (0, 0));
    let honest = TestNode::start(network, Mirror::All, &[]).await;
    let client = support::client(network, &[&honest.address]).await;
    let to = client.connect(honest.address.clone()).await.unwrap();
    client.put_to(to, std::slice::from_ref(good), table().public_key()).await.unwrap();
    victim.node.swarm().connect(honest.node.peer(), vec![honest.address.clone()]).await.unwrap();
    until("the honest entry comes", || async { victim.entries().await == 1 }).await;
    let known = victim.node.store().known(table_id(table()), vec![good.id()]).await.unwrap();
    assert_eq!(known, [p2pdb::store::Presence::Stored]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_entry_does_not_keep_the_honest_one_away() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), "good");
    let parts = Parts::of(&good);
    let spoiled = [
        ("signature", parts.change(|p| p.signature[100] ^= 4).bytes()),
        ("work", parts.change(|p| p.work.truncate(8)).bytes()),
        ("body", parts.change(|p| p.body[3] ^= 4).bytes()),
        ("end", good.encoded().slice(..good.encoded().len() - 1)),
        ("a byte too many", [&good.encoded()[..], &[0]].concat().into()),
    ];
    for (misbehaved, (name, bytes)) in (1..).zip(spoiled) {
        let lie = Lie { ids: vec![good.id()], more: false, since: 0, entries: vec![bytes] };
        let liar = liar(&network, good.id(), lie);
        liar.connect(&victim.address).await.unwrap();
        until(&format!("{name}: the liar is found out"), || async { fallen(&victim, &liar).await }).await;
        assert_eq!(victim.node.status().await.unwrap().sync.misbehaved, misbehaved, "{name}");
    }
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_against_the_rules_and_empty_promises_count_against_the_peer() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), "good");
    let id = good.id();
    let next_to = |by: u8| {
        let mut bytes = *id.as_bytes();
        bytes[31] ^= by;
        EntryId::from_bytes(bytes)
    };
    let mut elsewhere = *id.as_bytes();
    elsewhere[0] ^= 0x80;
    let mut pair = vec![next_to(1), id];
    pair.sort_unstable_by(|a, b| b.cmp(a));
    let lie = |ids: Vec<EntryId>| Lie { ids, more: false, since: 0, entries: Vec::new() };
    let lies = [
        ("descending ids", lie(pair)),
        ("an id twice", lie(vec![id, id])),
        ("an id of another bucket", lie(vec![EntryId::from_bytes(elsewhere)])),
        ("an empty page with more to come", Lie { more: true, ..lie(Vec::new()) }),
        ("a scope inside of an epoch", Lie { since: 1, ..lie(vec![id]) }),
        ("an id that is not served", lie(vec![id])),
        ("ids that are not there", lie(vec![next_to(1)])),
    ];
    for (name, lie) in lies {
        let liar = liar(&network, id, lie);
        liar.connect(&victim.address).await.unwrap();
        until(&format!("{name}: the liar is found out"), || async { fallen(&victim, &liar).await }).await;
    }
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}
