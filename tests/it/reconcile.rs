//! Reconciliation in its fast form, and with peers that lie: what they spoil is not stored, and comes from honest ones
//! all the same.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

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
            sync::{Claim, Groups, Question, Sync, SyncRequest, SyncResponse, word_bytes},
        },
        network::Network,
        reconcile::sketch::{Element, Root, Summary, Tow},
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

/// The honest index of who has one entry.
pub(crate) fn index_of(id: EntryId, bits: u8, request: &[u8]) -> IndexResponse {
    let request: IndexRequest = lenient::from_slice(request).unwrap();
    let mut response = IndexResponse::default();
    if request.bucket.is_some() {
        response.ids = List::try_from(vec![id]).unwrap();
    } else {
        response.buckets = List::try_from(vec![summary(&[id], bits)]).unwrap();
    }
    response
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

pub(crate) async fn victim(network: &Network) -> TestNode {
    TestNode::start(network, Mirror::Only(Arc::new(BTreeSet::from([table_id(table())]))), &[]).await
}

pub(crate) async fn fallen(node: &TestNode, peer: &Peer) -> bool {
    let id = peer.id().to_string();
    let status = node.node.swarm().status().await.unwrap();
    status.peers.iter().any(|peer| peer.peer == id && peer.score < 0.0)
}

pub(crate) async fn assert_comes_from_an_honest_node(network: &Network, victim: &TestNode, good: &Entry) {
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

#[tokio::test(flavor = "multi_thread")]
async fn who_brings_nothing_new_does_not_keep_others_waiting() {
    let network = network();
    let victim = TestNode::with(&network, &[], |config| {
        config.mirror = Mirror::Only(Arc::new(BTreeSet::from([table_id(table())])));
        config.sync_patience = Duration::from_secs(5);
    })
    .await;
    let good = entry(&network, table(), key(1).public_key(), "good");
    let (id, bits) = (good.id(), network.bucket_bits);
    // As many as are reconciled with at the same time: each lists an entry, and lets whoever asks for it wait for half a minute, again
    // and again.
    let mut all = Vec::new();
    for _ in 0..4 {
        let key = Keypair::generate_ed25519();
        let record = Blob::try_from(signed_bytes(&key, &network)).unwrap();
        let answer: Answer = Arc::new(move |operation, request| match operation {
            Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
            Index::NAME => ok(index_of(id, bits, request)),
            _ => Vec::new(),
        });
        let (slow, _) = Peer::hanging(&network, key, answer);
        slow.connect(&victim.address).await.unwrap();
        all.push(slow);
    }
    until("it has waited for each of them", || async { totals(&victim).await.sessions >= 4 }).await;
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}

/// A node that other nodes' quotas and its own do not slow down.
async fn unlimited(network: &Network) -> TestNode {
    TestNode::with(network, &[], |config| config.rates.puts = 0).await
}

/// A node that holds these entries and announces none of them: it was started anew since they came.
async fn holding(network: &Network, entries: &[Entry]) -> TestNode {
    let node = unlimited(network).await;
    let client = support::client(network, &[&node.address]).await;
    let to = client.connect(node.address.clone()).await.unwrap();
    for entries in entries.chunks(250) {
        client.put_to(to, entries, table().public_key()).await.unwrap();
    }
    assert_eq!(node.entries().await, entries.len() as u64);
    node.stop().await.start().await
}

/// Entries at the lowest price.
fn entries(network: &Network, count: usize) -> Vec<Entry> {
    (0..count).map(|number| entry(network, table(), key(1).public_key(), &number.to_string())).collect()
}

fn cheap() -> Network {
    Network { work_price: 8, ..network() }
}

pub(crate) async fn totals(node: &TestNode) -> p2pdb::sync::Totals {
    node.node.status().await.unwrap().sync
}

#[tokio::test(flavor = "multi_thread")]
async fn differences_in_both_directions_are_found_by_sketches() {
    let network = cheap();
    let all = entries(&network, 1200);
    for (first, second, decoded) in [(0..700, 500..1200, 1000), (0..25, 20..30, 25)] {
        let a = holding(&network, &all[first.clone()]).await;
        let b = holding(&network, &all[second.clone()]).await;
        a.node.swarm().connect(b.node.peer(), vec![b.address.clone()]).await.unwrap();
        let union = first.start.min(second.start)..first.end.max(second.end);
        until("both have everything", || async {
            a.entries().await == union.len() as u64 && b.entries().await == union.len() as u64
        })
        .await;
        for node in [&a, &b] {
            // What was found counts when the session is over, and the last entries are there a moment earlier.
            until("a sketch was decoded", || async { totals(node).await.decoded > 0 }).await;
            let totals = totals(node).await;
            assert_eq!((totals.buckets_differing, totals.misbehaved), (0, 0), "no bucket was listed");
            assert_eq!(totals.fell_back, 0);
            assert!(totals.decoded <= 2 * decoded, "{totals:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_round_is_one_short_answer() {
    let network = cheap();
    let (a, b) = (holding(&network, &entries(&network, 5)).await, unlimited(&network).await);
    a.node.swarm().connect(b.node.peer(), vec![b.address.clone()]).await.unwrap();
    until("they are level", || async { b.entries().await == 5 }).await;
    let asked = totals(&b).await.requests;
    until("a round after the first", || async { totals(&b).await.requests > asked + 1 }).await;
    let before = totals(&b).await;
    until("idle rounds", || async { totals(&b).await.requests >= before.requests + 2 }).await;
    let after = totals(&b).await;
    let (requests, bytes) = (after.requests - before.requests, after.received_bytes - before.received_bytes);
    assert!(bytes <= 50 * requests, "{bytes} bytes in {requests} answers");
    assert_eq!(after.sessions, before.sessions, "nothing differed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_pages_through_a_full_one() {
    let network = cheap();
    let (a, b) = (holding(&network, &entries(&network, 300)).await, unlimited(&network).await);
    b.node.swarm().connect(a.node.peer(), vec![a.address.clone()]).await.unwrap();
    until("everything came", || async { b.entries().await == 300 }).await;
    let totals = totals(&b).await;
    assert_eq!((totals.fetched, totals.buckets_differing, totals.misbehaved), (300, 0, 0));
}

/// What a liar says of its only entry by sketches.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sketch {
    /// Syndromes and counters of no set.
    Garbage,
    /// Those of an id that no entry has.
    Invented,
    /// The right syndromes with the root of another set.
    WrongRoot,
}

/// A peer that has one entry, lies about it by sketches, and lists and serves it honestly if it is asked for.
fn sketcher(network: &Network, good: &Entry, lie: Sketch) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let (bits, id, encoded) = (network.bucket_bits, good.id(), good.encoded().clone());
    let mut other = *id.as_bytes();
    other[3] ^= 1;
    let claimed = if lie == Sketch::Invented { EntryId::from_bytes(other) } else { id };
    let mut summary = Summary::default();
    summary.insert(&Element::of(&claimed));
    let mut claim = Claim::from(&summary);
    match lie {
        Sketch::Garbage => {
            claim.syndromes = std::array::from_fn(|number| 0x9e37_79b9_7f4a_7c15 << number | 1);
            // Some sixteen differences: few enough to be asked about.
            claim.tow = Tow::from_bytes(&std::array::from_fn(|byte| if byte % 2 == 1 { 4 } else { 0 }));
        }
        Sketch::Invented => {}
        Sketch::WrongRoot => claim.root = Root::from_bytes([1; 16]),
    }
    let answer: Answer = Arc::new(move |operation, request| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Sync::NAME => {
            let request: SyncRequest = lenient::from_slice(request).unwrap();
            let since = request.since;
            ok(match request.question().unwrap() {
                Question::All(_) => {
                    SyncResponse { since, same: vec![None].try_into().ok(), ..Default::default() }
                }
                Question::Tables(_) => SyncResponse {
                    since,
                    same: vec![None].try_into().ok(),
                    differing: vec![claim.clone()].try_into().ok(),
                    groups: None,
                },
                Question::Groups(asked) => {
                    let count = (asked.groups.len() * asked.syndromes.len()) as u64;
                    let syndromes = Blob::try_from(word_bytes(1..=count)).unwrap();
                    let groups = Some(Groups { n: 1, root: claim.root, syndromes });
                    SyncResponse { since, groups, ..Default::default() }
                }
            })
        }
        Index::NAME => ok(index_of(id, bits, request)),
        Get::NAME if lie == Sketch::Invented => ok(served(&[], &[])),
        Get::NAME => ok(served(std::slice::from_ref(&encoded), &[table()])),
        _ => Vec::new(),
    });
    Peer::syncing(network, key, answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lies_by_sketches_is_asked_for_lists() {
    let network = network();
    for lie in [Sketch::Garbage, Sketch::WrongRoot] {
        let victim = victim(&network).await;
        let good = entry(&network, table(), key(1).public_key(), "good");
        let liar = sketcher(&network, &good, lie);
        liar.connect(&victim.address).await.unwrap();
        until(&format!("{lie:?}: the entry comes"), || async { victim.entries().await == 1 }).await;
        let held = victim.node.store().known(table_id(table()), vec![good.id()]).await.unwrap();
        assert_eq!(held, [p2pdb::store::Presence::Stored]);
        until(&format!("{lie:?}: it is counted"), || async { totals(&victim).await.fell_back > 0 }).await;
        assert_eq!(totals(&victim).await.proven, 0, "{lie:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sketches_of_ids_that_are_not_there_count_against_the_peer() {
    let network = network();
    let victim = victim(&network).await;
    let good = entry(&network, table(), key(1).public_key(), "good");
    let liar = sketcher(&network, &good, Sketch::Invented);
    liar.connect(&victim.address).await.unwrap();
    until("the liar is found out", || async { fallen(&victim, &liar).await }).await;
    assert_comes_from_an_honest_node(&network, &victim, &good).await;
}
