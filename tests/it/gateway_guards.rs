//! What the daemon turns away: requests of web pages, wrong names, missing and narrow tokens, bodies of other forms.

use std::{fs, os::unix::fs::PermissionsExt as _};

use p2pdb::gateway::{Gateway, GatewayError};
use serde_json::json;

use crate::{
    gateway_http::{Daemon, card},
    support::{key, network},
};

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_and_names_get_nowhere() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let own = daemon.http.address.to_string();
    let port = daemon.http.address.port();
    let entry = json!({"space": "notes", "recipients": ["alice"], "content": {"text": "x"}}).to_string();
    let json_type = ("Content-Type", "application/json");
    let rebound = format!("evil.example:{port}");
    let (own_origin, other_port) = (format!("http://{own}"), format!("http://127.0.0.1:{}", port ^ 1));
    for (what, method, path, headers, status, problem) in [
        (
            "a name that resolves to loopback",
            "GET",
            "/v1/status",
            &[("Host", rebound.as_str())][..],
            421,
            "wrong-host",
        ),
        ("that name, even for health", "GET", "/health", &[("Host", rebound.as_str())], 421, "wrong-host"),
        ("no name", "GET", "/v1/status", &[("Host", "")], 421, "wrong-host"),
        (
            "a page elsewhere",
            "POST",
            "/v1/put",
            &[json_type, ("Origin", "http://evil.example")],
            403,
            "foreign-origin",
        ),
        (
            "a page on another port",
            "POST",
            "/v1/put",
            &[json_type, ("Origin", &other_port)],
            403,
            "foreign-origin",
        ),
        ("a sandboxed page", "POST", "/v1/put", &[json_type, ("Origin", "null")], 403, "foreign-origin"),
        (
            "its preflight",
            "OPTIONS",
            "/v1/put",
            &[("Origin", "http://evil.example"), ("Access-Control-Request-Method", "POST")],
            403,
            "foreign-origin",
        ),
        (
            "an image of a page",
            "GET",
            "/v1/status",
            &[("Sec-Fetch-Site", "cross-site")],
            403,
            "foreign-origin",
        ),
        (
            "a page's stream",
            "GET",
            "/v1/changes?space=notes",
            &[("Origin", "http://evil.example"), ("Accept", "text/event-stream")],
            403,
            "foreign-origin",
        ),
        (
            "a page's web socket",
            "GET",
            "/v1/changes?space=notes",
            &[("Origin", "http://evil.example"), ("Upgrade", "websocket")],
            403,
            "foreign-origin",
        ),
        ("no token", "GET", "/v1/status", &[("Authorization", "")], 401, "no-token"),
        ("a wrong token", "GET", "/v1/status", &[("Authorization", "Bearer 0000")], 401, "no-token"),
        (
            "the token of another scheme",
            "GET",
            "/v1/status",
            &[("Authorization", "Basic eDp5")],
            401,
            "no-token",
        ),
        ("no token, for a path that is not there", "GET", "/v2/x", &[("Authorization", "")], 401, "no-token"),
        (
            "a form",
            "POST",
            "/v1/put",
            &[("Content-Type", "application/x-www-form-urlencoded")],
            415,
            "not-json",
        ),
        ("text", "POST", "/v1/put", &[("Content-Type", "text/plain")], 415, "not-json"),
        ("no type", "POST", "/v1/put", &[], 415, "not-json"),
        ("a path that is not there", "GET", "/v2/x", &[], 404, "not-found"),
        ("another method", "DELETE", "/v1/put", &[], 405, "bad-method"),
    ] {
        let answer = daemon.http.send(method, path, headers, &entry).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        if !problem.is_empty() {
            assert_eq!(answer.problem(), problem, "{what}");
            assert_eq!(answer.headers["cache-control"], "no-store");
        }
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control")), "{what}: {answer:?}");
    }
    assert_eq!(daemon.http.get("/v1/jobs").await, json!({"jobs": []}), "nothing of this was taken");
    // The daemon's own page, and whoever has no page at all.
    let same = [("Origin", own_origin.as_str()), ("Sec-Fetch-Site", "same-origin")];
    assert_eq!(daemon.http.send("GET", "/v1/status", &same, "").await.status, 200);
    assert_eq!(
        daemon.http.send("GET", "/health", &[("Authorization", "")], "").await.json(),
        json!({"status": "ok"})
    );
    let localhost = format!("localhost:{port}");
    assert_eq!(daemon.http.send("GET", "/v1/status", &[("Host", &localhost)], "").await.status, 200);
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_and_queries_that_do_not_fit_are_explained() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let put = json!({"space": "notes", "recipients": ["alice"], "content": {"text": "x"}});
    let with = |name: &str, value: serde_json::Value| {
        let mut put = put.clone();
        put[name] = value;
        put
    };
    for (body, status, problem) in [
        (json!([]), 422, "unfit"),
        (json!({"space": "notes"}), 422, "unfit"),
        (with("colour", json!("red")), 422, "unfit"),
        (with("space", json!("nowhere")), 404, "not-found"),
        (with("recipients", json!([])), 422, "unfit"),
        (with("recipients", json!(["mallory"])), 404, "not-found"),
        (with("recipients", json!(null)), 422, "unfit"),
        (with("author", json!("bob")), 422, "unfit"),
        (with("expires_after", json!(0)), 422, "unfit"),
        (with("content", json!({"text": "a", "json": 1})), 422, "unfit"),
        (with("content", json!({"text": "x".repeat(300_000)})), 422, "unfit"),
        (with("content", json!({"text": "x".repeat(1 << 20)})), 413, "too-large"),
    ] {
        let answer = daemon.http.json("POST", "/v1/put", &body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{answer:?}");
    }
    for (query, status) in [
        ("get", 400),
        ("get?space=nowhere", 404),
        ("get?space=notes&colour=red", 400),
        ("get?space=notes&limit=0", 400),
        ("get?space=notes&limit=1001", 400),
        ("get?space=notes&bucket=4096", 400),
        ("get?space=notes&bucket=70000", 400),
        ("get?space=notes&recipient=mallory", 404),
        ("get?space=notes&id=p2entry1x", 400),
        ("get?space=notes&cursor=x", 400),
        ("get?space=notes&cursor=00000000-0000000000000000-1", 410),
        ("get?space=notes&raw=yes", 400),
        ("get?space=notes&mode=remote", 502),
        ("changes?space=notes&mode=remote", 400),
        ("index?space=notes&bucket=4096", 400),
        ("jobs/p2entry1x", 400),
        ("jobs?limit=0", 400),
        ("put?wait=forever", 405),
    ] {
        let answer = daemon.http.send("GET", &format!("/v1/{query}"), &[], "").await;
        assert_eq!(answer.status, status, "{query}: {answer:?}");
        answer.problem();
    }
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apps_token_opens_its_spaces_and_no_more() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let owner = &daemon.http;
    let other = card(&network(), key(3)).to_toml().unwrap();
    assert_eq!(owner.json("PUT", "/v1/spaces/other", &json!({"card": *other})).await.status, 200);
    let new = json!({"name": "forum", "spaces": ["notes"], "may": ["get", "put"]});
    let made = owner.json("POST", "/v1/tokens", &new).await;
    assert_eq!(made.status, 201, "{made:?}");
    let token = made.json()["token"].as_str().unwrap().to_owned();
    let app = owner.with_token(&token);
    let spaces = app.get("/v1/spaces").await;
    assert_eq!(spaces["spaces"].as_array().unwrap().len(), 1);
    assert_eq!(spaces["spaces"][0]["name"], "notes");
    let entry = |space: &str| json!({"space": space, "recipients": ["alice"], "content": {"text": "x"}});
    let job = app.put("", &entry("notes")).await;
    let owners = owner.put("", &entry("notes")).await;
    // An app sees its own jobs alone, the owner all.
    assert_eq!(app.get("/v1/jobs").await["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(owner.get("/v1/jobs").await["jobs"].as_array().unwrap().len(), 2);
    assert_eq!(app.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await["id"], job["id"]);
    let signed = {
        let mut signed = entry("notes");
        signed["author"] = json!("alice");
        signed
    };
    let card = json!({"card": *other});
    let challenge = json!({"key": "alice", "challenge": "AAAA"});
    for (method, path, body, status, problem) in [
        ("POST", "/v1/put".to_owned(), entry("other"), 404, "not-found"),
        ("GET", "/v1/get?space=other".to_owned(), json!(null), 404, "not-found"),
        ("GET", "/v1/changes?space=other".to_owned(), json!(null), 404, "not-found"),
        ("GET", "/v1/index?space=other".to_owned(), json!(null), 404, "not-found"),
        ("GET", "/v1/hello?space=other".to_owned(), json!(null), 404, "not-found"),
        ("GET", "/v1/spaces/other".to_owned(), json!(null), 404, "not-found"),
        ("GET", format!("/v1/jobs/{}", owners["id"].as_str().unwrap()), json!(null), 404, "not-found"),
        ("DELETE", format!("/v1/jobs/{}", owners["id"].as_str().unwrap()), json!(null), 404, "not-found"),
        ("POST", "/v1/put".to_owned(), signed, 403, "out-of-scope"),
        ("POST", "/v1/login".to_owned(), challenge, 403, "out-of-scope"),
        ("PUT", "/v1/spaces/notes".to_owned(), card, 403, "out-of-scope"),
        ("DELETE", "/v1/spaces/notes".to_owned(), json!(null), 403, "out-of-scope"),
        ("GET", "/v1/tokens".to_owned(), json!(null), 403, "out-of-scope"),
        ("POST", "/v1/tokens".to_owned(), new.clone(), 403, "out-of-scope"),
        ("GET", "/metrics".to_owned(), json!(null), 403, "out-of-scope"),
    ] {
        let answer = app.json(method, &path, &body).await;
        assert_eq!((answer.status, answer.problem().as_str()), (status, problem), "{method} {path}");
    }
    let reader = json!({"name": "reader", "spaces": ["notes"], "may": ["get"]});
    let reader = owner.json("POST", "/v1/tokens", &reader).await.json();
    let reader = owner.with_token(reader["token"].as_str().unwrap());
    assert_eq!(reader.json("POST", "/v1/put", &entry("notes")).await.problem(), "out-of-scope");

    // Tokens of apps outlive the daemon, the owner's does not; a removed one is nothing any more.
    let before = owner.token.clone();
    let daemon = daemon.restart().await;
    let app = daemon.http.with_token(&token);
    assert_eq!(app.get("/v1/jobs").await["jobs"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.http.with_token(&before).send("GET", "/v1/status", &[], "").await.status, 401);
    assert!(!daemon.http.get("/v1/tokens").await.to_string().contains(&token));
    assert_eq!(daemon.http.send("DELETE", "/v1/tokens/forum", &[], "").await.status, 204);
    assert_eq!(daemon.http.send("DELETE", "/v1/tokens/forum", &[], "").await.status, 404);
    assert_eq!(app.send("GET", "/v1/status", &[], "").await.status, 401);
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owners_token_is_for_the_owner_alone() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let directory = daemon.config.home.root().join("gateway");
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(fs::metadata(directory.join("token")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(daemon.file("token").trim(), daemon.http.token);
    assert_eq!(daemon.file("url").trim(), format!("http://{}", daemon.http.address));
    // A second daemon on the same home does not start, and leaves the first one's files alone.
    let second = Gateway::start(daemon.config.clone()).await;
    assert!(matches!(second, Err(GatewayError::Store(_))), "{second:?}");
    assert_eq!(daemon.file("token").trim(), daemon.http.token);
    let mut exposed = daemon.config.clone();
    exposed.listen = "0.0.0.0:0".parse().unwrap();
    assert!(matches!(Gateway::start(exposed).await, Err(GatewayError::NotLoopback { .. })));
    daemon.gateway.stop().await;
    assert!(!directory.join("token").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_keeps_nobody_out() {
    let daemon = Daemon::start(&network(), &[], &["alice"]).await;
    let owner = &daemon.http;
    let entry = json!({"space": "notes", "recipients": ["alice"], "content": {"text": "x"}}).to_string();
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "one")];
    let mut waits = tokio::task::JoinSet::new();
    let mut apps = Vec::new();
    // No node is there: these wait until the test is over.
    for name in ["first", "second", "third"] {
        let new = json!({"name": name, "spaces": ["notes"], "may": ["put"]});
        let made = owner.json("POST", "/v1/tokens", &new).await.json();
        let app = owner.with_token(made["token"].as_str().unwrap());
        for _ in 0..40 {
            let (app, entry) = (app.clone(), entry.clone());
            waits.spawn(async move { app.send("POST", "/v1/put?wait=stored", &headers, &entry).await });
        }
        apps.push(app);
    }
    // What finds no place is turned away at once, and 32 of an app, 64 of all together, do find one.
    for _ in 0..3 * 40 - 64 {
        let answer = waits.join_next().await.unwrap().unwrap();
        assert_eq!((answer.status, answer.problem().as_str()), (503, "busy"));
    }
    for app in &apps {
        assert!(app.get("/v1/jobs").await["jobs"].as_array().unwrap().len() < 2);
    }
    assert_eq!(owner.send("GET", "/health", &[("Authorization", "")], "").await.status, 200);
    let own = owner.send("POST", "/v1/put?wait=stored&timeout=0", &headers, &entry).await;
    assert_eq!(own.status, 202, "{own:?}");
    assert_eq!(waits.try_join_next().map(|wait| wait.unwrap().status), None, "the others wait on");
    waits.shutdown().await;
    daemon.gateway.stop().await;
}
