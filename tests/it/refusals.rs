//! Bad entries, each put to a real node by a peer of its own: each gets its reason, and nothing is stored.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::Bytes;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        codec::{
            bounded::{Blob, List},
            strict::{Reader, Writer},
        },
        entry::{self, Entry, Header, entry_id},
        id::{RecipientId, TableId},
        keys::{KeyError, PrivateKey, PublicKey},
        message::{
            Reply,
            put::{Put, PutRequest},
        },
        network::Network,
        pow::{Puzzle, Solver},
        refusal::Outcome,
        seal::{Content, Draft},
    },
};
use sha2::{Digest as _, Sha256};

use crate::{
    peer::Peer,
    support::{TestNode, entry, key, mine, network, now, rng, table, table_id},
};

const DAY: u64 = 86_400;

/// The four byte strings of an entry, to be spoiled.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) work: Vec<u8>,
}

impl Parts {
    pub(crate) fn of(entry: &Entry) -> Self {
        let mut reader = Reader::new(entry.encoded());
        reader.tuple(4).unwrap();
        let mut part = || reader.bytes(usize::MAX).unwrap().to_vec();
        Self { header: part(), body: part(), signature: part(), work: part() }
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    /// The same entry with another header, and neither signed nor mined for it.
    fn with_header(&self, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = Header::decode(&self.header).unwrap();
        change(&mut header);
        Self { header: header.encode(), ..self.clone() }
    }

    /// The same with work that fits, whatever was changed before.
    pub(crate) fn mined(mut self, network: &Network) -> Self {
        let id = entry_id(&self.header, &self.body);
        let puzzle = Puzzle::for_entry(network, &id, (self.header.len() + self.body.len()) as u64);
        let threads = NonZeroUsize::new(2).unwrap();
        self.work = Solver::new(puzzle).solve(threads, &AtomicBool::new(false), &|_| {}).unwrap();
        self
    }

    pub(crate) fn bytes(&self) -> Bytes {
        entry::encode(&self.header, &self.body, &self.signature, &self.work)
    }
}

fn flip(bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
}

/// An entry with these times.
fn entry_at(network: &Network, created: u64, expires: Option<u64>) -> Entry {
    let sealed = Draft {
        table: table(),
        recipients: &[key(1).public_key().clone(), key(2).public_key().clone()],
        created,
        expires,
        content: &Content { media_type: "text/plain".to_owned(), data: b"times".to_vec() },
        author: None,
    };
    mine(network, &sealed.seal(&mut rng(), network).unwrap())
}

fn request(entries: &[Bytes], keys: &[&[u8]]) -> PutRequest {
    let entries: Vec<_> = entries.iter().map(|entry| Blob::try_from(entry.clone()).unwrap()).collect();
    let keys: Vec<_> = keys.iter().map(|key| Blob::try_from(key.to_vec()).unwrap()).collect();
    PutRequest { entries: List::try_from(entries).unwrap(), keys: List::try_from(keys).unwrap() }
}

async fn put_by(peer: &Peer, node: &TestNode, entries: &[Bytes], keys: &[&[u8]]) -> Vec<&'static str> {
    let to = peer.connect(&node.address).await.unwrap();
    match peer.request::<Put>(to, &request(entries, keys)).await {
        Reply::Ok(response) => {
            response.outcomes.iter().map(|code| Outcome::from_code(*code).name()).collect()
        }
        refused => panic!("{refused:?}"),
    }
}

/// Puts one entry by a peer that never did anything before.
async fn put(node: &TestNode, network: &Network, entry: &Bytes, keys: &[&[u8]]) -> &'static str {
    let outcomes = put_by(&Peer::start(network), node, std::slice::from_ref(entry), keys).await;
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

async fn assert_empty(node: &TestNode, after: &str) {
    let stats = node.node.store().stats().await.unwrap();
    assert_eq!((stats.entries, stats.dropped), (0, 0), "after: {after}");
}

