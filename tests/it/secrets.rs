//! Secrets stay where they belong: no log tells them, at whatever level, and no node has them on its disk.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use p2pdb::protocol::{
    export::{Item, Reader},
    keys::PrivateKey,
};

use crate::cli::{Home, stderr, text};

pub(crate) const CONTENT: &str = "the cellar key hangs behind the third shelf";
pub(crate) const MEDIA_TYPE: &str = "text/x-where-keys-are";
pub(crate) const PASSPHRASE: &str = "correct horse battery staple";

/// Where nobody is: what asks there has read its keys before.
const NOWHERE: &str = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";

/// A node that logs everything into a file.
pub(crate) struct Logging {
    child: Child,
    pub(crate) address: String,
    log: PathBuf,
}

impl Logging {
    pub(crate) fn run(home: &Home, table: &str) -> Self {
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
    /// What `export` says is in the node's store.
    entry: Vec<u8>,
}

fn story() -> Story {
    let (user, node) = (Home::dev(), Home::dev());
    let with_passphrase = |args: &[&str]| {
        let output = user.command(args).env("P2PDB_PASSPHRASE", PASSPHRASE).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {said}");
        (String::from_utf8_lossy(&output.stdout).into_owned(), said)
    };
    let table = make_keys(&user);
    let running = Logging::run(&node, &table);
    let at = ["--table", "vault", "--peer", &running.address, "-vvv"];
    let content = ["--to", "plain", "--to", "locked", "--sign", "locked", "--type", MEDIA_TYPE, CONTENT];
    let (_, put) = with_passphrase(&[&["put"], &at[..], &content].concat());
    let (got, get) = with_passphrase(&[&["get", "--mine", "--json"], &at[..]].concat());
    let (followed, follow) = with_passphrase(&[&["follow", "--count", "1", "--json"], &at[..]].concat());
    assert!(got.contains(CONTENT) && followed.contains(CONTENT), "it was read: {got}, {followed}");
    let log = fs::read_to_string(&running.log).unwrap();
    assert!(log.contains("TRACE") && log.len() > 50_000, "{} bytes of trace", log.len());
    for log in [&put, &get, &follow] {
        assert!(log.contains("DEBUG"), "the user's log is detailed too: {log}");
    }
    drop(running);

    // What is carried around in files: the keys of a table, and the entries of a node.
    let (card, exported) = (user.path("card"), node.path("exported"));
    let (_, share) = with_passphrase(&["table", "share", "vault", text(&card), "--with", "all", "-vvv"]);
    assert!(fs::read_to_string(&card).unwrap().contains("PRIVATE KEY"));
    let other = Home::dev();
    let said = |home: &Home, args: &[&str]| {
        let output = home.run(&[args, &["-vvv"]].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        stderr(&output)
    };
    let carried = [
        said(&other, &["table", "import", text(&card)]),
        said(&node, &["export", text(&exported)]),
        said(&other, &["import", text(&exported)]),
    ];
    let mut items = Reader::new(BufReader::new(File::open(&exported).unwrap())).unwrap();
    let entry = items.find_map(|item| match item.unwrap() {
        Item::Entry(entry) => Some(entry.to_vec()),
        _ => None,
    });
    let logs = [log, put, get, follow, share, carried.concat()].concat();
    Story { user, node, logs, entry: entry.expect("an entry in the node's store") }
}

/// Makes a table whose readers share a key, a key that lies open and one that is locked; returns the table's id.
pub(crate) fn make_keys(user: &Home) -> String {
    let table = user.json(&["table", "new", "vault", "--bits", "2048", "--shared-key"]);
    user.ok(&["key", "new", "plain", "--bits", "2048"]);
    let locked = ["key", "new", "locked", "--bits", "2048", "--encrypt"];
    assert!(user.command(&locked).env("P2PDB_PASSPHRASE", PASSPHRASE).status().unwrap().success());
    table["id"].as_str().unwrap().to_owned()
}

pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let items = fs::read_dir(directory).unwrap().map(|item| item.unwrap().path());
    items
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.is_file())
        .collect()
}

/// The bytes of all files below a directory.
pub(crate) fn disk(directory: &Path) -> Vec<u8> {
    files(directory).iter().flat_map(|file| fs::read(file).unwrap()).collect()
}

