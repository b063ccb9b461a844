//! `p2pdb demo` as whoever has just built it meets it: it shows everything, ends well or says why not, and leaves nothing.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// What the demo shows, in order.
const STEPS: [&str; 13] = [
    "keys",
    "meet",
    "seal",
    "too cheap",
    "mine",
    "forged",
    "put",
    "spread",
    "read",
    "eavesdrop",
    "kill",
    "reconcile",
    "clean",
];
/// The demo is to take less than this on two cores, with the tests beside it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A demo whose temporary files are in a directory of their own.
fn demo(temporary: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p2pdb"));
    command.arg("demo").args(args).env("TMPDIR", temporary).stdin(Stdio::null());
    // Whoever runs a node of his own may have these set: they are nothing to the demo.
    command.env("P2PDB_LISTEN", "/ip4/127.0.0.1/tcp/1").env("P2PDB_TABLES", "nonsense");
    command
}

fn is_running(process: u64) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

fn is_empty(directory: &TempDir) -> bool {
    fs::read_dir(directory.path()).unwrap().next().is_none()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The processes of the nodes, from the line that names them.
fn processes(line: &str) -> Vec<u64> {
    let (_, list) = line.split_once("the processes ").unwrap();
    let (list, _) = list.split_once(", met").unwrap();
    list.split([',', ' ']).filter_map(|word| word.parse().ok()).collect()
}

fn signal(signal: &str, process: u64) {
    assert!(Command::new("kill").args(["-s", signal, &process.to_string()]).status().unwrap().success());
}

#[test]
fn the_demo_shows_everything_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "tests stand outside of the program")]
    let began = Instant::now();
    let output = demo(temporary.path(), &["--json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    let steps = shown["steps"].as_array().unwrap();
    assert_eq!(steps.iter().map(|step| step["step"].as_str().unwrap()).collect::<Vec<_>>(), STEPS);
    let step = |name: &str| steps.iter().find(|step| step["step"] == name).unwrap();

    assert!(step("seal")["id"].as_str().unwrap().starts_with("p2entry1"));
    assert_eq!(step("too cheap")["refusal"], "work_insufficient");
    assert_eq!(step("forged")["refusal"], "signature_invalid");
    assert_eq!(step("put")["outcome"], "stored");
    assert_eq!(step("read")["text"], step("seal")["text"]);
    assert_eq!(step("eavesdrop")["unwrapped"], 0);
    // The work is about what the network asks: 64 puzzles scatter by an eighth, of which five are allowed for.
    let (price, hashes) = (step("mine")["price"].as_f64().unwrap(), step("mine")["hashes"].as_f64().unwrap());
    assert!((0.4..1.6).contains(&(hashes / price)), "{hashes} hashes at a price of {price}");

    let meet = step("meet");
    let nodes = ["a", "b", "c"].map(|node| meet[node]["process"].as_u64().unwrap());
    let again = step("reconcile")["process"].as_u64().unwrap();
    for process in nodes.into_iter().chain([again]) {
        assert!(!is_running(process), "the process {process} is left");
    }
    assert!(is_empty(&temporary), "files are left in {}", temporary.path().display());
}

#[test]
fn a_node_that_fails_makes_the_demo_fail() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child =
        demo(temporary.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let nodes = processes(&lines.find(|line| line.contains("the processes ")).unwrap());
    assert_eq!(nodes.len(), 3);
    // C is needed after the entry is mined, which takes seconds.
    signal("KILL", nodes[2]);
    let rest: Vec<String> = lines.collect();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{rest:?}");
    let error = stderr(&output);
    assert!(error.starts_with("error: ") && error.contains("node C"), "{error}");
    assert!(error.contains("SIGKILL"), "it says how C ended: {error}");
    assert!(!rest.iter().any(|line| line.contains("spread") || line.starts_with("All ")), "{rest:?}");
    assert!(nodes.iter().all(|process| !is_running(*process)), "a process is left");
    assert!(is_empty(&temporary), "files are left");
}

#[test]
fn an_interrupted_demo_cleans_up() {
    for name in ["INT", "TERM"] {
        let temporary = tempfile::tempdir().unwrap();
        let mut child =
            demo(temporary.path(), &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let nodes = processes(&lines.find(|line| line.contains("the processes ")).unwrap());
        signal(name, child.id().into());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
        assert!(nodes.iter().all(|process| !is_running(*process)), "{name}: a process is left");
        assert!(is_empty(&temporary), "{name}: files are left");
    }
}

#[test]
fn a_demo_without_a_place_says_what_to_do() {
    let output = demo(Path::new("/nonexistent"), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = stderr(&output);
    assert!(error.contains("/nonexistent") && error.contains("hint: set TMPDIR"), "{error}");
}
