//! The protocol crate is pure: no runtime, network, database, clock, file or socket, neither as a dependency nor from `std`.

use std::{path::Path, process::Command};

use crate::source::{Token, files, root, tokens, without_tests};

/// Crates that do I/O.
const FORBIDDEN_CRATES: &[&str] =
    &["tokio", "libp2p", "redb", "mio", "socket2", "async-std", "smol", "quinn", "futures"];

/// Paths of `std` that do I/O or read a clock, as tokens.
const FORBIDDEN_PATHS: &[&[&str]] = &[
    &["std", "::", "net"],
    &["std", "::", "fs"],
    &["std", "::", "process"],
    &["std", "::", "env"],
    &["SystemTime", "::", "now"],
    &["Instant", "::", "now"],
];

/// Names that are as good as the path: `use std::{fs, net}` names them apart from `std`.
const FORBIDDEN_NAMES: &[&str] = &["fs", "net", "SystemTime", "Instant"];

/// The crates of the output of `cargo tree --prefix none` that do I/O.
fn impure_crates(tree: &str) -> Vec<&str> {
    let is_forbidden = |name: &str| {
        FORBIDDEN_CRATES
            .iter()
            .any(|forbidden| name == *forbidden || name.starts_with(&format!("{forbidden}-")))
    };
    tree.lines().filter(|line| line.split(' ').next().is_some_and(is_forbidden)).collect()
}

/// The places in a source that do I/O, as `line: what`.
fn impure_places(tokens: &[Token]) -> Vec<String> {
    let is_path = |rest: &[Token], path: &[&str]| {
        rest.len() >= path.len() && rest.iter().zip(path).all(|(token, expected)| token.text == *expected)
    };
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let rest = &tokens[at..];
        if let Some(path) = FORBIDDEN_PATHS.iter().find(|path| is_path(rest, path)) {
            found.push(format!("{}: {}", token.line, path.concat()));
        }
        if is_path(rest, &["std", "::", "{"]) {
            let group = rest.iter().take_while(|token| token.text != ";");
            let named = group.filter(|token| FORBIDDEN_NAMES.contains(&token.text.as_str()));
            found.extend(named.map(|token| format!("{}: std::{{{}}}", token.line, token.text)));
        }
    }
    found
}

/// Test modules in files of their own may read vectors from the disk.
fn is_test(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.iter().any(|part| part == "tests")
}

#[test]
fn the_protocol_crate_depends_on_nothing_that_does_io() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "p2pdb-protocol",
            "--all-features",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--locked", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo tree: {}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.starts_with("p2pdb-protocol "), "cargo tree says: {tree}");
    assert_eq!(impure_crates(&tree), [""; 0]);
}

#[test]
fn the_protocol_crate_reads_no_clock_file_or_socket() {
    let src = root().join("protocol/src");
    let files: Vec<_> = files(&src).into_iter().filter(|file| !is_test(file)).collect();
    assert!(!files.is_empty());
    let mut found = Vec::new();
    for file in files {
        let source = std::fs::read_to_string(&file).unwrap();
        let places = impure_places(&without_tests(&tokens(&source)));
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        found.extend(places.iter().map(|place| format!("{name}:{place}")));
    }
    assert!(found.is_empty(), "not pure; take it as an argument instead:\n{}", found.join("\n"));
}

#[test]
fn impurity_is_found() {
    assert_eq!(
        impure_crates("p2pdb-protocol v1 (x)\nlibp2p-core v1\nsha2 v1\ntokio v1"),
        ["libp2p-core v1", "tokio v1"]
    );
    let source = "use std::{fmt, time::SystemTime};\nfn f() { Instant::now(); }\nuse std::net::IpAddr; // std::fs\n\
                  use std::io;\n#[cfg(test)] mod tests { use std::fs; }";
    let places = impure_places(&without_tests(&tokens(source)));
    assert_eq!(places, ["1: std::{SystemTime}", "2: Instant::now", "3: std::net"]);
}
