//! Forged node records, and frames that lie about their lengths: refused, and the node serves on.

use bytes::Bytes;
use libp2p::identity::Keypair;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::{bounded::Blob, lenient, strict::Writer},
        filter::Filter,
        message::{
            Operation, Reply, Status,
            get::Get,
            hello::{Hello, HelloRequest},
            index::{Index, IndexRequest},
            put::Put,
            sync::Sync,
        },
        network::Network,
        record::NodeRecord,
    },
};

use crate::{
    peer::{Peer, framed, prefix, record, signed, signed_bytes, statuses},
    support::{TestNode, entry, key, network, now, table, table_id},
};

fn hello(record: Bytes) -> HelloRequest {
    HelloRequest { record: Some(Blob::try_from(record).unwrap()), tables: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_node_records_are_refused_and_no_route_is_kept() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let elsewhere = Network { name: "elsewhere".to_owned(), ..network.clone() };
    let full = |key: &Keypair| NodeRecord {
        addresses: vec!["/ip4/127.0.0.1/tcp/4711".parse::<libp2p::Multiaddr>().unwrap().to_vec()],
        tables: Some(vec![table_id(table())]),
        horizon: 7,
        ..record(key)
    };
    type Forge<'a> = Box<dyn Fn(&Keypair) -> Bytes + 'a>;
    let mut forgeries: Vec<(String, Forge<'_>)> = vec![
        ("of another node".into(), Box::new(|_| signed_bytes(&Keypair::generate_ed25519(), &network))),
        ("of another network".into(), Box::new(|key| signed_bytes(key, &elsewhere))),
        (
            "with another's key".into(),
            Box::new(|key| {
                let own = Writer::new()
                    .array(2)
                    .bytes(&payload(&signed_bytes(key, &network)))
                    .bytes(&[7; 64])
                    .take();
                own.into()
            }),
        ),
        (
            "from the future".into(),
            Box::new(|key| {
                let ahead = NodeRecord { sequence: now() + 2 * 86_400, ..full(key) };
                signed(&ahead, key, &network.id()).encoded().clone()
            }),
        ),
        (
            "truncated".into(),
            Box::new(|key| {
                let honest = signed_bytes(key, &network);
                honest.slice(..honest.len() - 1)
            }),
        ),
        (
            "with a byte too many".into(),
            Box::new(|key| [&signed_bytes(key, &network)[..], &[0]].concat().into()),
        ),
        ("empty".into(), Box::new(|_| Bytes::new())),
    ];
    // A bit in every eighth byte: every field is hit, each by a peer of its own.
    let length = signed(&full(&node_key()), &node_key(), &network.id()).encoded().len();
    for position in (0..length).step_by(8) {
        let (full, id) = (&full, network.id());
        forgeries.push((
            format!("bit flipped in byte {position} of {length}"),
            Box::new(move |key| {
                let mut bytes = signed(&full(key), key, &id).encoded().to_vec();
                bytes[position] ^= 1;
                bytes.into()
            }),
        ));
    }
    for (name, forge) in &forgeries {
        let peer = Peer::start(&network);
        let to = peer.connect(&node.address).await.unwrap();
        let reply = peer.request::<Hello>(to, &hello(forge(&peer.key))).await;
        assert_eq!(reply, Reply::refused(Status::BadRequest), "{name}");
        assert!(node.node.routes().is_empty(), "{name}");
    }
    let peer = Peer::start(&network);
    let to = peer.connect(&node.address).await.unwrap();
    let honest = signed(&full(&peer.key), &peer.key, &network.id()).encoded().clone();
    assert!(matches!(peer.request::<Hello>(to, &hello(honest)).await, Reply::Ok(_)));
    assert_eq!(node.node.routes().of(&peer.id()).unwrap().record(), &full(&peer.key));
}

fn node_key() -> Keypair {
    Keypair::ed25519_from_bytes([7; 32]).unwrap()
}

fn payload(signed: &Bytes) -> Vec<u8> {
    let mut reader = p2pdb::protocol::codec::strict::Reader::new(signed);
    reader.tuple(2).unwrap();
    reader.bytes(usize::MAX).unwrap().to_vec()
}

/// A CBOR map of one text key with raw CBOR behind it.
fn map(name: &str, value: &[u8]) -> Vec<u8> {
    [&[0xa1][..], &Writer::new().text(name).take(), value].concat()
}

/// So many times the same byte string.
fn list(count: usize, item: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.array(count);
    for _ in 0..count {
        writer.bytes(item);
    }
    writer.take()
}

const ENDLESS: [u8; 9] = [0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const FOUR_BILLION: [u8; 5] = [0x9a, 0xff, 0xff, 0xff, 0xff];
const ENDLESS_BYTES: [u8; 9] = [0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];

/// What no operation takes: the bytes, and whether there must be an answer, or the stream may just close.
fn frames<O: Operation>() -> Vec<(&'static str, Vec<u8>, bool)> {
    let deep = |depth: usize| map("x", &[&vec![0x81; depth][..], &[0x80]].concat());
    vec![
        ("a length over the limit", prefix(O::MAX_REQUEST + 1), true),
        ("the longest length there is", vec![0xff, 0xff, 0xff, 0x7f], true),
        ("a length of five bytes", vec![0xff, 0xff, 0xff, 0xff, 0x01], false),
        ("a length not in its shortest form", vec![0x81, 0x00, 0xa0], false),
        ("no length", Vec::new(), false),
        ("a frame that ends early", [prefix(100), vec![0xa0]].concat(), false),
        ("an empty frame", framed(&[]), true),
        ("a byte after the object", framed(&[0xa0, 0]), true),
        ("a break", framed(&[0xff]), true),
        ("a number", framed(&[0x07]), true),
        ("a map of 2^64 - 1 pairs", framed(&[0xbb, 255, 255, 255, 255, 255, 255, 255, 255]), true),
        ("a key of 2^63 bytes", framed(&[0xa1, 0x7b, 0x7f, 255, 255, 255, 255, 255, 255, 255]), true),
        ("an unknown key with 2^64 - 1 elements", framed(&map("x", &ENDLESS)), true),
        ("as deep as fits", framed(&deep(O::MAX_REQUEST - 16)), true),
    ]
}

async fn refuses<O: Operation>(node: &TestNode, own: Vec<(&'static str, Vec<u8>)>) {
    let network = network();
    let held = entry(&network, table(), key(1).public_key(), O::NAME);
    let client = crate::support::client(&network, &[&node.address]).await;
    let honest = client.connect(node.address.clone()).await.unwrap();
    let outcomes = client.put_to(honest, std::slice::from_ref(&held), table().public_key()).await.unwrap();
    assert!(outcomes[0].is_held());
    let own = own.into_iter().map(|(name, body)| (name, framed(&body), true));
    for (name, bytes, must_answer) in frames::<O>().into_iter().chain(own) {
        let peer = Peer::start(&network);
        let to = peer.connect(&node.address).await.unwrap();
        match peer.status::<O>(to, bytes).await {
            Some(status) => assert_eq!(status, Status::BadRequest, "{}: {name}", O::NAME),
            None => assert!(!must_answer, "{}: {name}: the stream closed", O::NAME),
        }
        let found = client.get_all(honest, &Filter::ids(vec![held.id()])).await.unwrap();
        assert_eq!(found[0].id(), held.id(), "served right after: {name}");
    }
    client.stop().await;
}

/// Each is answered in its turn, until one breaks the protocol (SPEC 8.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_takes_one_request_after_the_other() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let peer = Peer::start(&network);
    let to = peer.connect(&node.address).await.unwrap();
    let tables = framed(&lenient::to_vec(&IndexRequest::default()).unwrap());
    for broken in [framed(&[0x07]), prefix(Index::MAX_REQUEST + 1)] {
        let requests = [&tables, &tables, &tables, &broken, &tables].map(Vec::as_slice).concat();
        let answers = peer.ask::<Index>(to, requests).await.unwrap();
        use Status::{BadRequest, Ok};
        assert_eq!(statuses(&answers), [Ok, Ok, Ok, BadRequest]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_lengths_out_of_bounds_are_bad_requests() {
    let node = TestNode::start(&network(), Mirror::All, &[]).await;
    let id = [7; 32];
    let hello = vec![
        ("257 tables", map("tables", &list(257, &id))),
        ("2^64 - 1 tables", map("tables", &ENDLESS)),
        ("2^32 - 1 tables", map("tables", &FOUR_BILLION)),
        ("a table of 31 bytes", map("tables", &list(1, &id[1..]))),
        ("a record of 2^63 bytes", map("record", &ENDLESS_BYTES)),
        ("a record that is too long", map("record", &Writer::new().bytes(&[0; 12_289]).take())),
        ("a record that is none", map("record", &Writer::new().bytes(&id).take())),
        ("tables twice", [&[0xa2], &map("tables", &[0x80])[1..], &map("tables", &[0x80])[1..]].concat()),
    ];
    let put = vec![
        ("no entries", map("entries", &[0x80])),
        ("nothing", vec![0xa0]),
        ("257 entries", map("entries", &list(257, &[]))),
        ("2^64 - 1 entries", map("entries", &ENDLESS)),
        ("2^32 - 1 entries", map("entries", &FOUR_BILLION)),
        ("an entry of 2^63 bytes", map("entries", &[&[0x81][..], &ENDLESS_BYTES].concat())),
        ("an entry longer than on any network", map("entries", &list(1, &vec![0; 524_289]))),
        (
            "17 keys",
            [&[0xa2], &map("entries", &list(1, &id))[1..], &map("keys", &list(17, &id))[1..]].concat(),
        ),
        ("a key that is too long", {
            [&[0xa2], &map("entries", &list(1, &id))[1..], &map("keys", &list(1, &[0; 641]))[1..]].concat()
        }),
    ];
    let get = vec![
        ("no filter", vec![0xa0]),
        ("only a limit", map("limit", &[10])),
        ("no ids", map("ids", &[0x80])),
        ("1025 ids", map("ids", &list(1025, &id))),
        ("2^64 - 1 ids", map("ids", &ENDLESS)),
        ("65 tables", map("tables", &list(65, &id))),
        ("129 recipients", map("recipients", &list(129, &id))),
        ("2^32 - 1 recipients", map("recipients", &FOUR_BILLION)),
        ("bucket 4096", map("bucket", &[0x19, 0x10, 0x00])),
        ("a negative bucket", map("bucket", &[0x20])),
        ("a limit of 0", [&[0xa2], &map("bucket", &[0])[1..], &map("limit", &[0])[1..]].concat()),
        (
            "a limit of 1001",
            [&[0xa2], &map("bucket", &[0])[1..], &map("limit", &[0x19, 0x03, 0xe9])[1..]].concat(),
        ),
    ];
    let table = map("table", &Writer::new().bytes(table_id(table()).as_bytes()).take());
    let with = |name: &str, value: &[u8]| [&[0xa2], &table[1..], &map(name, value)[1..]].concat();
    let index = vec![
        ("a table of 31 bytes", map("table", &Writer::new().bytes(&id[1..]).take())),
        ("bucket 4096", with("bucket", &[0x19, 0x10, 0x00])),
        ("a limit of 0", map("limit", &[0])),
        ("a limit of 2049", map("limit", &[0x19, 0x08, 0x01])),
        ("a time before 1970", with("since", &[0x20])),
    ];
    refuses::<Hello>(&node, hello).await;
    refuses::<Put>(&node, put).await;
    refuses::<Get>(&node, get).await;
    refuses::<Index>(&node, index).await;
    assert_eq!(node.entries().await, 4);
}

/// A question for tables, the first of which is asked about with so many candidates.
fn tables(count: usize, candidates: usize) -> Vec<u8> {
    let mut asked = Writer::new().array(count).take();
    for number in 0..count {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        asked.extend(Writer::new().array(2).bytes(&id).take());
        asked.extend(list(if number == 0 { candidates } else { 0 }, &[7; 16]));
    }
    map("tables", &asked)
}

/// A question for groups; `which` is raw CBOR.
fn groups(level: u64, which: &[u8], from: u64, to: u64) -> Vec<u8> {
    let table = Writer::new().array(5).bytes(table_id(table()).as_bytes()).uint(level).take();
    let range = Writer::new().uint(from).uint(to).take();
    map("groups", &[&table, which, &range].concat())
}

/// SPEC 8.7.
#[tokio::test(flavor = "multi_thread")]
async fn questions_for_roots_and_groups_that_do_not_exist_are_bad_requests() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    const ALL: &[u8] = &[0xf6];
    let which = |bytes: &[u8]| Writer::new().bytes(bytes).take();
    let both = |one: &[u8], other: &[u8]| [&[0xa2], &one[1..], &other[1..]].concat();
    let all = |candidates| map("all", &list(candidates, &[7; 16]));
    let twice = {
        let table = Writer::new().array(2).bytes(&[7; 32]).array(0).take();
        map("tables", &[&[0x82], &table[..], &table].concat())
    };
    refuses::<Sync>(
        &node,
        vec![
            ("no question", vec![0xa0]),
            ("only a time", map("since", &[0])),
            ("a time before 1970", both(&all(0), &map("since", &[0x20]))),
            ("three candidates for all tables", all(3)),
            ("2^32 - 1 candidates", map("all", &FOUR_BILLION)),
            ("a root of 15 bytes", map("all", &list(1, &[7; 15]))),
            ("257 tables", tables(257, 0)),
            ("2^64 - 1 tables", map("tables", &ENDLESS)),
            ("three candidates for a table", tables(1, 3)),
            ("a table twice", twice),
            ("two questions", both(&all(1), &tables(1, 1))),
            ("level 13", groups(13, ALL, 0, 1)),
            ("level 256", groups(256, ALL, 0, 1)),
            ("level 2^64 - 1", groups(u64::MAX, ALL, 0, 1)),
            ("no bytes of groups", groups(3, &which(&[]), 0, 1)),
            ("no group", groups(3, &which(&[0]), 0, 1)),
            ("groups of another level", groups(3, &which(&[1, 1]), 0, 1)),
            ("a group that the level does not have", groups(2, &which(&[0x88]), 0, 1)),
            ("more groups than there are", groups(12, &which(&[0xff; 513]), 0, 1)),
            ("groups of 2^63 bytes", groups(12, &ENDLESS_BYTES, 0, 1)),
            ("no syndromes", groups(0, ALL, 4, 4)),
            ("fewer syndromes than none", groups(0, ALL, 5, 4)),
            ("65 syndromes", groups(0, ALL, 0, 65)),
            ("2^64 - 1 syndromes", groups(0, ALL, 0, u64::MAX)),
            ("groups that are no array", map("groups", &[0x07])),
        ],
    )
    .await;
    let peer = Peer::start(&network);
    let to = peer.connect(&node.address).await.unwrap();
    for good in [all(2), tables(256, 2), groups(2, &which(&[0x90]), 0, 1), groups(12, ALL, 0, 64)] {
        assert_eq!(peer.status::<Sync>(to, framed(&good)).await, Some(Status::Ok), "{good:02x?}");
    }
}