/// Every case against one node, each with the key of the table at hand; then the honest entry is taken.
async fn refuses(network: &Network, node: &TestNode, good: &Entry, cases: &[(&str, Bytes, &str)]) {
    let table = table().public_key().der();
    for (name, encoded, reason) in cases {
        assert_eq!(put(node, network, encoded, &[table]).await, *reason, "{name}");
        assert_empty(node, name).await;
    }
    assert_eq!(put(node, network, good.encoded(), &[table]).await, "stored");
    assert_eq!(put(node, network, good.encoded(), &[]).await, "known");
    assert_eq!(node.entries().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_encoding_of_an_entry() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let good = entry(&network, table(), key(1).public_key(), "encoding");
    let (parts, encoded) = (Parts::of(&good), good.encoded().to_vec());
    let Parts { header, body, signature, work } = parts.clone();
    let raw = |head: &[u8], change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = head.to_vec();
        bytes.extend(&encoded[1..]);
        change(&mut bytes);
        Bytes::from(bytes)
    };
    let headed = |header: Vec<u8>| entry::encode(&header, &body, &signature, &work);
    // 0x87 0x01 0x58 0x20 <table> 0x1a <created> 0xf6 ...
    assert_eq!(header[..4], [0x87, 0x01, 0x58, 0x20]);
    assert_eq!((header[36], header[41]), (0x1a, 0xf6));
    let created = &header[37..41];
    let three = Writer::new().array(3).bytes(&header).bytes(&body).bytes(&signature).take();
    let cases = [
        ("nothing", Bytes::new(), "malformed"),
        ("truncated by a byte", raw(&[0x84], &|b| b.truncate(b.len() - 1)), "malformed"),
        ("truncated in the header", raw(&[0x84], &|b| b.truncate(40)), "malformed"),
        ("a byte too many", raw(&[0x84], &|b| b.push(0)), "malformed"),
        ("an entry too many", raw(&[0x84], &|b| b.extend_from_slice(&encoded)), "malformed"),
        ("without work", three.into(), "malformed"),
        ("a map", raw(&[0xa4], &|_| {}), "malformed"),
        ("a tag before it", raw(&[0xc1, 0x84], &|_| {}), "malformed"),
        ("a long array head", raw(&[0x98, 4], &|_| {}), "non_canonical"),
        ("an array without length", raw(&[0x9f], &|b| b.push(0xff)), "non_canonical"),
        (
            "a long length of the header",
            {
                let head = [&[0x84, 0x5a, 0, 0][..], &(header.len() as u16).to_be_bytes()].concat();
                Bytes::from([&head[..], &encoded[4..]].concat())
            },
            "non_canonical",
        ),
        ("header: a long array head", headed([&[0x98, 7][..], &header[1..]].concat()), "non_canonical"),
        (
            "header: an array without length",
            headed([&[0x9f][..], &header[1..], &[0xff]].concat()),
            "non_canonical",
        ),
        ("header: a long version", headed([&[0x87, 0x18, 1][..], &header[2..]].concat()), "non_canonical"),
        (
            "header: a long length of the table",
            { headed([&[0x87, 1, 0x59, 0, 0x20][..], &header[4..]].concat()) },
            "non_canonical",
        ),
        (
            "header: a long time",
            { headed([&header[..36], &[0x1b, 0, 0, 0, 0][..], created, &header[41..]].concat()) },
            "non_canonical",
        ),
        (
            "header: a time as text",
            { headed([&header[..36], &[0x64][..], created, &header[41..]].concat()) },
            "malformed",
        ),
        (
            "header: undefined instead of null",
            headed([&header[..41], &[0xf7], &header[42..]].concat()),
            "malformed",
        ),
        ("header: a byte too many", headed([&header[..], &[0]].concat()), "malformed"),
        ("header: truncated", headed(header[..header.len() - 1].to_vec()), "malformed"),
        ("header: eight elements", headed([&[0x88][..], &header[1..], &[0]].concat()), "malformed"),
        ("version 0", headed([&[0x87, 0][..], &header[2..]].concat()), "unknown_version"),
        ("version 2", headed([&[0x87, 2][..], &header[2..]].concat()), "unknown_version"),
        ("version 2 with nothing else", headed(vec![0x81, 2]), "unknown_version"),
        ("a signature of a 1024 bit key", parts.change(|p| p.signature.truncate(128)).bytes(), "malformed"),
        ("a signature of a 4104 bit key", parts.change(|p| p.signature = vec![1; 513]).bytes(), "malformed"),
        (
            "too large by a byte",
            {
                let room = network.max_entry_bytes as usize - (encoded.len() - body.len()) - 2;
                let large = parts.change(|p| p.body = vec![7; room + 1]).bytes();
                assert_eq!(large.len() as u64, network.max_entry_bytes + 1);
                large
            },
            "too_large",
        ),
        ("as large as a message can carry", Bytes::from(vec![0x84; 524_288]), "too_large"),
    ];
    refuses(&network, &node, &good, &cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_of_the_header() {
    let network = network();
    let horizon = |config: &mut p2pdb::node::NodeConfig| config.store_options.horizon = Some(30 * DAY);
    let node = TestNode::with(&network, &[], horizon).await;
    let good = entry_at(&network, now() - 10, Some(now() + DAY));
    let parts = Parts::of(&good);
    let headed = |change: &dyn Fn(&mut Header)| parts.with_header(|header| change(header)).bytes();
    let at = |created, expires| entry_at(&network, created, expires).encoded().clone();
    let wrapped = |length| headed(&|h: &mut Header| h.recipients[0].wrapped.resize(length, 1));
    let many = |h: &mut Header| {
        let one = h.recipients[0].clone();
        h.recipients = (0..17)
            .map(|n| {
                let mut w = one.clone();
                w.recipient = RecipientId::from_bytes([n; 32]);
                w
            })
            .collect();
    };
    let cases = [
        ("no recipients", headed(&|h| h.recipients.clear()), "bad_recipients"),
        ("17 recipients", headed(&many), "bad_recipients"),
        ("recipients out of order", headed(&|h| h.recipients.reverse()), "bad_recipients"),
        ("a recipient twice", headed(&|h| h.recipients[1] = h.recipients[0].clone()), "bad_recipients"),
        ("a key wrapped for 1024 bits", wrapped(128), "bad_recipients"),
        ("a key wrapped for 4104 bits", wrapped(513), "bad_recipients"),
        ("expires when created", headed(&|h| h.expires = Some(h.created)), "bad_expiry"),
        ("expires before created", headed(&|h| h.expires = Some(h.created - 1)), "bad_expiry"),
        ("another body", parts.change(|p| flip(&mut p.body)).bytes(), "body_mismatch"),
        ("a shorter body", parts.change(|p| p.body.truncate(100)).bytes(), "body_mismatch"),
        ("another length of the body", headed(&|h| h.body_length += 1), "body_mismatch"),
        // A margin of a minute on either side: the node has its own clock.
        ("from the future", at(now() + network.max_clock_ahead + 60, None), "created_in_future"),
        ("from the end of time", at(u64::MAX, None), "created_in_future"),
        ("expired", at(now() - 100, Some(now() - 1)), "expired"),
        // Whole epochs, here of a week, are kept and dropped.
        ("beyond the horizon", at(now() - (30 + 7) * DAY - 1, None), "beyond_horizon"),
        ("from the beginning of time", at(0, None), "beyond_horizon"),
    ];
    refuses(&network, &node, &good, &cases).await;
    let ahead = at(now() + network.max_clock_ahead - 60, None);
    assert_eq!(put(&node, &network, &ahead, &[]).await, "stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_field_and_work_that_is_not_its_own() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let good = entry_at(&network, now(), Some(now() + DAY));
    let other = entry_at(&network, now(), Some(now() + DAY));
    let parts = Parts::of(&good);
    type Change = Box<dyn Fn(&mut Header)>;
    let flipped: Vec<(&str, Change)> = vec![
        ("created", Box::new(|h| h.created ^= 1)),
        ("expires", Box::new(|h| h.expires = h.expires.map(|expires| expires ^ 1))),
        (
            "recipient",
            Box::new(|h| {
                let mut id = *h.recipients[0].recipient.as_bytes();
                // The last byte: the order stays.
                id[31] ^= 1;
                h.recipients[0].recipient = RecipientId::from_bytes(id);
            }),
        ),
        ("wrapped key", Box::new(|h| flip(&mut h.recipients[1].wrapped))),
        ("expires left out", Box::new(|h| h.expires = None)),
        ("a recipient left out", Box::new(|h| h.recipients.truncate(1))),
    ];
    let mut cases = Vec::new();
    for (name, change) in &flipped {
        let spoiled = parts.with_header(change);
        // The work commits to the id, and the signature stands even when somebody works anew.
        cases.push((*name, spoiled.bytes(), "work_insufficient"));
        cases.push((*name, spoiled.mined(&network).bytes(), "signature_invalid"));
    }
    let another_table = |p: &Parts| {
        p.with_header(|h| {
            let mut id = *h.table.as_bytes();
            flip(&mut id);
            h.table = TableId::from_bytes(id);
        })
    };
    let elsewhere = |p: &Parts| p.with_header(|h| h.table = table_id(key(3)));
    // One nonce in 512 solves its puzzle by chance.
    let mut nonces = (0..8).map(|bit| parts.change(|p| p.work[0] ^= 1 << bit));
    let nonce = nonces.find(|p| Entry::from_trusted(p.bytes(), &network).is_err()).unwrap();
    cases.extend([
        ("table", another_table(&parts).bytes(), "work_insufficient"),
        ("table, mined", another_table(&parts).mined(&network).bytes(), "table_key_missing"),
        ("replayed into another table", elsewhere(&parts).bytes(), "work_insufficient"),
        ("body hash", parts.with_header(|h| flip(&mut h.body_hash)).bytes(), "body_mismatch"),
        ("body length", parts.with_header(|h| h.body_length ^= 1).bytes(), "body_mismatch"),
        ("body", parts.change(|p| flip(&mut p.body)).bytes(), "body_mismatch"),
        (
            "body, with its hash",
            parts
                .change(|p| {
                    flip(&mut p.body);
                    let hash = Sha256::digest(&p.body).into();
                    p.header = p.with_header(|h| h.body_hash = hash).header;
                })
                .mined(&network)
                .bytes(),
            "signature_invalid",
        ),
        ("signature", parts.change(|p| flip(&mut p.signature)).bytes(), "signature_invalid"),
        (
            "signature of another entry",
            parts.change(|p| p.signature = Parts::of(&other).signature).bytes(),
            "signature_invalid",
        ),
        ("longer signature", parts.change(|p| p.signature.push(0)).bytes(), "signature_invalid"),
        ("work", nonce.bytes(), "work_insufficient"),
        (
            "work of another entry",
            parts.change(|p| p.work = Parts::of(&other).work).bytes(),
            "work_insufficient",
        ),
        ("work in another order", parts.change(|p| p.work.rotate_left(8)).bytes(), "work_insufficient"),
        ("no work", parts.change(|p| p.work.clear()).bytes(), "work_malformed"),
        ("a puzzle too few", parts.change(|p| p.work.truncate(56)).bytes(), "work_malformed"),
        ("a byte too few", parts.change(|p| p.work.truncate(63)).bytes(), "work_malformed"),
        ("a byte too many", parts.change(|p| p.work.push(0)).bytes(), "work_malformed"),
        ("absurdly long work", parts.change(|p| p.work.resize(200_000, 0)).bytes(), "work_malformed"),
        // Work is judged before the signature: RSA is not to be had for nothing.
        (
            "signature and work",
            parts
                .change(|p| {
                    flip(&mut p.signature);
                    p.work.clear();
                })
                .bytes(),
            "work_malformed",
        ),
    ]);
    let replayed = elsewhere(&parts).mined(&network).bytes();
    assert_eq!(put(&node, &network, &replayed, &[key(3).public_key().der()]).await, "signature_invalid");
    refuses(&network, &node, &good, &cases).await;
}

/// The SubjectPublicKeyInfo of an RSA key, whatever its numbers.
fn spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let tlv = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = content.len() as u16;
        let head = match length {
            0..=0x7f => vec![tag, length as u8],
            0x80..=0xff => vec![tag, 0x81, length as u8],
            _ => [&[tag, 0x82][..], &length.to_be_bytes()].concat(),
        };
        [head, content].concat()
    };
    let rsa_encryption = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let key = tlv(0x30, &[&tlv(2, &[&[0], modulus]), &tlv(2, &[exponent])]);
    tlv(0x30, &[&rsa_encryption, &tlv(3, &[&[0], &key])])
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_tables_that_are_missing_wrong_or_not_permitted() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let good = entry(&network, table(), key(1).public_key(), "keys");
    let der = table().public_key().der();
    let (modulus, f4) = (&der[33..289], &[1, 0, 1][..]);
    assert_eq!(spki(modulus, f4), der, "the helper writes what others write");

    type IsReason = fn(&KeyError) -> bool;
    let keys: [(&str, Vec<u8>, IsReason); 7] = [
        ("1024 bits", spki(&[0xff; 128], f4), |e| matches!(e, KeyError::WrongSize { .. })),
        ("2040 bits", spki(&[0xff; 255], f4), |e| matches!(e, KeyError::WrongSize { .. })),
        ("2047 bits", spki(&[&[0x7f; 1][..], &[0xff; 255]].concat(), f4), |_| true),
        ("4104 bits", spki(&[0xff; 513], f4), |e| matches!(e, KeyError::WrongSize { .. })),
        ("exponent 3", spki(modulus, &[3]), |e| matches!(e, KeyError::WrongExponent { .. })),
        ("exponent 65539", spki(modulus, &[1, 0, 3]), |e| matches!(e, KeyError::WrongExponent { .. })),
        ("no key", b"no key at all".to_vec(), |_| true),
    ];
    for (name, key, is_reason) in &keys {
        assert!(PublicKey::from_der(key).is_err_and(|error| is_reason(&error)), "{name}");
        // The table of that key, as its id would be: the work is right, and no signature can be.
        let table = TableId::from_bytes(Sha256::digest(key).into());
        let entry = Parts::of(&good).with_header(|h| h.table = table).mined(&network).bytes();
        assert_eq!(put(&node, &network, &entry, &[key]).await, "table_key_invalid", "{name}");
        assert_eq!(put(&node, &network, &entry, &[]).await, "table_key_missing", "{name}");
        assert_eq!(put(&node, &network, good.encoded(), &[key]).await, "table_key_invalid", "{name}");
        assert_empty(&node, name).await;
    }
    assert_eq!(put(&node, &network, good.encoded(), &[]).await, "table_key_missing");
    let wrong = key(3).public_key().der();
    assert_eq!(put(&node, &network, good.encoded(), &[wrong]).await, "table_key_missing");
    // Signed by a key that is not the table's, sent with the key of the table and with its own.
    let forged = Parts::of(&entry(&network, key(3), key(1).public_key(), "forged"));
    let forged = forged.with_header(|h| h.table = table_id(table())).mined(&network).bytes();
    assert_eq!(put(&node, &network, &forged, &[wrong, der]).await, "signature_invalid");
    assert_empty(&node, "wrong keys").await;
    assert_eq!(put(&node, &network, good.encoded(), &[wrong, der]).await, "stored");
    // From now on the node has the key, whatever is sent along.
    let next = entry(&network, table(), key(1).public_key(), "next");
    assert_eq!(put(&node, &network, next.encoded(), &[wrong]).await, "stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_not_mirrored_and_too_many_of_them() {
    let network = network();
    let of = |key: &PrivateKey| entry(&network, key, key.public_key(), "a table").encoded().clone();
    let only = Mirror::Only(Arc::new(BTreeSet::from([table_id(table())])));
    let part = TestNode::start(&network, only, &[]).await;
    let other = key(3).public_key().der();
    assert_eq!(put(&part, &network, &of(key(3)), &[other]).await, "table_not_mirrored");
    // Whether it mirrors a table costs a node less than whether its key is right.
    assert_eq!(put(&part, &network, &of(key(3)), &[]).await, "table_not_mirrored");
    assert_empty(&part, "another table").await;

    let full = TestNode::with(&network, &[], |config| config.max_tables = 2).await;
    let keys: Vec<&[u8]> = (0..4).map(|n| key(n).public_key().der()).collect();
    let peer = Peer::start(&network);
    // All at once, so that there was room when the first was looked at.
    let entries: Vec<_> = (0..4).map(|n| of(key(n))).collect();
    let mut outcomes = put_by(&peer, &full, &entries, &keys).await;
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["quota_exceeded", "quota_exceeded", "stored", "stored"]);
    assert_eq!(full.entries().await, 2);
    assert_eq!(full.node.store().tables().await.unwrap().len(), 2);
    // The tables that are there go on.
    let held = full.node.store().tables().await.unwrap()[0].table;
    let again = (0..4).find(|n| table_id(key(*n)) == held).unwrap();
    assert_eq!(put(&full, &network, &of(key(again)), &[]).await, "stored");
}
