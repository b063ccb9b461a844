//! The command line with real nodes, each a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::cli::{Home, stderr, text};

/// How often, and how many times, is looked whether something has happened in another process: for half a minute.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOKS: usize = 600;

/// A node that is killed when the test ends.
pub(crate) struct Node {
    child: Child,
    pub(crate) address: String,
}

impl Node {
    pub(crate) fn run(home: &Home, args: &[&str]) -> Self {
        let fixed = ["run", "--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--set", "nat.upnp=false"];
        let mut command = home.command(&[&fixed[..], args].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the node does not start: {}", stderr(&child.wait_with_output().unwrap()));
        }
        let running: Value = serde_json::from_str(&line).unwrap();
        Self { child, address: running["addresses"][0].as_str().unwrap().to_owned() }
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: &str) {
        let status =
            Command::new("kill").args(["-s", signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// Asks the node to stop, and waits until it has.
    pub(crate) fn stop(self) -> Option<i32> {
        self.signal("TERM");
        self.wait()
    }

    fn wait(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if holds() {
            return;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    panic!("{what} did not happen");
}

pub(crate) fn status(home: &Home) -> Value {
    let output = home.run(&["status", "--json"]);
    assert!(matches!(output.status.code(), Some(0 | 4)), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A home with the table `news`, whose readers share a key, and its id.
fn publisher() -> (Home, String) {
    let home = Home::dev();
    let table = home.json(&["table", "new", "news", "--bits", "2048", "--shared-recipient"]);
    (home, table["id"].as_str().unwrap().to_owned())
}

/// A home that has the card of `news` with what is granted.
fn guest(publisher: &Home, with: &str) -> Home {
    let (guest, card) = (Home::dev(), publisher.path(&format!("{with}.toml")));
    publisher.ok(&["table", "share", "news", text(&card), "--force", "--with", with]);
    guest.ok(&["table", "import", text(&card)]);
    guest
}

/// The lines of a command that prints one object a line.
fn lines(output: &str) -> Vec<Value> {
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_one_posts_another_reads_from_another_node() {
    let (publisher, table) = publisher();
    let node_home = Home::dev();
    let a = Node::run(&publisher, &["--tables", &table]);
    let b = Node::run(&node_home, &["--tables", &table, "--bootstrap", &a.address]);
    until("meeting", || status(&publisher)["healthy"] == true);
    assert_eq!(publisher.json(&["peers", "list"])["peers"].as_array().unwrap().len(), 1);

    publisher.ok(&["key", "new", "editor", "--bits", "2048"]);
    // The node that runs on the home is found without being named.
    let put =
        ["put", "--table", "news", "--sign", "editor", "--expires", "1 day", "--json", "first \u{1b}[2Jnews"];
    let posted = lines(&publisher.ok(&put));
    assert_eq!((posted.len(), &posted[0]["stored"]), (1, &true.into()));
    let id = posted[0]["id"].as_str().unwrap();
    until("arrival at the other node", || status(&node_home)["entries"] == 1);

    let reader = guest(&publisher, "read");
    let peer = ["--peer", &b.address];
    let get = [&["get", "--table", "news"][..], &peer].concat();
    let got = reader.json(&get);
    let entry = &got["entries"][0];
    assert_eq!((&entry["id"], &entry["state"]), (&id.into(), &"opened".into()));
    assert_eq!(entry["text"], "first \u{1b}[2Jnews");
    assert!(entry["author"]["id"].as_str().unwrap().starts_with("p2key1"));
    assert!(entry["expires"].as_u64().unwrap() == entry["created"].as_u64().unwrap() + 86_400);
    let shown = reader.ok(&get);
    assert!(shown.contains("first \u{fffd}[2Jnews") && !shown.contains('\u{1b}'), "{shown:?}");
    assert_eq!(reader.ok(&[&get[..], &["--raw"]].concat()), "first \u{1b}[2Jnews");
    // From where this one left off there is nothing.
    let next = got["next"].as_str().unwrap();
    let after = reader.json(&[&get[..], &["--cursor", next]].concat());
    assert_eq!(after["entries"], Value::Array(vec![]));

    // Who has no key sees that there is something, and no more.
    let stranger = Home::dev();
    let sealed = stranger.json(&[&["get", "--table", &table][..], &peer].concat());
    assert_eq!(sealed["entries"][0]["state"], "sealed");
    assert_eq!(sealed["entries"][0].get("text"), None);
    stranger.fails_with(1, &[&["put", "--table", &table, "x"][..], &peer].concat(), "import its card");
    let cannot_post = reader.fails(1, &[&["put", "--table", "news", "x"][..], &peer].concat());
    assert!(cannot_post.contains("--with post"), "{cannot_post}");

    let index = |node: &Node| stranger.json(&["index", &table, "--peer", &node.address]);
    let (at_a, at_b) = (index(&a), index(&b));
    assert_eq!(at_a["entries"], 1);
    assert_eq!(at_a["buckets"], at_b["buckets"]);
    let bucket = at_a["buckets"][0]["bucket"].to_string();
    let ids = stranger.json(&["index", &table, "--bucket", &bucket, "--peer", &a.address]);
    assert_eq!(ids["ids"], Value::Array(vec![id.into()]));
    assert_eq!(
        stranger.json(&[&["index"][..], &peer].concat())["tables"],
        Value::Array(vec![table.clone().into()])
    );

    let hello = stranger.json(&[&["hello"][..], &peer].concat());
    let node = &hello["nodes"][0]["node"];
    assert!(b.address.ends_with(node["peer"].as_str().unwrap()));
    assert_eq!(node["tables"], Value::Array(vec![table.into()]));

    assert_eq!(b.stop(), Some(0), "a node that is asked to stop ends well");
    assert!(!node_home.root().join("admin.sock").exists());
    assert_eq!(node_home.json(&["verify"])["entries"], 1);
}

#[test]
fn followers_see_each_entry_once_as_it_comes() {
    let (publisher, table) = publisher();
    let node = Node::run(&publisher, &["--tables", &table]);
    let put = |text: &str| {
        publisher.ok(&["put", "--table", "news", "--peer", &node.address, text]);
    };
    put("old");
    let reader = guest(&publisher, "read");
    let mut follower = reader
        .command(&["follow", "--table", "news", "--count", "3", "--json", "--peer", &node.address])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(follower.stdout.take().unwrap());
    let mut next = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["text"].as_str().unwrap().to_owned()
    };
    assert_eq!(next(), "old");
    for text in ["new", "newer"] {
        put(text);
        assert_eq!(next(), text);
    }
    assert!(follower.wait().unwrap().success());
}

#[test]
fn many_entries_go_in_batches_and_filters_find_them() {
    let (publisher, table) = publisher();
    let node = Node::run(&publisher, &["--tables", &table]);
    let peer = ["--peer", &node.address];
    publisher.ok(&["key", "new", "a", "--bits", "2048"]);
    let acknowledged = publisher.path("acknowledged");
    let put = ["put", "--table", "news", "--records", "-", "--to", "a", "--json", "--acknowledged"];
    let mut child = publisher
        .command(&[&put[..], &[text(&acknowledged)], &peer].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let records: Vec<String> = (0..40).map(|n| format!("Package: p{n}\nVersion: {n}\n")).collect();
    child.stdin.take().unwrap().write_all(records.join("\n").as_bytes()).unwrap();
    let output: Output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let acknowledged = std::fs::read_to_string(acknowledged).unwrap();
    assert_eq!(acknowledged.lines().count(), 40);
    let id = acknowledged.lines().nth(7).unwrap();

    let count = |filter: &[&str]| {
        publisher.json(&[&["get"][..], filter, &peer].concat())["entries"].as_array().unwrap().len()
    };
    assert_eq!(count(&["--table", "news"]), 40);
    assert_eq!(count(&["--table", "news", "--limit", "7"]), 7);
    assert_eq!(count(&["--id", id]), 1);
    assert_eq!(count(&["--mine"]), 40);
    assert_eq!(count(&["--recipient", "a", "--since", "1 hour"]), 40);
    assert_eq!(count(&["--table", "news", "--created-until", "2026-01-01"]), 0);
    assert_eq!(count(&["--created-from", "2026-01-01", "--table", &table]), 40);
    let buckets = publisher.json(&[&["index", "news"][..], &peer].concat());
    let bucket = buckets["buckets"][0]["bucket"].to_string();
    assert_eq!(count(&["--bucket", &bucket]) as u64, buckets["buckets"][0]["count"].as_u64().unwrap());
    publisher.fails_with(2, &[&["get"][..], &peer].concat(), "--table");
    publisher.fails_with(2, &[&["get", "--bucket", "4096"][..], &peer].concat(), "bucket");
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let (publisher, table) = publisher();
    let mut node = Node::run(&publisher, &["--tables", &table]);
    let output = publisher.ok(&["put", "--table", "news", "--json", "kept", "--peer", &node.address]);
    node.child.kill().unwrap();
    node.child.wait().unwrap();
    assert_eq!(publisher.json(&["verify"])["clean"], true);
    // The socket that the dead node left is in nobody's way.
    publisher.fails_with(3, &["status"], "p2pdb run");
    let again = Node::run(&publisher, &["--tables", &table]);
    let got = publisher.json(&["get", "--table", "news", "--peer", &again.address]);
    assert_eq!(got["entries"][0]["id"], lines(&output)[0]["id"]);
}

#[test]
fn a_running_node_has_its_store_to_itself_and_says_how_it_is() {
    let home = Home::dev();
    home.fails_with(3, &["status"], "p2pdb run");
    let node = Node::run(&home, &[]);
    // Alone, it is not healthy, and says so with its exit code.
    let output = home.run(&["status"]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(String::from_utf8_lossy(&output.stdout).contains("not healthy"));
    assert!(home.ok(&["peers", "list"]).contains("no peers"));
    home.fails_with(1, &["verify"], "stop the node");
    home.fails_with(1, &["run", "--listen", "/ip4/127.0.0.1/tcp/0"], "stop the node");
    assert_eq!(status(&home)["entries"], 0, "the second node left the first one's socket alone");

    let other_home = Home::dev();
    let other = Node::run(&other_home, &[]);
    let added = home.json(&["peers", "add", &other.address]);
    let peer = added["peer"].as_str().unwrap();
    until("health", || status(&home)["healthy"] == true);
    assert_eq!(home.json(&["peers", "ban", peer, "--for", "1 min"])["seconds"], 60);
    until("the ban", || status(&home)["swarm"]["peers"] == Value::Array(vec![]));
    node.signal("INT");
    assert_eq!(node.wait(), Some(0), "an interrupt is a clean end as well");
}

#[test]
fn nobody_there_is_an_exit_code_of_its_own() {
    let home = Home::dev();
    home.fails_with(3, &["hello"], "--peer");
    let nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
    home.fails_with(3, &["hello", "--peer", nobody], "--peer");
    home.fails(2, &["hello", "--peer", "/ip4/127.0.0.1/tcp/1"]);
}

#[test]
fn entries_travel_in_files_through_the_same_checks() {
    let (publisher, _) = publisher();
    let file: PathBuf = publisher.path("entries.p2pdb");
    let saved =
        lines(&publisher.ok(&["put", "--table", "news", "--save", text(&file), "--json", "on paper"]));
    publisher.fails_with(1, &["put", "--table", "news", "--save", text(&file), "again"], "not there yet");

    let node = Home::dev();
    node.fails_with(1, &["verify"], "p2pdb import");
    let imported = node.json(&["import", text(&file)]);
    assert_eq!((&imported["stored"], &imported["complete"]), (&1.into(), &true.into()));
    let again = node.json(&["import", text(&file)]);
    assert_eq!((&again["stored"], &again["known"]), (&0.into(), &1.into()));
    assert_eq!(node.json(&["verify"])["entries"], 1);

    let exported = node.path("out.p2pdb");
    assert_eq!(node.json(&["export", text(&exported)])["entries"], 1);
    assert_eq!(fs::read(&exported).unwrap(), fs::read(&file).unwrap(), "what came in goes out");
    node.fails_with(1, &["export", text(&exported)], "--force");
    let streamed = node.run(&["export", "-"]);
    assert_eq!(streamed.stdout, fs::read(&file).unwrap());
    assert_eq!(saved.len(), 1);

    // A flipped bit in the signature: refused by name, nothing stored.
    let whole = fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    let place = damaged.len() - 64 * 8 - 100;
    damaged[place] ^= 1;
    fs::write(&exported, &damaged).unwrap();
    let other = Home::dev();
    let output = other.run(&["import", text(&exported), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let refused: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(refused["reasons"]["signature_invalid"], 1, "{refused}");
    assert_eq!(other.json(&["verify"])["entries"], 0);

    // A truncated file: what was read is good, and the end is missed.
    fs::write(&exported, &whole[..whole.len() - 1]).unwrap();
    let output = other.run(&["import", text(&exported), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("truncated"), "{}", stderr(&output));
    assert_eq!(other.json(&["verify"])["entries"], 1);
    fs::write(&exported, "not an export").unwrap();
    other.fails_with(1, &["import", text(&exported)], "p2pdb export");
}

#[test]
fn a_compacted_store_takes_less_and_has_everything() {
    let (publisher, table) = publisher();
    // As in a home from a backup, which has no entries.
    fs::remove_dir(publisher.root().join("store")).unwrap();
    let node = Node::run(&publisher, &["--tables", &table]);
    for text in ["one", "two", "three"] {
        publisher.ok(&["put", "--table", "news", "--peer", &node.address, text]);
    }
    publisher.fails_with(1, &["compact"], "stop the node");
    assert_eq!(node.stop(), Some(0));
    let compacted = publisher.json(&["compact"]);
    let (before, after) = (compacted["bytes_before"].as_u64(), compacted["bytes_after"].as_u64());
    assert!(after < before && after > Some(0), "{compacted}");
    assert_eq!(compacted["dropped"], 0);
    let verified = publisher.json(&["verify"]);
    assert_eq!((&verified["clean"], &verified["entries"]), (&true.into(), &3.into()));
}

#[test]
fn the_board_of_the_examples_posts_and_follows() {
    let (publisher, table) = publisher();
    let node = Node::run(&publisher, &["--tables", &table]);
    let card = publisher.path("card.toml");
    publisher.ok(&["table", "share", "news", text(&card), "--with", "all"]);
    let shared = fs::read_to_string(&card).unwrap();
    let meeting = shared.replace("bootstrap = []", &format!("bootstrap = [\"{}\"]", node.address));
    assert_ne!(meeting, shared);
    fs::write(&card, meeting).unwrap();

    let board = Path::new(env!("CARGO_BIN_EXE_p2pdb")).with_file_name("examples").join("board");
    assert!(board.exists(), "build the examples first: cargo build --examples");
    let mut child =
        Command::new(board).args([text(&card), "Hello, board"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "Hello, board");
    publisher.ok(&["put", "--table", "news", "--peer", &node.address, "and hello to you"]);
    assert_eq!(lines.next().unwrap().unwrap(), "and hello to you");
    child.kill().unwrap();
    child.wait().unwrap();
}