pub(crate) fn has(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

/// The lines of all private keys below a directory, in base64; of one that has a passphrase also those that it has without.
pub(crate) fn private_lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in files(directory) {
        let Ok(mut text) = fs::read_to_string(file) else { continue };
        if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
            let key = PrivateKey::from_pem(&text, Some(PASSPHRASE)).unwrap();
            text.push_str(&key.to_pem().unwrap());
        }
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

/// The forms in which something may stand in a log: in base64 from any byte on, in hexadecimal digits, as lists of numbers.
fn forms(bytes: &[u8]) -> Vec<String> {
    let whole = |from: usize| &bytes[from..from + (bytes.len() - from) / 3 * 3];
    let base64 = (0..3).map(|from| BASE64.encode(whole(from)));
    let list = |text: String| text.trim_matches(['[', ']']).to_owned();
    let lists = [list(format!("{bytes:?}")), list(format!("{bytes:02x?}"))];
    base64.chain([HEXLOWER.encode(bytes), HEXUPPER.encode(bytes)]).chain(lists).collect()
}

/// That none of the user's private keys is in the logs, nor a text, in any form.
pub(crate) fn assert_untold(logs: &str, user: &Path, texts: &[&str]) {
    // The algorithm and the modulus, which are public, are in the first lines of a key that is not encrypted.
    let lines = private_lines(user);
    assert!(lines.len() > 4 * 20, "three keys of one kind and one of the other: {} lines", lines.len());
    let public = public_keys(user);
    let mut secret = 0;
    for line in &lines {
        assert!(!logs.contains(line.as_str()), "a line of a private key is in the log");
        let der = BASE64.decode(line.as_bytes()).unwrap();
        if !is_of_a_modulus(&public, &der) {
            secret += 1;
            for form in forms(&der[..24]).into_iter().chain(forms(&line.as_bytes()[..24])) {
                assert!(!logs.contains(&form), "a piece of a private key is in the log: {form}");
            }
        }
    }
    assert!(secret > 4 * 15, "{secret} pieces that are secret");
    for secret in texts {
        assert!(!logs.contains(secret), "{secret:?} is in the log");
        for form in forms(&secret.as_bytes()[..12]) {
            assert!(!logs.contains(&form), "{secret:?} is in the log: {form}");
        }
    }
}

#[test]
fn no_log_tells_a_secret_at_any_level() {
    let Story { user, node, logs, .. } = story();
    assert_untold(&logs, &user.root(), &[CONTENT, MEDIA_TYPE, PASSPHRASE]);
    for node_key in [user.root().join("node.key"), node.root().join("node.key")] {
        for form in forms(&fs::read(node_key).unwrap()[4..36]) {
            assert!(!logs.contains(&form), "a node's key is in the log: {form}");
        }
    }
}

#[test]
fn the_whole_disk_of_a_node_has_no_plaintext_and_no_private_key_of_its_users() {
    let Story { user, node, entry, .. } = story();
    let disk = disk(&node.root());
    // It is looked for where the entry is, as it was sealed.
    assert!(
        has(&disk, &entry),
        "the entry of {} bytes is in none of the {} that there are",
        entry.len(),
        disk.len()
    );
    for secret in [CONTENT, MEDIA_TYPE, PASSPHRASE] {
        assert!(!has(&disk, secret.as_bytes()), "{secret:?} is on the disk of the node");
    }
    let (lines, public) = (private_lines(&user.root()), public_keys(&user.root()));
    assert!(!lines.is_empty() && private_lines(&node.root()).is_empty());
    for line in lines {
        assert!(!has(&disk, line.as_bytes()), "a line of a private key is on the disk of the node");
        let der = BASE64.decode(line.as_bytes()).unwrap();
        // 48 bytes each. Those of the modulus are public, and belong to the keys of tables and authors.
        assert!(
            is_of_a_modulus(&public, &der) || !has(&disk, &der),
            "a piece of a private key is on the disk of the node"
        );
    }
}

/// The public keys below a directory, one after the other.
fn public_keys(directory: &Path) -> Vec<u8> {
    let mut public = Vec::new();
    for file in files(directory) {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let pem =
            |part: &str| part.split("-----END PUBLIC KEY-----").next().unwrap_or_default().replace('\n', "");
        for part in text.split("-----BEGIN PUBLIC KEY-----").skip(1) {
            public.extend(BASE64.decode(pem(part).as_bytes()).unwrap());
        }
    }
    public
}

/// Whether a piece of a key is also one of its public half.
fn is_of_a_modulus(public: &[u8], piece: &[u8]) -> bool {
    // The piece may reach over an end of the modulus.
    let inner = &piece[..piece.len().min(48)];
    public.windows(16).any(|window| inner.windows(16).any(|part| part == window))
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;

    let home = Home::dev();
    let table = home.json(&["table", "new", "vault", "--bits", "2048", "--shared-key"]);
    home.ok(&["key", "new", "me", "--bits", "2048"]);
    let is_secret = |file: &PathBuf| fs::read_to_string(file).is_ok_and(|text| text.contains("PRIVATE KEY"));
    let mut secrets: Vec<PathBuf> = files(&home.root()).into_iter().filter(is_secret).collect();
    assert!(secrets.len() >= 2, "a key and a card: {secrets:?}");
    secrets.push(home.root().join("node.key"));
    for secret in secrets {
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).unwrap();
        let said = if secret.ends_with("node.key") {
            home.fails(1, &["run", "--listen", "/ip4/127.0.0.1/tcp/0"])
        } else {
            home.fails(1, &["get", "--mine", "--table", table["id"].as_str().unwrap(), "--peer", NOWHERE])
        };
        assert!(said.contains(text(&secret)) && said.contains("hint: "), "{}: {said}", secret.display());
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    }
}
