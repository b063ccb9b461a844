//! The secrets of a user of the daemon for apps: neither its log nor what it writes tells them.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Stdio},
};

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    cli::{Home, stderr},
    gateway_http::Http,
    secrets::{CONTENT, Logging, MEDIA_TYPE, PASSPHRASE, assert_untold, disk, has, make_keys, private_lines},
};

/// A daemon that logs everything into a file.
struct Daemon {
    child: Child,
    http: Http,
    page: String,
    log: PathBuf,
}

impl Daemon {
    fn run(home: &Home, node: &str) -> Self {
        let log = home.path("log");
        let args = ["gateway", "--json", "--listen", "127.0.0.1:0", "--threads", "1", "--peer", node, "-vvv"];
        let mut command = home.command(&args);
        command
            .env("P2PDB_PASSPHRASE", PASSPHRASE)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let running: Value = serde_json::from_str(&line).unwrap();
        let token = fs::read_to_string(running["token_file"].as_str().unwrap()).unwrap();
        let address = running["url"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        let http = Http { address, token: token.trim().to_owned() };
        Self { child, http, page: running["page"].as_str().unwrap().to_owned(), log }
    }

    /// Opens the page by a link, and returns the cookie and the path that it is at.
    async fn open(&self, link: &str) -> (String, String) {
        let link = link.split_once("/?").unwrap().1;
        let opened = self.http.send("GET", &format!("/?{link}"), &[("Authorization", "")], "").await;
        let cookie = opened.headers["set-cookie"].split(';').next().unwrap().to_owned();
        let path = opened.headers["location"].clone();
        let page = self.http.send("GET", &path, &[("Authorization", ""), ("Cookie", &cookie)], "").await;
        assert!(page.status == 200 && page.body.contains(CONTENT), "{page:?}");
        (cookie, path)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_the_log_nor_the_disk_of_a_daemon_tells_what_it_is_trusted_with() {
    let (user, node) = (Home::dev(), Home::dev());
    let table = make_keys(&user);
    let node = Logging::run(&node, &table);
    let daemon = Daemon::run(&user, &node.address);
    let said = |args: &[&str]| {
        let output = user.run(&[args, &["-vvv"]].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        (String::from_utf8(output.stdout.clone()).unwrap().trim().to_owned(), stderr(&output))
    };
    let may = ["--may", "get", "--may", "put", "--may", "sign"];
    let (app, made) =
        said(&[&["gateway", "token", "new", "forum", "--space", "vault", "--json"], &may[..]].concat());
    let app: Value = serde_json::from_str(&app).unwrap();
    let app = daemon.http.with_token(app["token"].as_str().unwrap());
    let put = json!({"space": "vault", "recipients": ["plain", "locked"], "author": "locked",
        "content": {"type": MEDIA_TYPE, "text": CONTENT}});
    // It comes back from the node as well, so that it was opened where it arrives and where it is asked for.
    let mut changes = app.events("/v1/changes?space=vault", &[]).await;
    let job = app.put("?wait=stored", &put).await;
    assert_eq!(job["state"], "stored", "{job}");
    assert_eq!(changes.next().await.unwrap().data["content"]["text"], CONTENT);
    for mode in ["local", "remote"] {
        let page = app.get(&format!("/v1/get?space=vault&mode={mode}")).await;
        assert_eq!(page["entries"][0]["content"]["text"], CONTENT, "{mode}: {page}");
    }
    let raw = app.get("/v1/get?space=vault&raw=1").await;
    let sealed = BASE64.decode(raw["entries"][0]["raw"].as_str().unwrap().as_bytes()).unwrap();
    let (link, linked) = said(&["gateway", "link"]);
    let (first, second) = (daemon.open(&daemon.page).await, daemon.open(&link).await);

    let log = fs::read_to_string(&daemon.log).unwrap();
    assert!(log.contains("DEBUG") && log.len() > 20_000, "{} bytes of log", log.len());
    let of_link = |link: &str| link.split_once('=').unwrap().1.trim().to_owned();
    let of_cookie = |(cookie, path): (String, String)| {
        let path = path.strip_prefix("/page/").unwrap().to_owned();
        [cookie.split_once('=').unwrap().1.to_owned(), path]
    };
    let mut tokens =
        vec![daemon.http.token.clone(), app.token.clone(), of_link(&daemon.page), of_link(&link)];
    tokens.extend(of_cookie(first).into_iter().chain(of_cookie(second)));
    let texts = [CONTENT, MEDIA_TYPE, PASSPHRASE];
    let secrets: Vec<&str> = texts.into_iter().chain(tokens.iter().map(String::as_str)).collect();
    assert_untold(&[log, made, linked].concat(), &user.root(), &secrets);

    // In all that it keeps. It has its own token in a file that only the user can read, and that of an app as a digest.
    let disk = disk(&user.root().join("gateway"));
    assert!(has(&disk, &sealed), "the entry as it was sealed is there");
    for secret in texts.into_iter().chain([app.token.as_str()]) {
        assert!(!has(&disk, secret.as_bytes()), "{secret:?} is on the disk of the daemon");
    }
    assert!(private_lines(&user.root().join("gateway")).is_empty());
}
