//! The command line as scripts see it: the built binary in temporary homes.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// A home in a temporary directory, and a way to run p2pdb in it.
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    /// No home yet.
    pub(crate) fn none() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// A home on the network for development.
    pub(crate) fn dev() -> Self {
        let home = Self::none();
        home.ok(&["init", "--dev"]);
        home
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_p2pdb"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("P2PDB_") {
                command.env_remove(name);
            }
        }
        command.env("P2PDB_HOME", self.root()).args(args).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Stdout of a command that must succeed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The JSON of a command that must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    }

    /// Stderr of a command that must fail with this code, print nothing, and say what to do.
    pub(crate) fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(output.stdout.is_empty(), "{args:?} printed {:?}", String::from_utf8_lossy(&output.stdout));
        if code != 2 {
            assert!(text.starts_with("error: "), "{args:?}: {text}");
        }
        text
    }

    fn fails_with_hint(&self, args: &[&str], hint: &str) {
        self.fails_with(1, args, hint);
    }

    /// A command that must fail with this code and advise this.
    pub(crate) fn fails_with(&self, code: i32, args: &[&str], hint: &str) {
        let text = self.fails(code, args);
        let line = text.lines().find(|line| line.starts_with("hint: "));
        assert!(line.is_some_and(|line| line.contains(hint)), "{args:?}: {text}");
    }
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn init_makes_a_home_once_that_only_its_owner_can_enter() {
    let home = Home::none();
    let made = home.json(&["init"]);
    assert_eq!(made["network"], "p2pdb-main");
    assert!(made["peer_id"].as_str().unwrap().starts_with("12D3KooW"));
    assert_eq!(mode(&home.root()), 0o700);
    assert_eq!(mode(&home.root().join("node.key")), 0o600);
    let key = fs::read(home.root().join("node.key")).unwrap();
    let node = libp2p::identity::Keypair::from_protobuf_encoding(&key).unwrap();
    assert_eq!(node.public().to_peer_id().to_string(), made["peer_id"]);

    home.fails_with_hint(&["init"], "--home");
    assert_eq!(fs::read(home.root().join("node.key")).unwrap(), key, "a second init leaves the key alone");
    // What init writes is what the rest understands.
    assert_eq!(home.json(&["config", "check"])["network_id"], made["network_id"]);
}

#[test]
fn init_takes_the_network_of_a_file_or_of_a_card() {
    let dev = Home::dev();
    dev.ok(&["table", "new", "news", "--bits", "2048"]);
    let card = dev.path("news.toml");
    dev.ok(&["table", "share", "news", text(&card)]);
    let id = dev.json(&["config", "check"])["network_id"].clone();
    for file in [dev.root().join("network.toml"), card] {
        assert_eq!(Home::none().json(&["init", "--network", text(&file)])["network_id"], id);
    }
    let home = Home::none();
    fs::write(home.path("bad.toml"), "name = \"x\"").unwrap();
    home.fails_with_hint(&["init", "--network", text(&home.path("bad.toml"))], "network");
    assert!(!home.root().exists(), "nothing is written for a network that is none");
}

#[test]
fn a_command_without_a_home_says_how_to_make_one() {
    let home = Home::none();
    for args in [&["key", "list"][..], &["table", "list"], &["config", "check"]] {
        home.fails_with_hint(args, "p2pdb init");
    }
    home.fails(2, &["key", "new", "../escape"]);
    home.fails(2, &["no-such-command"]);
    home.fails(2, &["key", "new", "a", "--bits", "1024"]);
}

#[test]
fn a_home_that_others_can_enter_is_refused() {
    let home = Home::dev();
    fs::set_permissions(home.root(), fs::Permissions::from_mode(0o755)).unwrap();
    home.fails_with_hint(&["key", "list"], "chmod 700");
}

#[test]
fn keys_are_made_listed_and_shown() {
    let home = Home::dev();
    assert_eq!(home.json(&["key", "list"])["keys"], Value::Array(vec![]));
    let made = home.json(&["key", "new", "alice", "--bits", "2048"]);
    assert_eq!((&made["bits"], &made["private"]), (&2048.into(), &"plain".into()));
    assert_eq!(mode(&home.root().join("keys/alice.pem")), 0o600);
    assert_eq!(home.json(&["key", "list"])["keys"], Value::Array(vec![made.clone()]));
    let id = made["id"].as_str().unwrap();
    assert!(id.starts_with("p2key1"));
    assert_eq!(home.json(&["key", "show", id]), home.json(&["key", "show", "alice"]));
    assert!(home.ok(&["key", "list"]).contains(id));

    home.fails_with_hint(&["key", "new", "alice"], "another name");
    home.fails_with_hint(&["key", "show", "bob"], "p2pdb key new bob");
}

