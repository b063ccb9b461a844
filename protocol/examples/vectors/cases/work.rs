//! Prices and proofs (SPEC 5.1-5.4).

use p2pdb_protocol::{id::EntryId, network::Network};

use crate::{
    vector::Vector,
    world::{Rng, effort, nonces, price, work},
};

pub fn cases() -> Vec<Vector> {
    [prices(), proofs()].concat()
}

fn with_parameters(vector: Vector, network: &Network, size: u64) -> Vector {
    vector
        .with("work-price", network.work_price)
        .with("work-base-bytes", network.work_base_bytes)
        .with("work-puzzles", network.work_puzzles)
        .with("size", size)
}

fn prices() -> Vec<Vector> {
    let case = |name: &str, about: &str, network: &Network, size: u64| {
        let (hashes, each, target) = price(network, size);
        with_parameters(Vector::new("price", name, "5.1", "ok", about), network, size)
            .with("hashes", hashes)
            .with("hashes-per-puzzle", each)
            .with("target", target)
    };
    let default = Network::default();
    let greatest = Network { work_price: 1 << 48, work_base_bytes: 1, work_puzzles: 1, ..default.clone() };
    let least = Network { work_price: 1, work_base_bytes: 1 << 20, work_puzzles: 256, ..default.clone() };
    let odd = Network { work_price: 1000, work_base_bytes: 300, work_puzzles: 7, ..default.clone() };
    vec![
        case("ok-small", "smaller than work_base_bytes", &default, 700),
        case("ok-base", "exactly work_base_bytes", &default, 2048),
        case("ok-above-base", "a byte more than work_base_bytes", &default, 2049),
        case("ok-large", "the largest of the default network", &default, 262_144),
        case("ok-rounding", "both divisions leave a rest", &odd, 1234),
        case("ok-greatest", "a price of more than 64 bits", &greatest, 524_288),
        case("ok-least", "less than a hash for each puzzle counts as one", &least, 1000),
    ]
}

fn proofs() -> Vec<Vector> {
    let id = EntryId::from_bytes(Rng::new("work").bytes());
    let network = Network { work_price: 4096, work_base_bytes: 1024, work_puzzles: 8, ..Network::default() };
    let (_, _, target) = price(&network, 1500);
    let solved = work(&network, &id, 1500);
    let case = |name: &str, expect: &str, about: &str, work: &[u8]| {
        with_parameters(Vector::new("work", name, "5.2, 5.3", expect, about), &network, 1500)
            .with("id", id)
            .body(work)
    };
    let ok = |name: &str, about: &str, work: &[u8]| {
        case(name, "ok", about, work).with("effort", effort(&id, work))
    };
    let mut swapped = solved.clone();
    swapped.rotate_left(8);
    let reversed: Vec<u8> = solved.chunks(8).flat_map(|nonce| nonce.iter().rev()).copied().collect();
    let unsolved = nonces(&id, 8, |value| value > target);
    let first_unsolved = [&unsolved[..8], &solved[8..]].concat();
    let last_unsolved = [&solved[..56], &unsolved[56..]].concat();
    let free = Network { work_price: 1, work_base_bytes: 1, work_puzzles: 1, ..Network::default() };
    vec![
        ok("ok", "the first nonce of each puzzle", &solved),
        ok("ok-better", "each puzzle eight times as hard", &nonces(&id, 8, |value| value <= target / 8)),
        with_parameters(
            Vector::new("work", "ok-free", "5.1-5.4", "ok", "at the price 1 every nonce will do"),
            &free,
            1,
        )
        .with("id", id)
        .body([0; 8])
        .with("effort", effort(&id, &[0; 8])),
        case("empty", "work_malformed", "nothing", &[]),
        case("short", "work_malformed", "a byte is missing", &solved[..63]),
        case("seven", "work_malformed", "a nonce is missing", &solved[..56]),
        case("long", "work_malformed", "a byte too many", &[&solved[..], &[0]].concat()),
        case("first-unsolved", "work_insufficient", "the first puzzle is not solved", &first_unsolved),
        case("last-unsolved", "work_insufficient", "the last puzzle is not solved", &last_unsolved),
        case("swapped", "work_insufficient", "the nonces of other puzzles", &swapped),
        case("little-endian", "work_insufficient", "each nonce with its bytes reversed", &reversed),
    ]
}
