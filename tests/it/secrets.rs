//! Secrets stay where they belong: no log tells them, at whatever level, and no node has them on its disk.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use data_encoding::{BASE64, HEXLOWER};

use crate::cli::{Home, text};

const CONTENT: &str = "the cellar key hangs behind the third shelf";
const MEDIA_TYPE: &str = "text/x-where-keys-are";
const PASSPHRASE: &str = "correct horse battery staple";

/// A node that logs everything into a file.
struct Logging {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Logging {
    fn run(home: &Home, table: &str) -> Self {
        let log = home.path("log");
        let listen = ["run", "--json", "--listen", "/ip4/127.0.0.1/tcp/0", "--set", "nat.upnp=false"];
        let mut command = home.command(&listen);
        command.args(["--set", "log=trace", "--tables", table]);
        let mut child = command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let running: serde_json::Value = serde_json::from_str(&line).unwrap();
        Self { child, address: running["addresses"][0].as_str().unwrap().to_owned(), log }
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What happened: a user posted and read through a node, both telling all they can.
struct Story {
    user: Home,
    node: Home,
    logs: String,
}

fn story() -> Story {
    let (user, node) = (Home::dev(), Home::dev());
    let with_passphrase = |args: &[&str]| {
        let output = user.command(args).env("P2PDB_PASSPHRASE", PASSPHRASE).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let table = user.json(&["table", "new", "vault", "--bits", "2048", "--shared-key"]);
    let table = table["id"].as_str().unwrap();
    user.ok(&["key", "new", "plain", "--bits", "2048"]);
    with_passphrase(&["key", "new", "locked", "--bits", "2048", "--encrypt"]);
    let running = Logging::run(&node, table);
    let at = ["--table", "vault", "--peer", &running.address, "-vvv"];
    let content = ["--to", "plain", "--to", "locked", "--sign", "locked", "--type", MEDIA_TYPE, CONTENT];
    let (_, put) = with_passphrase(&[&["put"], &at[..], &content].concat());
    let (got, get) = with_passphrase(&[&["get", "--mine", "--json"], &at[..]].concat());
    assert!(got.contains(CONTENT), "it was read: {got}");
    let log = fs::read_to_string(&running.log).unwrap();
    assert!(log.contains("TRACE") && log.len() > 50_000, "{} bytes of trace", log.len());
    assert!(put.contains("DEBUG") && get.contains("DEBUG"), "the user's log is detailed too");
    drop(running);
    Story { user, node, logs: [log, put, get].concat() }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    items
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

/// The lines of all private keys below a directory, in base64.
fn private_lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files(directory) {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let mut is_inside = false;
        for line in text.lines() {
            let ends = line.contains("PRIVATE KEY-----");
            if ends {
                is_inside = line.contains("BEGIN");
            } else if is_inside && line.len() == 64 {
                lines.push(line.to_owned());
            }
        }
    }
    lines
}

#[test]
fn no_log_tells_a_secret_at_any_level() {
    let Story { user, node, logs } = story();
    // The algorithm and the modulus, which are public, are in the first lines of a key that is not encrypted.
    let lines = private_lines(&user.root());
    assert!(lines.len() > 4 * 20, "three keys of one kind and one of the other: {} lines", lines.len());
    for line in &lines {
        assert!(!logs.contains(line.as_str()), "a line of a private key is in the log");
    }
    for node_key in [user.root().join("node.key"), node.root().join("node.key")] {
        let seed = &fs::read(node_key).unwrap()[4..36];
        assert!(
            !logs.contains(&BASE64.encode(seed)) && !logs.to_lowercase().contains(&HEXLOWER.encode(seed))
        );
        assert!(!logs.contains(format!("{seed:?}").trim_matches(['[', ']'])));
    }
    for secret in [CONTENT, MEDIA_TYPE, PASSPHRASE] {
        assert!(!logs.contains(secret), "{secret:?} is in the log");
        let bytes = format!("{:?}", &secret.as_bytes()[..12]);
        assert!(!logs.contains(bytes.trim_matches(['[', ']'])), "{secret:?} is in the log, byte by byte");
        assert!(!logs.to_lowercase().contains(&HEXLOWER.encode(&secret.as_bytes()[..12])));
    }
}

#[test]
fn the_whole_disk_of_a_node_has_no_plaintext_and_no_private_key_of_its_users() {
    let Story { user, node, .. } = story();
    let disk: Vec<u8> = files(&node.root()).iter().flat_map(|file| fs::read(file).unwrap()).collect();
    let has = |bytes: &[u8]| disk.windows(bytes.len()).any(|window| window == bytes);
    // Something of the entry is there: what is looked for is not missing for want of a store.
    let keys = fs::read_dir(user.root().join("keys")).unwrap().count();
    assert!(keys > 0 && has(b"redb") && disk.len() > 10_000);
    for secret in [CONTENT, MEDIA_TYPE, PASSPHRASE] {
        assert!(!has(secret.as_bytes()), "{secret:?} is on the disk of the node");
    }
    let lines = private_lines(&user.root());
    assert!(!lines.is_empty() && private_lines(&node.root()).is_empty());
    for line in lines {
        assert!(!has(line.as_bytes()), "a line of a private key is on the disk of the node");
        let der = BASE64.decode(line.as_bytes()).unwrap();
        // 48 bytes each. Those of the modulus are public, and belong to the keys of tables and authors.
        let is_public = fs::read_dir(user.root().join("keys")).is_ok() && is_of_a_modulus(&user, &der);
        assert!(is_public || !has(&der), "a piece of a private key is on the disk of the node");
    }
}

/// Whether a piece of a key is also one of its public half.
fn is_of_a_modulus(user: &Home, piece: &[u8]) -> bool {
    let mut public = Vec::new();
    for file in files(&user.root()) {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let pem =
            |part: &str| part.split("-----END PUBLIC KEY-----").next().unwrap_or_default().replace('\n', "");
        for part in text.split("-----BEGIN PUBLIC KEY-----").skip(1) {
            public.extend(BASE64.decode(pem(part).as_bytes()).unwrap());
        }
    }
    // The piece may reach over an end of the modulus.
    let inner = &piece[..piece.len().min(48)];
    public.windows(16).any(|window| inner.windows(16).any(|part| part == window))
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::dev();
    let key = home.root().join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let said = home.fails(1, &["run", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    assert!(said.contains(text(&key)) && said.contains("hint: "), "{said}");
}