#[test]
fn an_encrypted_key_needs_its_passphrase_for_its_private_half_only() {
    let home = Home::dev();
    let secret = home.path("passphrase");
    fs::write(&secret, "correct horse\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let new = ["key", "new", "alice", "--bits", "2048", "--encrypt", "--passphrase-file", text(&secret)];
    home.fails_with_hint(&new, "chmod 600");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let made = home.json(&new);
    assert_eq!(made["private"], "encrypted");

    let id = made["id"].clone();
    assert_eq!(home.json(&["key", "show", "alice"])["id"], id);
    let export = ["key", "export", "alice", "--private"];
    let with = |passphrase: &str| home.command(&export).env("P2PDB_PASSPHRASE", passphrase).output().unwrap();
    let right = with("correct horse");
    assert!(right.status.success(), "{}", stderr(&right));
    assert!(right.stdout.starts_with(b"-----BEGIN PRIVATE KEY-----"));
    assert!(stderr(&right).contains("warning"));
    let wrong = with("wrong");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(wrong.stdout.is_empty() && stderr(&wrong).contains("wrong passphrase"), "{}", stderr(&wrong));

    // An encrypted key comes in as it went out.
    let file = home.path("alice.pem");
    let encrypted = [&export[..], &["--encrypt", "--passphrase-file", text(&secret)]].concat();
    fs::write(&file, home.ok(&encrypted)).unwrap();
    let other = Home::dev();
    let import = ["key", "import", "alice", text(&file), "--passphrase-file", text(&secret)];
    let imported = other.json(&import);
    assert_eq!((&imported["id"], &imported["private"]), (&id, &"encrypted".into()));
}

#[test]
fn the_public_key_of_somebody_else_has_a_name() {
    let (alice, bob) = (Home::dev(), Home::dev());
    alice.ok(&["key", "new", "me", "--bits", "2048"]);
    let file = bob.path("alice.pem");
    fs::write(&file, alice.ok(&["key", "export", "me"])).unwrap();
    let imported = bob.json(&["key", "import", "alice", text(&file)]);
    assert_eq!(imported["id"], alice.json(&["key", "show", "me"])["id"]);
    assert_eq!(imported["private"], "none");
    bob.fails_with_hint(&["key", "export", "alice", "--private"], "private key");

    fs::write(&file, "nothing").unwrap();
    let error = bob.fails(1, &["key", "import", "carol", text(&file)]);
    assert!(error.contains("-----BEGIN PRIVATE KEY-----"), "{error}");
    bob.fails_with_hint(&["key", "show", "carol"], "key new");
}

#[test]
fn a_card_grants_what_was_asked_for_and_no_more() {
    let home = Home::dev();
    let made = home.json(&["table", "new", "news", "--bits", "2048", "--shared-key"]);
    assert_eq!((&made["can_post"], &made["can_read"]), (&true.into(), &true.into()));
    assert_eq!(mode(&home.root().join("tables/news.toml")), 0o600);

    for (with, posts, reads) in [
        (None, false, false),
        (Some("read"), false, true),
        (Some("post"), true, false),
        (Some("all"), true, true),
    ] {
        let card = home.path("card.toml");
        let mut share = vec!["table", "share", "news", text(&card), "--force"];
        share.extend(with.iter().flat_map(|with| ["--with", with]));
        let output = home.run(&share);
        assert!(output.status.success(), "{}", stderr(&output));
        assert_eq!(stderr(&output).matches("warning: ").count(), usize::from(posts) + usize::from(reads));
        assert_eq!(mode(&card) & 0o077 == 0, posts || reads, "a card with secrets is closed to others");

        let other = Home::dev();
        let imported = other.json(&["table", "import", text(&card)]);
        assert_eq!(imported["id"], made["id"]);
        assert_eq!(
            (&imported["can_post"], &imported["can_read"]),
            (&posts.into(), &reads.into()),
            "{with:?}"
        );
        assert_eq!(imported["shared_recipient"], made["shared_recipient"]);
        assert_eq!(other.json(&["table", "show", "news"])["id"], made["id"]);
    }
    home.fails_with_hint(&["table", "share", "news", text(&home.path("card.toml"))], "--force");
    home.ok(&["table", "new", "plain", "--bits", "2048"]);
    home.fails_with_hint(
        &["table", "share", "plain", text(&home.path("x")), "--with", "read"],
        "--shared-recipient",
    );
}

#[test]
fn a_card_brings_its_nodes_and_stays_on_its_network() {
    let home = Home::dev();
    home.ok(&["table", "new", "news", "--bits", "2048"]);
    let address = "/ip4/192.0.2.1/tcp/4711/p2p/12D3KooWQYhTNQdmr3ArTeUHRYzFg94BKyTkoWBDWez9kSCVe2Xo";
    let network = home.root().join("network.toml");
    let with_node = fs::read_to_string(&network).unwrap().replace("[]", &format!("[\"{address}\"]"));
    fs::write(&network, with_node).unwrap();
    let card = home.path("card.toml");
    home.ok(&["table", "share", "news", text(&card)]);

    let other = Home::dev();
    assert_eq!(other.json(&["config", "check"])["bootstrap_addresses"], 0);
    other.ok(&["table", "import", text(&card), "--name", "theirs"]);
    assert_eq!(other.json(&["config", "check"])["bootstrap_addresses"], 1);
    other.fails_with_hint(&["table", "import", text(&card), "--name", "again"], "theirs");

    let main = Home::none();
    main.ok(&["init"]);
    main.fails_with_hint(&["table", "import", text(&card)], "init --network");
    assert_eq!(main.json(&["table", "list"])["tables"], Value::Array(vec![]));
}

#[test]
fn the_price_of_an_entry_follows_from_the_hash_rate() {
    let home = Home::none();
    let bench = home.json(&["work", "bench", "--seconds", "0.05"]);
    assert_eq!((&bench["network"], &bench["hashes_per_entry"]), (&"p2pdb-main".into(), &(1u64 << 29).into()));
    for rate in [&bench["one_core"], &bench["all_cores"]] {
        let (speed, time) =
            (rate["hashes_per_second"].as_f64().unwrap(), rate["seconds_per_entry"].as_f64().unwrap());
        assert!(speed > 1000.0, "{bench}");
        assert!((speed * time / (1u64 << 29) as f64 - 1.0).abs() < 1e-6, "{bench}");
    }
    let dev = Home::dev().json(&["work", "bench", "--seconds", "0.05"]);
    assert!(dev["hashes_per_entry"].as_u64().unwrap() < 1 << 20, "{dev}");
}

#[test]
fn flags_go_before_variables_and_variables_before_the_file() {
    let home = Home::dev();
    let config = home.root().join("config.toml");
    assert_eq!(home.json(&["config", "show"])["limits"]["max_tables"], 256);
    let file = fs::read_to_string(&config).unwrap() + "\n[limits]\nmax_tables = 7\n";
    fs::write(&config, file).unwrap();
    assert_eq!(home.json(&["config", "show"])["limits"]["max_tables"], 7);
    let output =
        home.command(&["config", "show", "--json"]).env("P2PDB_LIMITS__MAX_TABLES", "8").output().unwrap();
    let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["limits"]["max_tables"], 8);
    // What it prints as text is a configuration again.
    let printed = home.path("printed.toml");
    fs::write(&printed, home.ok(&["config", "show"])).unwrap();
    assert_eq!(home.json(&["config", "show", "--config", text(&printed)])["limits"]["max_tables"], 7);

    fs::write(&config, "[limits]\nmax_tabels = 7").unwrap();
    home.fails_with_hint(&["config", "check"], "limits.max_tables");
}

