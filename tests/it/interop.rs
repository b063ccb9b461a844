//! The second implementation, in Python and written from SPEC.md, against this one: each reads what the other makes.

use std::{
    collections::BTreeMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use p2pdb::{
    clock::Clock,
    ingest::{Gate, Mirror, Way},
    protocol::{
        card::TableCard,
        entry::Entry,
        export::{Item, Reader, Writer},
        network::NetworkFile,
        refusal::Outcome,
        seal,
    },
    store::{Store, StoreOptions},
};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{entry, key, network, table, table_id};

/// Files that both sides are given.
struct Exchange {
    directory: TempDir,
}

impl Exchange {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let network = NetworkFile { network: network(), bootstrap: Vec::new() };
        std::fs::write(directory.path().join("network.toml"), network.to_toml()).unwrap();
        let card = TableCard {
            name: "interop".to_owned(),
            network,
            table_public: table().public_key().clone(),
            table_private: Some(table().clone()),
            recipient_public: None,
            recipient_private: None,
        };
        std::fs::write(directory.path().join("card.toml"), card.to_toml().unwrap().as_bytes()).unwrap();
        let recipient = key(1);
        std::fs::write(directory.path().join("public.pem"), recipient.public_key().to_pem().unwrap())
            .unwrap();
        std::fs::write(directory.path().join("private.pem"), recipient.to_pem().unwrap().as_bytes()).unwrap();
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the second implementation and returns what it prints.
    fn python(&self, command: &str, arguments: &[(&str, &str)], last: &[&str]) -> Value {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let prepared = std::env::var_os("P2PDB_TEST_PYTHON").map(PathBuf::from);
        let python = prepared.unwrap_or_else(|| root.join("target/interop/bin/python"));
        let mut run = Command::new(&python);
        run.arg(root.join("tests/interop/interop.py")).arg(command);
        for (flag, file) in arguments {
            run.arg(flag).arg(self.path(file));
        }
        run.args(last).current_dir(self.directory.path());
        let output = run.output().unwrap_or_else(|error| {
            panic!("{}: {error}; tests/run prepares the second implementation", python.display())
        });
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[test]
fn python_verifies_and_opens_what_rust_makes_and_computes_the_same_index() {
    let exchange = Exchange::new();
    let network = network();
    let texts: BTreeMap<String, String> = (0..20)
        .map(|number| {
            let text = format!("from Rust {number} äöü");
            let entry = entry(&network, table(), key(1).public_key(), &text);
            std::fs::write(exchange.path(&format!("{number:02}")), entry.encoded()).unwrap();
            (entry.id().to_string(), text)
        })
        .collect();
    let mut writer = Writer::new(File::create(exchange.path("export")).unwrap()).unwrap();
    writer.table_key(table().public_key().der()).unwrap();
    let mut entries = Vec::new();
    for number in 0..20 {
        let encoded = std::fs::read(exchange.path(&format!("{number:02}"))).unwrap();
        writer.entry(&encoded).unwrap();
        entries.push(Entry::from_trusted(encoded.into(), &network).unwrap());
    }
    writer.finish().unwrap();

    let files = [("--network", "network.toml"), ("--recipient-key", "private.pem")];
    let checked = exchange.python("check", &files, &["export"]);
    assert_eq!(checked["entries"], 20);
    assert_eq!(checked["refused"].as_array().unwrap().len(), 0);
    let opened = checked["opened"].as_array().unwrap().iter();
    let opened =
        opened.map(|one| (one["id"].as_str().unwrap().to_owned(), one["text"].as_str().unwrap().to_owned()));
    assert_eq!(opened.collect::<BTreeMap<_, _>>(), texts);

    let mut ids: Vec<_> = entries.iter().map(Entry::id).collect();
    ids.sort_unstable();
    let mut expected: Vec<Value> = Vec::new();
    for bucket in 0..1 << network.bucket_bits {
        let inside =
            ids.iter().filter(|id| p2pdb::protocol::bucket::bucket_of(id, network.bucket_bits) == bucket);
        let inside: Vec<_> = inside.collect();
        if !inside.is_empty() {
            let digest = p2pdb::protocol::bucket::digest(inside.iter().copied());
            expected.push(serde_json::json!([bucket, inside.len(), digest.to_string()]));
        }
    }
    assert_eq!(checked["index"][table_id(table()).to_string()], Value::Array(expected));
}

#[tokio::test]
async fn the_gate_admits_and_rust_opens_what_python_makes() {
    let exchange = Exchange::new();
    let files = [
        ("--network", "network.toml"),
        ("--card", "card.toml"),
        ("--recipient", "public.pem"),
        ("--author", "private.pem"),
        ("--out", "export"),
    ];
    let made = exchange.python("make", &files, &["--count", "5"]);
    let made = made.as_array().unwrap();
    assert_eq!(made.len(), 5);

    let store = exchange.path("store.redb");
    let store = Store::open(&store, network(), StoreOptions::default(), Clock::system()).unwrap();
    let gate = Gate::new(store, network(), Mirror::All, 10, Clock::system());
    let (mut keys, mut entries) = (Vec::new(), Vec::new());
    for item in Reader::new(BufReader::new(File::open(exchange.path("export")).unwrap())).unwrap() {
        match item.unwrap() {
            Item::TableKey(key) => keys.push(key.into()),
            Item::Entry(entry) => entries.push(entry),
        }
    }
    let judgements = gate.admit(Way::Import, entries.clone(), keys).await;
    for (number, judgement) in judgements.iter().enumerate() {
        assert_eq!(judgement.outcome, Outcome::Stored);
        assert_eq!(judgement.id.unwrap().to_string(), made[number]["id"].as_str().unwrap());
    }
    for (encoded, made) in entries.into_iter().zip(made) {
        let entry = Entry::from_trusted(encoded, &network()).unwrap();
        let opened = seal::open(&entry, key(1)).unwrap();
        assert_eq!(String::from_utf8(opened.content.data).unwrap(), made["text"].as_str().unwrap());
        assert_eq!(opened.author.unwrap().der(), key(1).public_key().der());
    }
}
