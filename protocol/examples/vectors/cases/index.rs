//! Buckets and digests (SPEC 5.5, 5.6).

use std::collections::BTreeMap;

use md5::{Digest as _, Md5};
use p2pdb_protocol::{bucket::id_range, id::EntryId};

use crate::{
    vector::{Vector, hex},
    world::Rng,
};

pub fn cases() -> Vec<Vector> {
    [buckets(), indexes()].concat()
}

/// The leading bits of an id, bit by bit.
fn bucket(id: &[u8], bits: u8) -> u16 {
    (0..usize::from(bits)).fold(0, |bucket, bit| bucket << 1 | u16::from(id[bit / 8] >> (7 - bit % 8) & 1))
}

fn buckets() -> Vec<Vector> {
    let case = |bits: u8, start: [u8; 2]| {
        let mut id: [u8; 32] = Rng::new("bucket").bytes();
        id[..2].copy_from_slice(&start);
        let bucket = bucket(&id, bits);
        let (first, last) = id_range(bucket, bits);
        let name = format!("ok-{bits}-bits-{}", hex(&start));
        Vector::new(
            "bucket",
            &name,
            "5.5",
            "ok",
            "the bucket of an id, and the first and last id that lie in it",
        )
        .with("bits", bits)
        .with("bucket", bucket)
        .with("first", first)
        .with("last", last)
        .body(id)
    };
    let starts = [[0xab, 0xcd], [0x00, 0x0f], [0xff, 0xff]];
    let mut cases: Vec<Vector> = starts.iter().map(|start| case(12, *start)).collect();
    cases.extend([0, 1, 4, 8, 9].map(|bits| case(bits, [0xab, 0xcd])));
    cases
}

fn indexes() -> Vec<Vector> {
    let case = |name: &str, about: &str, bits: u8, ids: &[[u8; 32]]| {
        let mut buckets = BTreeMap::<u16, Vec<[u8; 32]>>::new();
        ids.iter().for_each(|id| buckets.entry(bucket(id, bits)).or_default().push(*id));
        let summary = |(bucket, ids): (&u16, &mut Vec<[u8; 32]>)| {
            ids.sort_unstable();
            format!("{bucket}:{}:{}", ids.len(), hex(&Md5::digest(ids.concat())))
        };
        let summaries: Vec<String> = buckets.iter_mut().map(summary).collect();
        Vector::new("index", name, "5.6, 8.6", "ok", about)
            .with("bits", bits)
            .with("buckets", summaries.join(" "))
            .body(ids.concat())
    };
    let mut rng = Rng::new("index");
    let ids: Vec<[u8; 32]> = (0..40).map(|_| rng.bytes()).collect();
    let crowded: Vec<[u8; 32]> = ids
        .iter()
        .map(|id| {
            let mut id = *id;
            id[0] = 0x42;
            id[1] &= 0x1f;
            id
        })
        .collect();
    assert_eq!(EntryId::from_bytes(ids[0]).as_bytes(), &ids[0]);
    vec![
        case("ok-none", "no ids, no buckets", 12, &[]),
        case("ok-one", "one id", 12, &ids[..1]),
        case("ok-one-bucket", "with 0 bits all ids are in bucket 0; the body is not sorted", 0, &ids),
        case("ok-few-buckets", "with 2 bits", 2, &ids),
        case("ok-many-buckets", "with 12 bits most ids are alone", 12, &ids),
        case("ok-crowded", "with 12 bits and two buckets", 12, &crowded),
    ]
}
