//! The daemon as a process of its own, killed at any moment.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use data_encoding::BASE64;
use libp2p::Multiaddr;
use p2pdb::{
    ingest::Mirror,
    protocol::{
        keys::PublicKey,
        network::{Network, NetworkFile},
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    cli::{Home, stderr, text},
    gateway_http::Http,
    support::{TestNode, eventually, now, rng, until},
};

/// A daemon that is killed when the test ends.
pub(crate) struct Process {
    child: Child,
    pub(crate) http: Http,
}

impl Process {
    pub(crate) fn start(home: &Home, node: &Multiaddr) -> Self {
        let node = node.to_string();
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--threads", "1", "--peer", &node];
        let mut child = home.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line.is_empty() {
            panic!("the daemon does not start: {}", stderr(&child.wait_with_output().unwrap()));
        }
        let running: Value = serde_json::from_str(&line).unwrap();
        let token = fs::read_to_string(running["token_file"].as_str().unwrap()).unwrap();
        let address = running["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, http: Http { address, token: token.trim().to_owned() } }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A network on which an entry takes a debug build about a second, so that there is a middle of it.
pub(crate) fn network() -> Network {
    Network { name: "it-slow".to_owned(), work_price: 1 << 21, work_puzzles: 32, ..Network::default() }
}

pub(crate) fn home(network: &Network) -> Home {
    let home = Home::none();
    let file = home.path("network.toml");
    fs::write(&file, NetworkFile { network: network.clone(), bootstrap: Vec::new() }.to_toml()).unwrap();
    home.ok(&["init", "--network", text(&file)]);
    home.ok(&["key", "new", "me", "--bits", "2048"]);
    home.ok(&["table", "new", "notes", "--bits", "2048"]);
    home
}

/// The address of a node that is not there.
fn nowhere() -> Multiaddr {
    format!("/ip4/127.0.0.1/tcp/9/p2p/{}", libp2p::PeerId::random()).parse().unwrap()
}

/// Where in a put's life the daemon is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// When the answer is there.
    Accepted,
    /// When so many puzzles are solved.
    Solved(u64),
    /// When the work is done, and it is being sent or about to be.
    Sending,
    /// When a node holds it.
    Stored,
}

impl Moment {
    fn has_come(self, job: &Value) -> bool {
        let state = job["state"].as_str().unwrap();
        match self {
            Self::Accepted => true,
            Self::Solved(puzzles) => state != "queued" || job["progress"]["solved"].as_u64() >= Some(puzzles),
            Self::Sending => state != "queued",
            Self::Stored => state == "stored",
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_any_moment_loses_and_doubles_nothing() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let home = home(&network);
    // P2PDB_SEED=N draws other moments.
    let seed = std::env::var("P2PDB_SEED").map_or(1, |seed| seed.parse().unwrap());
    println!("P2PDB_SEED={seed}");
    let drawn = |at: u64| Sha256::digest([u64::to_be_bytes(seed), at.to_be_bytes()].concat())[0];
    let moments = (0..10).map(|at| match at {
        0 => Moment::Accepted,
        1..=6 => Moment::Solved(u64::from(drawn(at) % 32)),
        7 | 8 => Moment::Sending,
        _ => Moment::Stored,
    });
    let moments: Vec<Moment> = moments.collect();
    let mut ids = Vec::new();
    for (number, moment) in moments.iter().enumerate() {
        let daemon = Process::start(&home, &node.address);
        let body = json!({"space": "notes", "recipients": ["me"], "content": {"json": number}});
        let key = number.to_string();
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        let accepted = daemon.http.send("POST", "/v1/put", &headers, &body.to_string()).await;
        assert_eq!(accepted.status, 202, "{accepted:?}");
        let id = accepted.json()["id"].as_str().unwrap().to_owned();
        let path = format!("/v1/jobs/{id}");
        eventually("the moment has come", || async {
            moment.has_come(&daemon.http.get(&path).await).then_some(())
        })
        .await;
        daemon.kill();
        // Who did not hear the answer asks again, of the daemon that is there by then.
        let daemon = Process::start(&home, &node.address);
        let again = daemon.http.send("POST", "/v1/put", &headers, &body.to_string()).await.json();
        assert_eq!(again["id"], id, "{moment:?}");
        ids.push(id);
        // What is over is over; what is not goes on beside the next ones.
        daemon.kill();
    }
    let daemon = Process::start(&home, &node.address);
    for id in &ids {
        eventually("each is stored", || async {
            (daemon.http.get(&format!("/v1/jobs/{id}")).await["state"] == "stored").then_some(())
        })
        .await;
    }
    assert_eq!(node.entries().await, moments.len() as u64);
    let page = daemon.http.get("/v1/get?space=notes&recipient=me").await;
    let mut numbers: Vec<u64> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["content"]["json"].as_u64().unwrap())
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..moments.len() as u64).collect::<Vec<_>>());
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_daemon_goes_on_with_the_work_it_had_done() {
    // So dear that it is not done while the test runs, in puzzles of some tenths of a second each.
    let home = home(&Network { work_price: 1 << 29, work_puzzles: 256, ..network() });
    let nowhere = nowhere();
    let mut daemon = Process::start(&home, &nowhere);
    let body = json!({"space": "notes", "recipients": ["me"], "content": {"text": "long"}});
    let job = daemon.http.put("", &body).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let solved = async |daemon: &Process, at_least: u64| {
        eventually("the work goes on", || async {
            let job = daemon.http.get(&path).await;
            job["progress"]["solved"].as_u64().filter(|solved| *solved >= at_least)
        })
        .await
    };
    for _ in 0..3 {
        let start = solved(&daemon, 0).await;
        let before = solved(&daemon, start + 3).await;
        daemon.kill();
        daemon = Process::start(&home, &nowhere);
        let after = solved(&daemon, 0).await;
        // What is seen as solved is being kept, and what was solved before that is.
        assert!(after + 1 >= before, "solved {before} of it before the kill, {after} after");
    }
    daemon.kill();
}

#[test]
fn a_daemon_is_not_exposed_by_mistake() {
    let home = home(&network());
    home.fails_with(1, &["gateway", "--listen", "0.0.0.0:0"], "--expose");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    home.fails_with(1, &["gateway", "--listen", &address], "another port");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_lets_apps_in_and_out_from_the_command_line() {
    let home = home(&network());
    let new = ["gateway", "token", "new", "forum", "--space", "notes", "--may", "get"];
    home.fails_with(1, &new, "p2pdb gateway");
    let daemon = Process::start(&home, &nowhere());
    let attic = home.fails(1, &["gateway", "token", "new", "forum", "--space", "attic", "--may", "get"]);
    assert!(attic.contains("there is no space attic"), "{attic}");
    assert!(home.fails(2, &["gateway", "token", "new", "forum", "--may", "login"]).contains("--origin"));
    let first = home.json(&new)["token"].as_str().unwrap().to_owned();
    let file = home.path("forum.token");
    home.ok(&[&new[..], &["--may", "put", "--to", text(&file)]].concat());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let second = fs::read_to_string(&file).unwrap().trim().to_owned();
    let status =
        async |token: &str| daemon.http.with_token(token).send("GET", "/v1/status", &[], "").await.status;
    assert_eq!((status(&first).await, status(&second).await), (401, 200), "an app has one token");
    let listed = home.json(&["gateway", "token", "list"]);
    assert_eq!(
        (&listed["tokens"][0]["name"], &listed["tokens"][0]["may"]),
        (&json!("forum"), &json!(["get", "put"]))
    );
    assert!(home.ok(&["gateway", "token", "list"]).contains("forum  notes   get,put"));
    home.ok(&["gateway", "token", "revoke", "forum"]);
    assert_eq!(status(&second).await, 401);
    assert!(home.fails(1, &["gateway", "token", "revoke", "forum"]).contains("no token forum"));
    let link = home.ok(&["gateway", "link"]);
    let path = link.trim().strip_prefix(&format!("http://{}", daemon.http.address)).unwrap();
    assert_eq!(daemon.http.send("GET", path, &[("Authorization", "")], "").await.status, 303);
    daemon.kill();
    // A daemon that was killed leaves its files.
    home.fails_with(1, &["gateway", "link"], "start it again");
}

#[test]
fn a_challenge_is_answered_from_the_command_line() {
    let home = home(&network());
    let daemon = Process::start(&home, &nowhere());
    let pem = home.json(&["key", "show", "me"])["public_key"].as_str().unwrap().to_owned();
    let plain = [&now().to_be_bytes()[..], &[7; 32]].concat();
    let label = b"p2pdb-login-v1|https://forum.example";
    let sealed = PublicKey::from_pem(&pem).unwrap().encrypt(&mut rng(), label, &plain).unwrap();
    let challenge = BASE64.encode(&sealed);
    let login = |origin: &'static str| ["gateway", "login", "me", challenge.as_str(), "--origin", origin];
    assert!(home.fails(1, &login("https://evil.example")).contains("not made for this key and this origin"));
    let expected = Sha256::new().chain_update("p2pdb login answer v1").chain_update(plain).finalize();
    assert_eq!(home.ok(&login("https://forum.example")).trim(), BASE64.encode(&expected));
    assert!(home.fails(1, &login("https://forum.example")).contains("answered before"));
    daemon.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_made_meanwhile_becomes_a_space() {
    let home = home(&network());
    let daemon = Process::start(&home, &nowhere());
    let status = async || daemon.http.send("GET", "/v1/get?space=later", &[], "").await.status;
    assert_eq!(status().await, 404);
    home.ok(&["table", "new", "later", "--bits", "2048"]);
    until("the space is there", || async { status().await == 200 }).await;
    fs::remove_file(home.root().join("tables/later.toml")).unwrap();
    until("the space is gone", || async { status().await == 404 }).await;
    daemon.kill();
}

#[test]
fn an_encrypted_key_needs_its_passphrase_from_a_file_or_variable() {
    let home = home(&network());
    let made = home
        .command(&["key", "new", "locked", "--bits", "2048", "--encrypt"])
        .env("P2PDB_PASSPHRASE", "right")
        .output();
    assert!(made.unwrap().status.success());
    let start = |passphrase: &str| -> Command {
        let mut command = home.command(&["gateway", "--json", "--listen", "127.0.0.1:0"]);
        command.env("P2PDB_PASSPHRASE", passphrase).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let wrong = start("wrong").output().unwrap();
    assert_eq!(wrong.status.code(), Some(1), "{}", stderr(&wrong));
    let mut right = start("right").spawn().unwrap();
    let mut line = String::new();
    BufReader::new(right.stdout.take().unwrap()).read_line(&mut line).unwrap();
    right.kill().unwrap();
    right.wait().unwrap();
    let running: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(running["keys"], json!(["locked", "me"]));
}

#[test]
fn a_user_moves_to_another_machine_in_one_file() {
    let home = home(&network());
    let file = home.path("user.backup");
    let passphrase = home.path("passphrase");
    fs::write(&passphrase, "correct horse\n").unwrap();
    fs::set_permissions(&passphrase, fs::Permissions::from_mode(0o600)).unwrap();
    let vault = |home: &Home, verb: &str, file: &Path| {
        home.run(&["gateway", verb, text(file), "--passphrase-file", text(&passphrase)])
    };
    let backup = vault(&home, "backup", &file);
    assert!(backup.status.success(), "{}", stderr(&backup));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(vault(&home, "backup", &file).status.code(), Some(1), "a backup is not overwritten");
    let other = Home::none();
    let restored = vault(&other, "restore", &file);
    assert!(restored.status.success(), "{}", stderr(&restored));
    for command in [&["key", "list"][..], &["table", "list"], &["key", "show", "me"]] {
        assert_eq!(other.json(command), home.json(command), "{command:?}");
    }
    assert_eq!(
        fs::read(other.root().join("network.toml")).unwrap(),
        fs::read(home.root().join("network.toml")).unwrap()
    );
    // A home of somebody else is left alone.
    let stranger = self::home(&network());
    let refused = vault(&stranger, "restore", &file);
    assert_eq!(refused.status.code(), Some(1), "{}", stderr(&refused));
}
