//! The daemon with real nodes: posting, reading, following, the outbox, spaces.

use std::collections::HashSet;

use data_encoding::BASE64;
use p2pdb::ingest::Mirror;
use serde_json::{Value, json};

use crate::{
    gateway_http::{Daemon, Http, card},
    support::{TestNode, entry, eventually, key, network, table, table_id, until},
};

pub(crate) fn to_bob(text: &str) -> Value {
    json!({"space": "notes", "recipients": ["bob"], "content": {"text": text}})
}

fn texts(page: &Value) -> Vec<&str> {
    page["entries"].as_array().unwrap().iter().filter_map(|entry| entry["content"]["text"].as_str()).collect()
}

/// Waits until the daemon has so many entries of the space.
pub(crate) async fn has(http: &Http, entries: usize) -> Value {
    eventually("the entries are in the mirror", || async {
        let page = http.get("/v1/get?space=notes").await;
        (page["entries"].as_array().unwrap().len() == entries).then_some(page)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_daemon_posts_another_reads_and_a_third_cannot() {
    let network = network();
    let first = TestNode::start(&network, Mirror::All, &[]).await;
    let second = TestNode::start(&network, Mirror::All, std::slice::from_ref(&first.address)).await;
    let third = TestNode::start(&network, Mirror::All, std::slice::from_ref(&first.address)).await;
    let alice = Daemon::start(&network, &[&first.address], &["alice"]).await;
    let bob = Daemon::start(&network, &[&second.address], &["bob"]).await;
    let carol = Daemon::start(&network, &[&third.address], &["carol"]).await;
    let mut live = bob.http.events("/v1/changes?space=notes&recipient=me", &[]).await;

    let put = json!({"space": "notes", "recipients": ["bob", "alice"], "author": "alice",
        "content": {"type": "application/json", "json": {"title": "Grüße", "stars": 5}}});
    let job = alice.http.put("?wait=stored", &put).await;
    assert_eq!(job["state"], "stored", "{job}");
    assert!(!job["nodes"].as_array().unwrap().is_empty());
    let id = job["id"].as_str().unwrap();

    let event = live.next().await.unwrap();
    assert_eq!((event.name.as_str(), event.data["id"].as_str()), ("entry", Some(id)));
    let page = has(&bob.http, 1).await;
    let read = &page["entries"][0];
    assert_eq!(read, &event.data);
    assert_eq!(read["content"], put["content"]);
    assert_eq!((&read["author"]["name"], &read["opened_by"]["name"]), (&json!("alice"), &json!("bob")));
    assert_eq!(bob.http.get("/v1/get?space=notes&recipient=me").await["entries"][0]["id"], id);
    let sealed = &has(&carol.http, 1).await["entries"][0];
    assert_eq!(
        (sealed["id"].as_str(), &sealed["content"], &sealed["author"]),
        (Some(id), &Value::Null, &Value::Null)
    );
    assert_eq!(texts(&carol.http.get("/v1/get?space=notes&recipient=me").await), [""; 0]);

    // The same from the nodes themselves, with the bytes that they have.
    let remote = carol.http.get(&format!("/v1/get?space=notes&mode=remote&raw=1&id={id}")).await;
    assert!(!remote["nodes"].as_array().unwrap().is_empty());
    let raw = BASE64.decode(remote["entries"][0]["raw"].as_str().unwrap().as_bytes()).unwrap();
    assert_eq!(remote["entries"][0]["bytes"], raw.len());
    let (local, remote) = (
        bob.http.get("/v1/index?space=notes").await,
        bob.http.get("/v1/index?space=notes&mode=remote").await,
    );
    assert_eq!(local["listings"][0]["buckets"], remote["listings"][0]["buckets"]);
    let bucket = local["listings"][0]["buckets"][0]["bucket"].as_u64().unwrap();
    let listed = bob.http.get(&format!("/v1/index?space=notes&bucket={bucket}")).await;
    assert_eq!(listed["listings"][0]["ids"], json!([id]));
    let hello = bob.http.get("/v1/hello?space=notes").await;
    assert_eq!(hello["network"]["work_price"], network.work_price);
    assert!(hello["nodes"].as_array().unwrap().iter().any(|node| node["connected"] == true));
    let status = bob.http.get("/v1/status").await;
    assert_eq!((&status["entries"], &status["network"]), (&json!(1), &json!(network.id().to_string())));
    let metrics = bob.http.send("GET", "/metrics", &[], "").await;
    assert!(metrics.body.contains("\np2pdb_gateway_mirror_entries 1\n"), "{}", metrics.body);
    for daemon in [alice, bob, carol] {
        daemon.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_put_while_no_node_is_there_arrives_once() {
    let network = network();
    // A port that is free now, so that the node comes back where it was.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("/ip4/127.0.0.1/tcp/{port}");
    let node =
        TestNode::with(&network, &[], |config| config.swarm.listen = vec![listen.parse().unwrap()]).await;
    let daemon = Daemon::start(&network, &[&node.address], &["alice", "bob"]).await;
    daemon.http.put("?wait=stored", &to_bob("before")).await;
    let node = node.stop().await;
    until("the node is missed", || async { daemon.http.get("/v1/status").await["nodes_connected"] == 0 })
        .await;

    let job = daemon.http.put("?wait=stored&timeout=0", &to_bob("offline")).await;
    assert_eq!(job["nodes"], json!([]));
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let waiting = eventually("a try finds nobody", || async {
        let job = daemon.http.get(&path).await;
        job["error"].is_string().then_some(job)
    })
    .await;
    assert_eq!((&waiting["state"], &waiting["can_cancel"]), (&json!("sending"), &json!(true)));
    // Its writer reads it already.
    assert_eq!(texts(&has(&daemon.http, 2).await), ["before", "offline"]);

    let node = node.start().await;
    let stored = eventually("it arrives", || async {
        let job = daemon.http.get(&path).await;
        (job["state"] == "stored").then_some(job)
    })
    .await;
    assert_eq!(stored["nodes"], json!([node.node.peer().to_string()]));
    assert_eq!(node.entries().await, 2);
    assert_eq!(daemon.http.send("DELETE", &path, &[], "").await.problem(), "conflict");
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_twice_is_one_entry() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let daemon = Daemon::start(&network, &[&node.address], &["alice"]).await;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "0b6b2a")];
    let body = to_bob("once").to_string();
    let sent = (0..8).map(|_| daemon.http.send("POST", "/v1/put?wait=stored", &headers, &body));
    let ids: HashSet<String> = futures::future::join_all(sent)
        .await
        .iter()
        .map(|answer| answer.json()["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 1);
    let other = daemon.http.send("POST", "/v1/put", &headers, &to_bob("twice").to_string()).await;
    assert_eq!((other.status, other.problem().as_str()), (422, "key-reused"));
    // Also by a daemon that was started anew. The form of the JSON does not matter.
    let daemon = daemon.restart().await;
    let spaced = body.replace(':', " : ");
    let again = daemon.http.send("POST", "/v1/put", &headers, &spaced).await;
    assert!(ids.contains(again.json()["id"].as_str().unwrap()));
    assert_eq!(node.entries().await, 1);
    let too_long = "x".repeat(256);
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", too_long.as_str())];
    assert_eq!(daemon.http.send("POST", "/v1/put", &headers, &body).await.problem(), "bad-request");
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_node_was_given_can_be_withdrawn() {
    let network = network();
    let daemon = Daemon::start(&network, &[], &["alice", "bob"]).await;
    let job = daemon.http.put("", &to_bob("a mistake")).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    has(&daemon.http, 1).await;
    let cancelled = daemon.http.send("DELETE", &path, &[], "").await.json();
    assert_eq!((&cancelled["state"], &cancelled["can_cancel"]), (&json!("cancelled"), &json!(false)));
    has(&daemon.http, 0).await;
    // Work that would take for ever is stopped for the next one.
    let dear = p2pdb::protocol::network::Network { work_price: 1 << 48, ..network.clone() };
    let patient = Daemon::start(&dear, &[], &["bob"]).await;
    let first = patient.http.put("", &to_bob("dear")).await;
    let path = format!("/v1/jobs/{}", first["id"].as_str().unwrap());
    let mut events = patient.http.events(&format!("{path}/events"), &[]).await;
    loop {
        let event = events.next().await.unwrap();
        if event.data["progress"]["of"] == 8 {
            break;
        }
    }
    assert_eq!(patient.http.send("DELETE", &path, &[], "").await.json()["state"], "cancelled");
    while let Some(event) = events.next().await {
        assert_eq!(event.name, "job");
    }
    let second = patient.http.put("", &to_bob("dear too")).await;
    let path = format!("/v1/jobs/{}", second["id"].as_str().unwrap());
    until("the next one has its turn", || async { patient.http.get(&path).await["progress"].is_object() })
        .await;
    for daemon in [daemon, patient] {
        daemon.gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_go_on_where_they_were_left() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let daemon = Daemon::start(&network, &[&node.address], &["alice", "bob"]).await;
    for text in ["one", "two", "three"] {
        daemon.http.put("?wait=stored", &to_bob(text)).await;
    }
    let http = &daemon.http;
    let page = http.get("/v1/changes?space=notes&limit=2").await;
    assert_eq!((texts(&page), &page["more"]), (vec!["one", "two"], &json!(true)));
    let next = page["next"].as_str().unwrap();
    let rest = http.get(&format!("/v1/changes?space=notes&cursor={next}")).await;
    assert_eq!((texts(&rest), &rest["more"]), (vec!["three"], &json!(false)));
    let mut live = http.events("/v1/changes?space=notes&cursor=now", &[]).await;
    let mut all = http.events("/v1/changes?space=notes", &[]).await;
    let mut ids = Vec::new();
    for text in ["one", "two", "three"] {
        let event = all.next().await.unwrap();
        assert_eq!(event.data["content"]["text"], text);
        ids.push(event.id);
    }
    daemon.http.put("", &to_bob("four")).await;
    assert_eq!(live.next().await.unwrap().data["content"]["text"], "four");
    assert_eq!(all.next().await.unwrap().data["content"]["text"], "four");
    // A reader that was cut off, by a daemon that was started anew.
    let daemon = daemon.restart().await;
    assert!(live.next().await.is_none());
    let mut again = daemon.http.events("/v1/changes?space=notes", &[("Last-Event-ID", &ids[1])]).await;
    assert_eq!(again.next().await.unwrap().data["content"]["text"], "three");
    assert_eq!(again.next().await.unwrap().data["content"]["text"], "four");
    // One that was cut off before anything came: what arrives meanwhile is not lost.
    let mut cut = daemon.http.events("/v1/changes?space=notes&cursor=now", &[]).await;
    let place = cut.any().await.unwrap();
    assert_eq!(place.name, "cursor");
    drop(cut);
    daemon.http.put("?wait=stored", &to_bob("five")).await;
    let path = "/v1/changes?space=notes&cursor=now";
    let mut again = daemon.http.events(path, &[("Last-Event-ID", &place.id)]).await;
    assert_eq!(again.next().await.unwrap().data["content"]["text"], "five");
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_catches_up_without_reading_anything_twice() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let client = crate::support::client(&network, &[&node.address]).await;
    let post = async |text: &str| {
        let entry = entry(&network, table(), key(2).public_key(), text);
        assert_eq!(client.put(&entry, table().public_key()).await.unwrap().holders().count(), 1);
    };
    for number in 0..5 {
        post(&number.to_string()).await;
    }
    let daemon = Daemon::start(&network, &[&node.address], &["bob"]).await;
    let page = has(&daemon.http, 5).await;
    assert_eq!(texts(&page), ["0", "1", "2", "3", "4"]);
    let next = page["next"].as_str().unwrap().to_owned();
    let daemon = daemon.restart().await;
    post("5").await;
    has(&daemon.http, 6).await;
    assert_eq!(texts(&daemon.http.get(&format!("/v1/get?space=notes&cursor={next}")).await), ["5"]);
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_opened_before_anyone_asks() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let client = crate::support::client(&network, &[&node.address]).await;
    for (reader, text) in [(2, "for bob"), (3, "for carol"), (2, "for bob too")] {
        let entry = entry(&network, table(), key(reader).public_key(), text);
        client.put(&entry, table().public_key()).await.unwrap();
    }
    let daemon = Daemon::start(&network, &[&node.address], &["bob"]).await;
    let opened = async |daemon: &Daemon| {
        until("what is for bob is opened, and nothing else is kept", || async {
            let metrics = daemon.http.send("GET", "/metrics", &[], "").await.body;
            metrics.contains("p2pdb_gateway_mirror_entries 3\n")
                && metrics.contains("p2pdb_gateway_opened_entries 2\n")
        })
        .await;
    };
    opened(&daemon).await;
    // Also what was there before the start.
    let daemon = daemon.restart().await;
    opened(&daemon).await;
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_card_is_another_space() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let daemon = Daemon::start(&network, &[&node.address], &["alice", "bob"]).await;
    let http = &daemon.http;
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "row 1")];
    let row = to_bob("public").to_string();
    let public = http.send("POST", "/v1/put?wait=stored", &headers, &row).await.json();
    let forum = json!({"name": "forum", "spaces": ["notes"], "may": ["get", "put"]});
    let forum = http.json("POST", "/v1/tokens", &forum).await.json();
    let forum = http.with_token(forum["token"].as_str().unwrap());
    let posted = forum.put("?wait=stored", &to_bob("by the app")).await;
    let path = format!("/v1/jobs/{}", posted["id"].as_str().unwrap());
    assert_eq!(forum.get(&path).await["id"], posted["id"]);
    let cursor = http.get("/v1/get?space=notes").await["next"].as_str().unwrap().to_owned();
    let mut live = http.events(&format!("/v1/changes?space=notes&cursor={cursor}"), &[]).await;

    let fork = card(&network, key(3));
    let swapped = http.json("PUT", "/v1/spaces/notes", &json!({"card": *fork.to_toml().unwrap()})).await;
    assert_eq!(swapped.json()["table"], table_id(key(3)).to_string());
    assert!(live.next().await.is_none(), "who reads the old table is sent away");
    assert_eq!(http.get("/v1/get?space=notes").await["entries"], json!([]));
    // Nor are there jobs of the first table.
    assert_eq!(forum.send("GET", &path, &[], "").await.problem(), "not-found");
    assert_eq!(forum.get("/v1/jobs").await, json!({"jobs": []}));
    assert_eq!(http.get("/v1/jobs?space=notes").await, json!({"jobs": []}));
    let gone = http.send("GET", &format!("/v1/get?space=notes&cursor={cursor}"), &[], "").await;
    assert_eq!((gone.status, gone.problem().as_str()), (410, "cursor-gone"));
    http.put("?wait=stored", &to_bob("private")).await;
    // The same request is another entry here.
    let private = http.send("POST", "/v1/put?wait=stored", &headers, &row).await.json();
    assert_ne!(private["id"], public["id"]);
    let mut live = http.events("/v1/changes?space=notes", &[("Last-Event-ID", &cursor)]).await;
    assert_eq!(live.next().await.unwrap().name, "reset");
    assert_eq!(live.next().await.unwrap().data["content"]["text"], "private");
    assert_eq!(texts(&http.get("/v1/get?space=notes").await), ["private", "public"]);

    // And back. The home has the card, so that this is so after a restart too.
    let daemon = daemon.restart().await;
    assert_eq!(texts(&daemon.http.get("/v1/get?space=notes").await), ["private", "public"]);
    let back = json!({"card": *card(&network, table()).to_toml().unwrap()});
    assert_eq!(daemon.http.json("PUT", "/v1/spaces/notes", &back).await.status, 200);
    assert_eq!(texts(&daemon.http.get("/v1/get?space=notes").await), ["public", "by the app"]);
    let again = daemon.http.send("POST", "/v1/put", &headers, &row).await.json();
    assert_eq!(again["id"], public["id"]);
    assert_eq!(daemon.http.with_token(&forum.token).get(&path).await["id"], posted["id"]);
    let twice = daemon.http.json("PUT", "/v1/spaces/copy", &back).await;
    assert_eq!((twice.status, twice.problem().as_str()), (409, "conflict"));
    let foreign = card(&p2pdb::protocol::network::Network::default(), table());
    let foreign = json!({"card": *foreign.to_toml().unwrap()});
    assert_eq!(daemon.http.json("PUT", "/v1/spaces/foreign", &foreign).await.problem(), "unfit");
    assert_eq!(daemon.http.send("DELETE", "/v1/spaces/notes", &[], "").await.status, 204);
    assert_eq!(daemon.http.get("/v1/spaces").await, json!({"spaces": []}));
    daemon.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_share_a_key_need_no_names() {
    let network = network();
    let node = TestNode::start(&network, Mirror::All, &[]).await;
    let daemon = Daemon::start(&network, &[&node.address], &["alice"]).await;
    let mut shared = card(&network, key(3));
    shared.recipient_public = Some(key(2).public_key().clone());
    let posting = json!({"card": *shared.to_toml().unwrap()});
    daemon.http.json("PUT", "/v1/spaces/board", &posting).await;
    let put = json!({"space": "board", "content": {"text": "to all"}});
    let nobody = json!({"space": "notes", "content": {"text": "to whom?"}});
    assert_eq!(daemon.http.json("POST", "/v1/put", &nobody).await.problem(), "unfit");
    assert_eq!(daemon.http.put("?wait=stored", &put).await["state"], "stored");
    // Who may only post does not read what he posted to others.
    assert_eq!(daemon.http.get("/v1/get?space=board").await["entries"][0]["content"], Value::Null);
    shared.recipient_private = Some(key(2).clone());
    let reading = json!({"card": *shared.to_toml().unwrap()});
    assert_eq!(daemon.http.json("PUT", "/v1/spaces/board", &reading).await.status, 200);
    assert_eq!(texts(&daemon.http.get("/v1/get?space=board&recipient=me").await), ["to all"]);
    let shared = json!({"card": *p2pdb::protocol::card::TableCard { table_private: None, ..shared }.to_toml().unwrap()});
    daemon.http.json("PUT", "/v1/spaces/board", &shared).await;
    assert_eq!(daemon.http.json("POST", "/v1/put", &put).await.problem(), "unfit");
    daemon.gateway.stop().await;
}
