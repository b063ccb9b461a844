//! Network files and what follows from the parameters (SPEC 2).

use p2pdb_protocol::network::{Network, NetworkFile};

use crate::{vector::Vector, world};

pub fn cases() -> Vec<Vector> {
    let bootstrap =
        vec!["/dns4/node.example/tcp/4001".to_owned(), "/ip4/192.0.2.1/udp/4001/quic-v1".to_owned()];
    let file = |network: Network| NetworkFile { network, bootstrap: bootstrap.clone() }.to_toml();
    let ok = |name: &str, about: &str, network: Network| {
        Vector::new("network", name, "2.1-2.4", "ok", about)
            .with("id", network.id())
            .with("label", network.label())
            .body(file(network))
    };
    let bad = |name: &str, about: &str, from: &str, to: &str| {
        let text = file(Network::default());
        assert_eq!(text.matches(from).count(), 1, "{from} in {text}");
        Vector::new("network", name, "2.1, 2.4", "invalid", about).body(text.replace(from, to))
    };
    let least = Network {
        name: "0".to_owned(),
        bucket_bits: 0,
        work_price: 1,
        work_base_bytes: 1,
        work_puzzles: 1,
        max_entry_bytes: 4096,
        max_clock_ahead: 1,
        epoch_seconds: 60,
    };
    let greatest = Network {
        name: "z".repeat(64),
        bucket_bits: 12,
        work_price: 1 << 48,
        work_base_bytes: 1 << 20,
        work_puzzles: 256,
        max_entry_bytes: 524_288,
        max_clock_ahead: 86_400,
        epoch_seconds: 31_536_000,
    };
    vec![
        ok("ok-default", "the default network", Network::default()),
        ok("ok-vectors", "the network of the other vectors", world::network()),
        ok("ok-least", "every parameter at its least", least),
        ok("ok-greatest", "every parameter at its greatest", greatest),
        bad("name-empty", "the name is empty", "p2pdb-main", ""),
        bad("name-65", "the name is too long", "p2pdb-main", &"z".repeat(65)),
        bad("name-upper-case", "a letter of the name is upper case", "p2pdb-main", "P2pdb-main"),
        bad("bucket-bits-13", "bucket_bits is too large", "bucket_bits = 12", "bucket_bits = 13"),
        bad("work-price-0", "work_price is 0", "work_price = 536870912", "work_price = 0"),
        bad("work-price-large", "2^48 + 1", "work_price = 536870912", "work_price = 281474976710657"),
        bad("work-base-bytes-0", "work_base_bytes is 0", "work_base_bytes = 2048", "work_base_bytes = 0"),
        bad("work-puzzles-257", "work_puzzles is too large", "work_puzzles = 64", "work_puzzles = 257"),
        bad("max-entry-bytes-4095", "max_entry_bytes is too small", "= 262144", "= 4095"),
        bad("max-clock-ahead-0", "max_clock_ahead is 0", "max_clock_ahead = 600", "max_clock_ahead = 0"),
        bad("epoch-seconds-59", "epoch_seconds is too small", "epoch_seconds = 604800", "epoch_seconds = 59"),
        bad("negative", "a negative number", "work_puzzles = 64", "work_puzzles = -64"),
        bad("unknown-key", "a key that is none", "work_price", "work_prize"),
        bad("missing-key", "epoch_seconds is missing", "epoch_seconds = 604800\n", ""),
        bad("no-bootstrap", "bootstrap is missing", "bootstrap", "#bootstrap"),
    ]
}
