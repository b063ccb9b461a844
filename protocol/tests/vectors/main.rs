//! Every file of `vectors/` gives the result that it states, and is what the generator writes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![allow(missing_docs, unreachable_pub)]

#[path = "../../examples/vectors/cases/mod.rs"]
mod cases;
mod messages;
mod objects;
mod parse;
mod plain;
#[path = "../../examples/vectors/vector.rs"]
mod vector;
#[path = "../../examples/vectors/world.rs"]
mod world;

use std::{collections::BTreeSet, fs, path::PathBuf};

use vector::Vector;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

/// All cases of an area, as they are on disk.
fn read(area: &str) -> Vec<Vector> {
    let files = fs::read_dir(root().join(area)).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap();
            Vector::parse(area, name, &fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// Runs every case of an area: `run` gives `ok` or the name of the failure, after it compared what an `ok` states.
fn check(area: &str, run: fn(&Vector) -> String) {
    let vectors = read(area);
    let expected: BTreeSet<&str> = vectors.iter().map(|vector| vector.need("expect")).collect();
    assert!(expected.contains("ok"), "{area} has no case that is ok");
    let wrong: Vec<String> = vectors
        .iter()
        .filter_map(|vector| {
            let (got, expected) = (run(vector), vector.need("expect"));
            (got != expected).then(|| format!("{}: expected {expected}, got {got}", vector.path().display()))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

macro_rules! areas {
    ($($name:ident = $run:path;)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name), $run);
            }
        )*

        #[test]
        fn every_area_has_a_check() {
            assert_eq!([$(stringify!($name)),*].iter().collect::<BTreeSet<_>>(), cases::AREAS.iter().collect());
            let directories = fs::read_dir(root()).unwrap().map(|entry| entry.unwrap());
            let directories: BTreeSet<String> = directories
                .filter(|entry| entry.file_type().unwrap().is_dir())
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect();
            assert_eq!(directories, cases::AREAS.iter().map(ToString::to_string).collect());
        }
    };
}

areas! {
    ids = plain::ids;
    keys = plain::keys;
    network = plain::network;
    price = plain::price;
    work = plain::work;
    padding = plain::padding;
    bucket = plain::bucket;
    index = plain::index;
    sketch = plain::sketch;
    difference = plain::difference;
    roots = plain::roots;
    header = objects::header;
    entry = objects::entry;
    seal = objects::seal;
    record = objects::record;
    messages = messages::messages;
    export = objects::export;
}

/// The files are those of the generator, no more and no less.
#[test]
fn the_generator_writes_these_files() {
    let generated = cases::all();
    let paths: BTreeSet<PathBuf> = generated.iter().map(Vector::path).collect();
    assert_eq!(paths.len(), generated.len(), "two cases have one name");
    let on_disk: BTreeSet<PathBuf> =
        cases::AREAS.iter().flat_map(|area| read(area)).map(|v| v.path()).collect();
    assert_eq!(on_disk, paths);
    for vector in generated {
        let text = fs::read_to_string(root().join(vector.path())).unwrap();
        assert!(text == vector.render(), "{} differs: run the example `vectors`", vector.path().display());
    }
    assert_eq!(fs::read_to_string(root().join(cases::NETWORK_FILE)).unwrap(), cases::network_file());
}

/// Every refusal that needs no store is shown by a case.
#[test]
fn every_refusal_of_admission_has_a_case() {
    let shown: BTreeSet<String> =
        read("entry").iter().map(|vector| vector.need("expect").to_owned()).collect();
    let expected = [
        "too_large",
        "malformed",
        "non_canonical",
        "unknown_version",
        "bad_recipients",
        "bad_expiry",
        "body_mismatch",
        "created_in_future",
        "expired",
        "beyond_horizon",
        "work_malformed",
        "work_insufficient",
        "table_key_invalid",
        "signature_invalid",
        "ok",
    ];
    assert_eq!(shown, expected.map(str::to_owned).into());
}
