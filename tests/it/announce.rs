//! Announces: only what was fetched from the announcer and verified is stored and passed on.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use libp2p::identity::Keypair;
use p2pdb::{
    ingest::{Mirror, Way},
    protocol::{
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        entry::Entry,
        filter::Cursor,
        id::{EntryId, TableId},
        keys::PrivateKey,
        message::{
            Operation, Reply,
            announce::{self, Announce},
            get::{Get, GetRequest, GetResponse},
            hello::{Hello, HelloResponse},
            put::{Put, PutRequest},
        },
        network::Network,
        refusal::Outcome,
    },
    swarm::Topic,
};
use tokio::time::timeout;

use crate::{
    peer::{Answer, Hung, Peer, framed, ok, said, signed_bytes},
    refusals::Parts,
    support::{TestNode, entry, key, mine, network, now, sealed_until, table, table_id, until},
};

/// A get response with these entries, whatever was asked for.
pub(crate) fn served(entries: &[Bytes], keys: &[&PrivateKey]) -> GetResponse {
    let blob = |key: &&PrivateKey| Blob::try_from(key.public_key().der().to_vec()).unwrap();
    let entries = entries.iter().zip(1..).map(|(entry, at)| (at, Blob::try_from(entry.clone()).unwrap()));
    GetResponse {
        entries: List::try_from(entries.collect::<Vec<_>>()).unwrap(),
        keys: List::try_from(keys.iter().map(blob).collect::<Vec<_>>()).unwrap(),
        next: Cursor { store: [1; 8], arrival: 1 },
        more: false,
    }
}

/// A peer that introduces itself well and serves these entries for whichever ids it is asked for.
fn liar(network: &Network, entries: Vec<Bytes>) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Get::NAME => ok(served(&entries, &[table()])),
        _ => Vec::new(),
    });
    Peer::serving(network, key, answer)
}

/// A peer that introduces itself well and lets every get hang.
fn mute(network: &Network) -> (Peer, Arc<Hung>) {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let answer: Answer = Arc::new(move |operation, _| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        _ => Vec::new(),
    });
    Peer::hanging(network, key, answer)
}

/// A peer that serves exactly what it has.
fn honest(network: &Network, entry: &Entry) -> Peer {
    let key = Keypair::generate_ed25519();
    let record = Blob::try_from(signed_bytes(&key, network)).unwrap();
    let (id, encoded) = (entry.id(), entry.encoded().clone());
    let answer: Answer = Arc::new(move |operation, request| match operation {
        Hello::NAME => ok(HelloResponse { record: record.clone(), records: List::default() }),
        Get::NAME => {
            let request: GetRequest = lenient::from_slice(request).unwrap();
            // By its id, or by its table alone.
            let asked = request.ids.is_none_or(|ids| ids.contains(&id));
            ok(served(if asked { std::slice::from_ref(&encoded) } else { &[] }, &[table()]))
        }
        _ => Vec::new(),
    });
    Peer::serving(network, key, answer)
}

async fn score(node: &TestNode, peer: &Peer) -> Option<f64> {
    let id = peer.id().to_string();
    node.node
        .swarm()
        .status()
        .await
        .unwrap()
        .peers
        .into_iter()
        .find(|peer| peer.peer == id)
        .map(|peer| peer.score)
}

async fn put(peer: &Peer, node: &TestNode, entry: &Entry) {
    let request = PutRequest {
        entries: List::try_from(vec![Blob::try_from(entry.encoded().clone()).unwrap()]).unwrap(),
        keys: List::try_from(vec![Blob::try_from(table().public_key().der().to_vec()).unwrap()]).unwrap(),
    };
    let Reply::Ok(response) = peer.request::<Put>(node.node.peer(), &request).await else {
        panic!("no reply")
    };
    assert_eq!(response.outcomes.iter().copied().collect::<Vec<_>>(), [Outcome::Stored.code()]);
}

async fn node(network: &Network) -> TestNode {
    TestNode::start(network, Mirror::Only(Arc::new(BTreeSet::from([table_id(table())]))), &[]).await
}

/// A peer that hears the announces of the table.
async fn observer(network: &Network, node: &TestNode) -> Peer {
    let observer = Peer::start(network);
    observer.connect(&node.address).await.unwrap();
    observer.subscribe(table_id(table())).await;
    observer
}

