//! Writes the test vectors of `protocol/vectors`, always the same: `cargo run -p p2pdb-protocol --example vectors`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]
#![allow(missing_docs, unreachable_pub)]

mod cases;
mod vector;
mod world;

use std::{fs, path::Path};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let vectors = cases::all();
    for area in cases::AREAS {
        let directory = root.join(area);
        fs::create_dir_all(&directory).unwrap();
        // A case that was renamed must not stay behind under its old name.
        for file in fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "txt") {
                fs::remove_file(file).unwrap();
            }
        }
    }
    for vector in &vectors {
        fs::write(root.join(vector.path()), vector.render()).unwrap();
    }
    fs::write(root.join(cases::NETWORK_FILE), cases::network_file()).unwrap();
    println!("{} vectors of {} areas in {}", vectors.len(), cases::AREAS.len(), root.display());
}
