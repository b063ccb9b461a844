//! Sketches, their decoding, and roots (SPEC 10.6), computed bit by bit from the definitions.

use sha2::{Digest as _, Sha256};

use crate::{
    vector::{Vector, hex},
    world::Rng,
};

pub fn cases() -> Vec<Vector> {
    [sketches(), differences(), digests()].concat()
}

fn multiply(a: u64, b: u64) -> u64 {
    (0..64).rev().fold(0, |product: u64, bit| {
        let doubled = (product << 1) ^ if product >> 63 == 1 { 0x1b } else { 0 };
        doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
    })
}

fn sid(id: &[u8; 32]) -> u64 {
    u64::from_be_bytes(id[..8].try_into().unwrap()).max(1)
}

fn syndromes(sids: &[u64], count: usize) -> Vec<u64> {
    let mut sums = vec![0; count];
    for sid in sids {
        let mut power = *sid;
        for sum in &mut sums {
            *sum ^= power;
            power = multiply(multiply(power, *sid), *sid);
        }
    }
    sums
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn sketches() -> Vec<Vector> {
    let case = |name: &str, about: &str, ids: &[[u8; 32]]| {
        let mut sum = [0_u8; 32];
        for id in ids {
            let mut carry = 0_u16;
            for place in (0..32).rev() {
                carry += u16::from(sum[place]) + u16::from(id[place]);
                sum[place] = carry as u8;
                carry >>= 8;
            }
        }
        let count = (ids.len() as u64).to_be_bytes();
        let root = Sha256::digest([&b"p2pdb root v1"[..], &sum, &count].concat());
        let counter = |bit: usize| {
            let ups = ids.iter().filter(|id| id[16 + bit / 8] >> (7 - bit % 8) & 1 == 1).count();
            (2 * ups as i64 - ids.len() as i64) as u16
        };
        let tow: Vec<u8> = (0..64).flat_map(|bit| counter(bit).to_be_bytes()).collect();
        let sids: Vec<u64> = ids.iter().map(sid).collect();
        Vector::new("sketch", name, "10.6", "ok", about)
            .with("n", ids.len())
            .with("root", hex(&root[..16]))
            .with("tow", hex(&tow))
            .with("syndromes", hex(&words(&syndromes(&sids, 64))))
            .body(ids.concat())
    };
    let mut rng = Rng::new("sketch");
    let ids: Vec<[u8; 32]> = (0..100).map(|_| rng.bytes()).collect();
    let mut zero = ids[0];
    zero[..8].fill(0);
    vec![
        case("ok-none", "the empty set", &[]),
        case("ok-one", "one id", &ids[..1]),
        case("ok-zero-sid", "an id whose sid is 0, which counts as 1", &[zero]),
        case("ok-ones", "the sum overflows, and all counters go one way", &[[0xff; 32], [0xfe; 32]]),
        case("ok-many", "a hundred ids", &ids),
    ]
}

fn differences() -> Vec<Vector> {
    let mut rng = Rng::new("difference");
    let sids: Vec<u64> = (0..100).map(|_| u64::from_be_bytes(rng.bytes())).collect();
    let ok = |name: &str, about: &str, sids: &[u64], count: usize| {
        let mut sorted = sids.to_vec();
        sorted.sort_unstable();
        let texts: Vec<String> = sorted.iter().map(|sid| format!("{sid:016x}")).collect();
        Vector::new("difference", name, "10.6", "ok", about)
            .with("sids", texts.join(" "))
            .body(words(&syndromes(sids, count)))
    };
    let bad = |name: &str, about: &str, syndromes: Vec<u64>| {
        Vector::new("difference", name, "10.6", "undecodable", about).body(words(&syndromes))
    };
    let neighbours: Vec<u64> = (1..16).collect();
    let garbage: Vec<u64> = (0..16).map(|_| u64::from_be_bytes(rng.bytes())).collect();
    vec![
        ok("ok-none", "equal sets", &[], 16),
        ok("ok-one", "one difference", &sids[..1], 16),
        ok("ok-15-of-16", "the most that 16 syndromes permit", &sids[..15], 16),
        ok("ok-neighbours", "sids that differ in few bits", &neighbours, 16),
        ok("ok-40-of-41", "41 syndromes", &sids[..40], 41),
        ok("ok-63-of-64", "the most at all", &sids[..63], 64),
        bad("full", "as many elements as syndromes", syndromes(&sids[..16], 16)),
        bad("too-many", "more elements than syndromes", syndromes(&sids, 16)),
        bad("garbage", "syndromes of no small set", garbage),
        bad("zero-sum", "elements that add up to 0, but not their third powers", vec![0, 1, 0]),
    ]
}

fn digests() -> Vec<Vector> {
    let case = |name: &str, about: &str, rows: &[[u8; 48]]| {
        let digest = Sha256::digest([&b"p2pdb roots v1"[..], &rows.concat()].concat());
        Vector::new("roots", name, "10.6", "ok", about).with("digest", hex(&digest[..16])).body(rows.concat())
    };
    let mut rng = Rng::new("roots");
    let row = |table: u8, root: [u8; 16]| {
        let mut row = [table; 48];
        row[32..].copy_from_slice(&root);
        row
    };
    let rows: Vec<[u8; 48]> = (0..5).map(|table| row(table, rng.bytes())).collect();
    vec![
        case("ok-none", "no tables", &[]),
        case("ok-one", "one table: its id and its root", &rows[..1]),
        case("ok-five", "five tables, ascending", &rows),
    ]
}
