//! Ids, keys, networks, prices, work and buckets.

use std::{collections::BTreeMap, fmt::Debug, str::FromStr};

use p2pdb_protocol::{
    bucket::{Digester, bucket_of, id_range},
    id::{EntryId, NetworkId, ParseIdError, RecipientId, TableId},
    keys::PublicKey,
    message::sync::{word_bytes, words},
    network::{Network, NetworkFile},
    pow::{self, Puzzle},
    reconcile::{
        roots::digest_of_all,
        sketch::{Element, Group, Root, Summary, decode},
    },
    seal::padme,
};

use crate::vector::{Vector, hex};

const OK: &str = "ok";

pub fn ids(vector: &Vector) -> String {
    fn run<T>(vector: &Vector, bytes: fn(&T) -> &[u8; 32]) -> String
    where
        T: FromStr<Err = ParseIdError> + ToString + Debug,
    {
        let text = vector.need("text");
        match text.parse::<T>() {
            Ok(id) => {
                assert_eq!(bytes(&id)[..], vector.body);
                assert_eq!(id.to_string(), text);
                OK
            }
            Err(ParseIdError::WrongType { .. }) => "wrong_type",
            Err(ParseIdError::WrongLength { .. }) => "wrong_length",
            Err(_) => "malformed",
        }
        .to_owned()
    }
    match vector.need("prefix") {
        TableId::PREFIX => run(vector, TableId::as_bytes),
        RecipientId::PREFIX => run(vector, RecipientId::as_bytes),
        EntryId::PREFIX => run(vector, EntryId::as_bytes),
        NetworkId::PREFIX => run(vector, NetworkId::as_bytes),
        other => panic!("{other} is the prefix of no id"),
    }
}

pub fn keys(vector: &Vector) -> String {
    let Ok(key) = PublicKey::from_der(&vector.body) else { return "table_key_invalid".to_owned() };
    assert_eq!(key.bits(), vector.number::<usize>("bits"));
    assert_eq!(key.table_id().to_string(), vector.need("table"));
    assert_eq!(key.recipient_id().to_string(), vector.need("recipient"));
    OK.to_owned()
}

pub fn network(vector: &Vector) -> String {
    let text = str::from_utf8(&vector.body).unwrap();
    let Ok(file) = NetworkFile::parse(text) else { return "invalid".to_owned() };
    assert_eq!(file.network.id().to_string(), vector.need("id"));
    assert_eq!(file.network.label(), vector.need("label"));
    assert_eq!(file.to_toml(), text);
    OK.to_owned()
}

fn priced(vector: &Vector) -> (Network, u64) {
    let network = Network {
        work_price: vector.number("work-price"),
        work_base_bytes: vector.number("work-base-bytes"),
        work_puzzles: vector.number("work-puzzles"),
        ..Network::default()
    };
    network.check().unwrap();
    (network, vector.number("size"))
}

pub fn price(vector: &Vector) -> String {
    let (network, size) = priced(vector);
    assert_eq!(pow::price(&network, size), vector.number::<u128>("hashes"));
    let puzzle = Puzzle::for_entry(&network, &EntryId::from_bytes([0; 32]), size);
    assert_eq!(puzzle.target(), vector.number::<u64>("target"));
    let each: u128 = vector.number("hashes-per-puzzle");
    assert_eq!(u128::from(puzzle.target()), u128::from(u64::MAX) / each);
    OK.to_owned()
}

pub fn work(vector: &Vector) -> String {
    let (network, size) = priced(vector);
    let id: EntryId = vector.need("id").parse().unwrap();
    match pow::check(&Puzzle::for_entry(&network, &id, size), &vector.body) {
        Ok(effort) => {
            assert_eq!(effort, vector.number::<u64>("effort"));
            OK
        }
        Err(refusal) => refusal.name(),
    }
    .to_owned()
}

pub fn padding(vector: &Vector) -> String {
    assert_eq!(padme(vector.number("length")), vector.number::<usize>("padded"));
    OK.to_owned()
}

fn entry_id(bytes: &[u8]) -> EntryId {
    EntryId::from_bytes(bytes.try_into().unwrap())
}

pub fn bucket(vector: &Vector) -> String {
    let (id, bits) = (entry_id(&vector.body), vector.number("bits"));
    let bucket = bucket_of(&id, bits);
    assert_eq!(bucket, vector.number::<u16>("bucket"));
    let (first, last) = id_range(bucket, bits);
    assert_eq!(first.to_string(), vector.need("first"));
    assert_eq!(last.to_string(), vector.need("last"));
    OK.to_owned()
}

pub fn index(vector: &Vector) -> String {
    let bits = vector.number("bits");
    let mut ids: Vec<EntryId> = vector.body.chunks(32).map(entry_id).collect();
    ids.sort_unstable();
    let mut buckets = BTreeMap::<u16, (u64, Digester)>::new();
    for id in &ids {
        let (count, digester) = buckets.entry(bucket_of(id, bits)).or_default();
        *count += 1;
        digester.push(id);
    }
    let summaries: Vec<String> = buckets
        .into_iter()
        .map(|(bucket, (count, digester))| format!("{bucket}:{count}:{}", digester.finish()))
        .collect();
    assert_eq!(summaries.join(" "), vector.need("buckets"));
    OK.to_owned()
}

pub fn sketch(vector: &Vector) -> String {
    let (mut summary, mut group) = (Summary::default(), Group::default());
    for id in vector.body.chunks(32).map(entry_id) {
        summary.insert(&Element::of(&id));
        group.insert(&Element::of(&id));
    }
    assert_eq!(summary.len(), vector.number::<u64>("n"));
    assert_eq!(summary.root().to_string(), vector.need("root"));
    assert_eq!(hex(&summary.tow().to_bytes()), vector.need("tow"));
    assert_eq!(hex(&word_bytes(*group.syndromes())), vector.need("syndromes"));
    assert_eq!(summary.syndromes()[..], group.syndromes()[..16]);
    assert_eq!(summary.tally(), group.tally());
    OK.to_owned()
}

pub fn difference(vector: &Vector) -> String {
    let Some(sids) = decode(&words(&vector.body).unwrap()) else { return "undecodable".to_owned() };
    let mut sids: Vec<String> = sids.iter().map(|sid| format!("{:016x}", sid.to_u64())).collect();
    sids.sort_unstable();
    assert_eq!(sids.join(" "), vector.need("sids"));
    OK.to_owned()
}

/// The roots of the vectors are invented: only how they are put together can be compared.
pub fn roots(vector: &Vector) -> String {
    let rows = vector.body.chunks(48).map(|row| {
        let (table, root) = row.split_at(32);
        (TableId::from_bytes(table.try_into().unwrap()), Root::from_bytes(root.try_into().unwrap()))
    });
    assert_eq!(digest_of_all(rows).to_string(), vector.need("digest"));
    OK.to_owned()
}