async fn is_unknown(node: &TestNode, table: TableId, id: EntryId) -> bool {
    let known = node.node.store().known(table, vec![id]).await.unwrap();
    known == [p2pdb::store::Presence::Unknown]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_verified_is_not_passed_on_and_the_honest_entry_still_comes() {
    let network = network();
    let node = node(&network).await;
    let table_of = table_id(table());
    let mut observer = observer(&network, &node).await;

    let wanted = entry(&network, table(), key(1).public_key(), "wanted");
    let other = entry(&network, table(), key(1).public_key(), "other");
    put(&observer, &node, &other).await;
    assert_eq!(observer.hears().await, [other.id()]);
    let parts = Parts::of(&wanted);
    let lies: [(&str, Vec<Bytes>); 6] = [
        ("a broken signature", vec![parts.change(|p| p.signature[9] ^= 1).bytes()]),
        ("no work", vec![parts.change(|p| p.work.clear()).bytes()]),
        ("half of it", vec![wanted.encoded().slice(..wanted.encoded().len() / 2)]),
        ("nothing", vec![]),
        ("another entry, known already", vec![other.encoded().clone()]),
        (
            "a broken one behind the honest one of another",
            vec![other.encoded().clone(), parts.change(|p| p.body[0] ^= 1).bytes()],
        ),
    ];
    for (times, (name, entries)) in (1..).zip(lies) {
        let liar = liar(&network, entries);
        liar.connect(&node.address).await.unwrap();
        liar.subscribe(table_of).await;
        // Gossip takes each message once: each liar says it in another way.
        let mut ids = vec![other.id(); times];
        ids.push(wanted.id());
        liar.announce(table_of, &ids).await;
        until(&format!("{name} counts against the liar"), || async {
            score(&node, &liar).await.is_some_and(|score| score < 0.0)
        })
        .await;
        assert!(is_unknown(&node, table_of, wanted.id()).await, "{name}");
    }
    let friend = honest(&network, &wanted);
    friend.connect(&node.address).await.unwrap();
    friend.subscribe(table_of).await;
    friend.announce(table_of, &[wanted.id()]).await;
    // The first that the observer hears since then: none of the lies was passed on.
    assert_eq!(observer.hears().await, [wanted.id()]);
    assert!(!is_unknown(&node, table_of, wanted.id()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_announce_is_not_passed_on() {
    let network = network();
    let node = node(&network).await;
    let table_of = table_id(table());
    let mut observer = observer(&network, &node).await;
    let too_many =
        lenient::to_vec(&List::<_, 65>::try_from(vec![EntryId::from_bytes([7; 32]); 65]).unwrap()).unwrap();
    let no_ids =
        [vec![0x80], vec![0x9b; 9], too_many, vec![0x81, 0x41, 7], Vec::from(*b"hello"), vec![0x80, 0]];
    for data in no_ids {
        let peer = Peer::start(&network);
        peer.connect(&node.address).await.unwrap();
        peer.subscribe(table_of).await;
        peer.announce_raw(table_of, data.clone()).await;
        until(&format!("{data:02x?} counts against the peer"), || async {
            score(&node, &peer).await.is_some_and(|score| score < 0.0)
        })
        .await;
    }
    let good = entry(&network, table(), key(1).public_key(), "good");
    put(&observer, &node, &good).await;
    assert_eq!(observer.hears().await, [good.id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_part_in_as_many_topics_as_may_be_hears_of_each() {
    let network = network();
    let node = node(&network).await;
    let mut observer = Peer::start(&network);
    observer.subscribe(table_id(table())).await;
    for number in 0..1022_u16 {
        let mut id = [7; 32];
        id[..2].copy_from_slice(&number.to_be_bytes());
        observer.subscribe(TableId::from_bytes(id)).await;
    }
    observer.subscribe_to_new_tables().await;
    // It says all of them in one frame.
    observer.connect(&node.address).await.unwrap();
    let entry = entry(&network, table(), key(1).public_key(), "one of many");
    put(&observer, &node, &entry).await;
    assert_eq!(observer.hears().await, [entry.id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_gone_leaves_its_place_in_the_gossip_to_another() {
    let network = network();
    let node = TestNode::with(&network, &[], |config| config.max_tables = 1).await;
    let admit = async |entry: &Entry, table: &PrivateKey| {
        let keys = vec![Bytes::copy_from_slice(table.public_key().der())];
        node.node.gate().admit(Way::Put, vec![entry.encoded().clone()], keys).await[0].outcome
    };
    let short = sealed_until(&network, key(2), key(1).public_key(), "short", Some(now() + 3));
    let short = mine(&network, &short);
    assert_eq!(admit(&short, key(2)).await, Outcome::Stored);
    let first = entry(&network, table(), key(1).public_key(), "first");
    until("there is room for another table", || async {
        node.node.store().sweep().await.unwrap();
        admit(&first, table()).await == Outcome::Stored
    })
    .await;
    let second = entry(&network, table(), key(1).public_key(), "second");
    let announcer = honest(&network, &second);
    announcer.connect(&node.address).await.unwrap();
    announcer.announce(table_id(table()), &[second.id()]).await;
    until("what is announced of it is fetched", || async { node.entries().await == 2 }).await;
}

/// Three full mirrors in a row, A - B - C, none of which reconciles again after they have met.
async fn a_row(network: &Network) -> [TestNode; 3] {
    let start = async |bootstrap: Option<&TestNode>, incoming, outgoing| {
        let bootstrap: Vec<_> = bootstrap.iter().map(|node| node.address.clone()).collect();
        TestNode::with(network, &bootstrap, |config| {
            config.sync_interval = Duration::from_secs(3600);
            config.swarm.limits.established_incoming = incoming;
            config.swarm.limits.established_outgoing = outgoing;
        })
        .await
    };
    let a = start(None, 1, 0).await;
    let b = start(Some(&a), 8, 1).await;
    until("A and B have met", || async { a.node.routes().len() == 1 && b.node.routes().len() == 1 }).await;
    let c = start(Some(&b), 8, 1).await;
    until("B and C have met", || async { b.node.routes().len() == 2 && !c.node.routes().is_empty() }).await;
    [a, b, c]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_reaches_full_mirrors_at_once() {
    let network = network();
    let [a, b, c] = a_row(&network).await;
    let first = entry(&network, key(2), key(1).public_key(), "the first of its table");
    let keys = vec![Bytes::copy_from_slice(key(2).public_key().der())];
    let judgements = a.node.gate().admit(Way::Put, vec![first.encoded().clone()], keys).await;
    assert_eq!(judgements[0].outcome, Outcome::Stored);
    for node in [&b, &c] {
        until("the table is there", || async { node.entries().await == 1 }).await;
        assert_eq!(node.node.sync_totals().fetched, 0, "it came by announce");
    }
    let status = c.node.swarm().status().await.unwrap();
    assert!(status.peers.iter().all(|peer| peer.peer != a.node.peer().to_string()), "A and C never met");
    // From now on they take part in what is said of the table.
    let second = entry(&network, key(2), key(1).public_key(), "the second");
    a.node.gate().admit(Way::Put, vec![second.encoded().clone()], Vec::new()).await;
    until("the second is there too", || async { c.entries().await == 2 }).await;
    assert_eq!(c.node.sync_totals().fetched, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_nobody_has_are_not_passed_on() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let mut observer = Peer::start(&network);
    observer.connect(&node.address).await.unwrap();
    observer.subscribe_to_new_tables().await;
    let stranger = entry(&network, key(3), key(1).public_key(), "of another table");
    let spoiled = Parts::of(&stranger).change(|p| p.signature[9] ^= 1).bytes();
    let lies: [(&str, Vec<Bytes>); 3] = [
        ("no entries", vec![]),
        ("a spoiled entry", vec![spoiled]),
        ("an entry of another table", vec![stranger.encoded().clone()]),
    ];
    for (number, (name, entries)) in (1..).zip(lies) {
        let liar = liar(&network, entries);
        liar.connect(&node.address).await.unwrap();
        liar.subscribe_to_new_tables().await;
        liar.announce_tables(&[TableId::from_bytes([number; 32])]).await;
        until(&format!("{name} counts against the liar"), || async {
            score(&node, &liar).await.is_some_and(|score| score < 0.0)
        })
        .await;
    }
    let friend = honest(&network, &entry(&network, table(), key(1).public_key(), "wanted"));
    friend.connect(&node.address).await.unwrap();
    friend.subscribe_to_new_tables().await;
    friend.announce_tables(&[table_id(table())]).await;
    // The first that the observer hears: none of the lies was passed on.
    assert_eq!(observer.hears_of_tables().await, [table_id(table())]);
    assert!(node.entries().await >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_its_announcer_does_not_have_is_got_from_the_next() {
    let network = network();
    let node = node(&network).await;
    let table_of = table_id(table());
    let mut observer = observer(&network, &node).await;
    let wanted = entry(&network, table(), key(1).public_key(), "wanted");
    let friend = honest(&network, &wanted);
    friend.connect(&node.address).await.unwrap();
    friend.subscribe(table_of).await;
    until("the friend takes part in the mesh", || async {
        node.node.swarm().forwarders(Topic::Entries(table_of)).await.contains(&friend.id())
    })
    .await;
    let liar = liar(&network, Vec::new());
    liar.connect(&node.address).await.unwrap();
    liar.subscribe(table_of).await;
    liar.announce(table_of, &[wanted.id()]).await;
    // Who said it first does not matter to who is told: it is true.
    assert_eq!(observer.hears().await, [wanted.id()]);
    assert!(!is_unknown(&node, table_of, wanted.id()).await);
    assert!(score(&node, &liar).await.is_some_and(|score| score < 0.0));
    assert!(score(&node, &friend).await.is_some_and(|score| score >= 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lets_fetches_hang_holds_few_places_and_is_blamed_and_others_go_on() {
    const PLACES: usize = 8;
    let network = network();
    let node = node(&network).await;
    let table_of = table_id(table());
    let mut observer = observer(&network, &node).await;
    let (mute, hung) = mute(&network);
    mute.connect(&node.address).await.unwrap();
    mute.subscribe(table_of).await;
    let wanted = entry(&network, table(), key(1).public_key(), "wanted");
    mute.announce(table_of, &[wanted.id()]).await;
    until("it was asked for what another one has", || async { hung.count().0 == 1 }).await;
    for number in 0..PLACES as u8 {
        mute.announce(table_of, &[EntryId::from_bytes([number; 32])]).await;
    }
    until("its places are taken", || async { hung.count().0 >= PLACES }).await;
    let friend = honest(&network, &wanted);
    friend.connect(&node.address).await.unwrap();
    friend.subscribe(table_of).await;
    friend.announce(table_of, &[wanted.id(), wanted.id()]).await;
    assert!(observer.hears().await.contains(&wanted.id()));
    until("all that it announced was asked for", || async { hung.count().0 > PLACES }).await;
    assert!(hung.count().1 <= PLACES, "{} at a time", hung.count().1);
    until("it is blamed", || async { score(&node, &mute).await.is_some_and(|score| score < 0.0) }).await;
    assert!(score(&node, &friend).await.is_some_and(|score| score >= 0.0));
}

/// More messages than gossip may remember: who sends the most of them is to blame, although there is nothing false about any.
#[tokio::test(flavor = "multi_thread")]
async fn who_floods_a_topic_is_blamed_and_then_others_are_heard_again() {
    let network = network();
    let node = node(&network).await;
    let table_of = table_id(table());
    let mut observer = observer(&network, &node).await;
    let known = ["one", "other"].map(|text| entry(&network, table(), key(1).public_key(), text));
    for entry in &known {
        put(&observer, &node, entry).await;
        assert_eq!(observer.hears().await, [entry.id()]);
    }
    let wanted = entry(&network, table(), key(1).public_key(), "wanted");
    let friend = honest(&network, &wanted);
    friend.connect(&node.address).await.unwrap();
    friend.subscribe(table_of).await;
    let flooder = Peer::start(&network);
    flooder.connect(&node.address).await.unwrap();

    // Two and a half times as many as are taken from one look to the next. Where reading them takes longer than two looks, none may be
    // too much: then as many follow, each a message of its own, on another stream: four are taken, of which it has one.
    let topic = announce::topic(&network, &table_of);
    let announce = |number: usize| {
        let ids: Vec<EntryId> = (0..17).map(|bit| known[number >> bit & 1].id()).collect();
        said(&topic, &lenient::to_vec(&Announce::try_from(ids).unwrap()).unwrap())
    };
    for round in 0..3 {
        let flood: Vec<Vec<u8>> = (20_000 * round..20_000 * (round + 1)).map(announce).collect();
        let flood = flood.chunks(16).flat_map(|some| framed(&some.concat())).collect();
        assert!(flooder.spread(node.node.peer(), flood).await, "the node reads it all");
        let is_to_blame = until("the flooder is to blame", || async {
            score(&node, &flooder).await.is_some_and(|score| score < 0.0)
        });
        // Two looks, after which all that was read is judged.
        if timeout(Duration::from_secs(12), is_to_blame).await.is_ok() {
            break;
        }
    }
    let blamed = score(&node, &flooder).await.unwrap();
    assert!((-21.0..-19.0).contains(&blamed), "once, for misbehaviour: {blamed}");
    assert_eq!(score(&node, &friend).await, Some(0.0));

    friend.announce(table_of, &[wanted.id()]).await;
    until("the honest announce is heard", || async { !is_unknown(&node, table_of, wanted.id()).await }).await;
    while observer.hears().await[0] != wanted.id() {}
}
