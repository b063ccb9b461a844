//! The daemon and its user: login by key, and the page.

use data_encoding::BASE64;
use rand_core::Rng as _;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::{
    gateway::{has, to_bob},
    gateway_http::Daemon,
    support::{key, network, now, rng},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_a_login_for_one_origin() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let origin = "http://localhost:5000";
    let new = json!({"name": "forum", "spaces": [], "may": ["login"], "origin": origin});
    let made = daemon.http.json("POST", "/v1/tokens", &new).await.json();
    let app = daemon.http.with_token(made["token"].as_str().unwrap());
    let nameless = json!({"name": "other", "spaces": [], "may": ["login"]});
    assert_eq!(daemon.http.json("POST", "/v1/tokens", &nameless).await.problem(), "unfit");
    let challenge = |origin: &str, issued: u64| {
        let mut nonce = [0; 32];
        rng().fill_bytes(&mut nonce);
        let plain = [&issued.to_be_bytes()[..], &nonce].concat();
        let label = format!("p2pdb-login-v1|{origin}");
        let sealed = key(1).public_key().encrypt(&mut rng(), label.as_bytes(), &plain).unwrap();
        (json!({"key": "alice", "challenge": BASE64.encode(&sealed)}), plain)
    };
    let (asked, plain) = challenge(origin, now());
    let answer = app.json("POST", "/v1/login", &asked).await.json();
    let expected = Sha256::new().chain_update("p2pdb login answer v1").chain_update(plain).finalize();
    assert_eq!(answer["answer"], BASE64.encode(&expected));
    assert_eq!(answer["key"], key(1).public_key().recipient_id().to_string());
    assert_eq!(app.json("POST", "/v1/login", &asked).await.problem(), "bad-challenge", "replayed");
    let (foreign, _) = challenge("http://evil.example", now());
    assert_eq!(app.json("POST", "/v1/login", &foreign).await.problem(), "bad-challenge", "foreign");
    let (stale, _) = challenge(origin, now() - 3600);
    assert_eq!(app.json("POST", "/v1/login", &stale).await.problem(), "bad-challenge", "stale");
    // An app cannot have the challenge of another site answered by naming that site.
    let mut passed_on = foreign.clone();
    passed_on["origin"] = json!("http://evil.example");
    assert_eq!(app.json("POST", "/v1/login", &passed_on).await.problem(), "out-of-scope");
    // The owner, who pastes it, can.
    assert_eq!(daemon.http.json("POST", "/v1/login", &passed_on).await.status, 200);
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_opens_by_a_link_once_and_shows_no_markup_of_others() {
    let daemon = Daemon::start(&network(), &[], &["alice", "bob"]).await;
    daemon.http.put("", &to_bob("<script>alert(1)</script>")).await;
    has(&daemon.http, 1).await;
    let nobody = [("Authorization", "")];
    let refused = daemon.http.send("GET", "/", &nobody, "").await;
    assert_eq!(refused.problem(), "no-token");
    let link = daemon.gateway.page().split_once("/?").unwrap().1.to_owned();
    let opened = daemon.http.send("GET", &format!("/?{link}"), &nobody, "").await;
    let (status, path) = (opened.status, opened.headers["location"].as_str());
    assert!(status == 303 && path.starts_with("/page/"), "{opened:?}");
    assert_eq!(daemon.http.send("GET", &format!("/?{link}"), &nobody, "").await.problem(), "no-token");
    let cookie = opened.headers["set-cookie"].split(';').next().unwrap().to_owned();
    // The browser keeps it from the apps on other ports of this machine, which do not know the path.
    assert!(opened.headers["set-cookie"].ends_with(&format!("; HttpOnly; SameSite=Strict; Path={path}")));
    assert_eq!(daemon.http.send("GET", path, &nobody, "").await.problem(), "no-token");
    let with_cookie = [("Authorization", ""), ("Cookie", cookie.as_str())];
    assert_eq!(daemon.http.send("GET", "/page/0000", &with_cookie, "").await.problem(), "no-token");
    let page = daemon.http.send("GET", path, &with_cookie, "").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{}", page.body);
    assert!(!page.body.contains("<script"));
    assert!(page.headers["content-security-policy"].starts_with("default-src 'none'; style-src"));
    // The card as a QR code, without a private key.
    let card = daemon.http.send("GET", &format!("{path}/card/notes"), &with_cookie, "").await;
    assert!(card.body.contains("<svg") && card.body.contains("BEGIN PUBLIC KEY"), "{}", card.body);
    assert!(!card.body.contains("PRIVATE KEY"));
    assert_eq!(
        daemon.http.send("GET", &format!("{path}/card/notes"), &nobody, "").await.problem(),
        "no-token"
    );
    let missing = daemon.http.send("GET", &format!("{path}/card/nothing"), &with_cookie, "").await;
    assert_eq!(missing.problem(), "not-found");
    // The cookie opens the page and nothing else.
    assert_eq!(daemon.http.send("GET", "/v1/status", &with_cookie, "").await.problem(), "no-token");
    let again = daemon.http.json("POST", "/v1/page", &json!({})).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.json()["url"], daemon.gateway.page());
    daemon.gateway.stop().await;
}