#[test]
fn the_check_refuses_a_horizon_that_no_store_takes() {
    let home = Home::dev();
    let check = |horizon: &str| {
        home.command(&["config", "check"]).env("P2PDB_LIMITS__HORIZON", horizon).output().unwrap()
    };
    assert!(check("1 week").status.success());
    let refused = check("1 hour");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("hint: correct `limits.horizon`"), "{}", stderr(&refused));
}

#[test]
fn a_bootstrap_list_at_fault_is_found_by_its_line() {
    let home = Home::dev();
    let config = home.root().join("config.toml");
    let with_list = fs::read_to_string(&config).unwrap() + "\n[bootstrap]\nfiles = [\"peers.txt\"]\n";
    fs::write(&config, with_list).unwrap();
    home.fails_with_hint(&["config", "check"], "bootstrap.files");
    fs::write(home.root().join("peers.txt"), "# peers\n192.0.2.1:4711\n").unwrap();
    let error = home.fails(1, &["config", "check"]);
    assert!(error.contains("line 2"), "{error}");
    fs::write(home.root().join("peers.txt"), "/dnsaddr/bootstrap.example.org\n").unwrap();
    assert_eq!(home.json(&["config", "check"])["bootstrap_addresses"], 1);
}

#[test]
fn a_file_of_a_bare_name_is_written_where_one_is() {
    let home = Home::dev();
    home.ok(&["table", "new", "news", "--bits", "2048"]);
    let place = tempfile::tempdir().unwrap();
    let mut share = home.command(&["table", "share", "news", "card.toml", "--with", "post"]);
    let output = share.current_dir(&place).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.path().join("card.toml").exists());
}

#[test]
fn completions_and_manual_pages_know_every_command() {
    let home = Home::none();
    assert!(home.ok(&["completions", "bash"]).contains("p2pdb__subcmd__key"));
    assert!(home.ok(&["man"]).starts_with(".ie"));
    let pages = home.path("man");
    home.ok(&["man", "--out", text(&pages)]);
    for page in ["p2pdb.1", "p2pdb-key-new.1", "p2pdb-table-share.1", "p2pdb-work-bench.1"] {
        let page = fs::read_to_string(pages.join(page)).unwrap();
        assert!(page.contains("SYNOPSIS"), "{page}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let mut child =
        Home::none().command(&["man"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(output.stderr.is_empty(), "{}", stderr(&output));
}
