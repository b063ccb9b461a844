//! Every case, area by area.

mod entry;
mod export;
mod header;
mod ids;
mod index;
mod messages;
mod network;
mod record;
mod seal;
mod sketch;
mod work;

use p2pdb_protocol::network::NetworkFile;

use crate::{vector::Vector, world};

/// The directories of `vectors/` that hold cases.
pub const AREAS: &[&str] = &[
    "ids",
    "keys",
    "network",
    "header",
    "entry",
    "price",
    "work",
    "padding",
    "seal",
    "record",
    "bucket",
    "index",
    "sketch",
    "difference",
    "roots",
    "messages",
    "export",
];

/// The network file that entries refer to.
pub const NETWORK_FILE: &str = "network/p2pdb-vectors.toml";

/// All cases, in the order of [`AREAS`].
pub fn all() -> Vec<Vector> {
    let cases = [
        ids::cases(),
        network::cases(),
        header::cases(),
        entry::cases(),
        work::cases(),
        seal::cases(),
        record::cases(),
        index::cases(),
        sketch::cases(),
        messages::cases(),
        export::cases(),
    ];
    cases.into_iter().flatten().collect()
}

/// The text of [`NETWORK_FILE`].
pub fn network_file() -> String {
    NetworkFile { network: world::network(), bootstrap: Vec::new() }.to_toml()
}
