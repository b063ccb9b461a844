//! A node as a process of its own under attack, each attack by several peers at once: an honest client goes on to put and to
//! read, and the node's memory and descriptors stay within their bounds.

use std::{collections::BTreeSet, fs, net::TcpStream, time::Duration};

use bytes::Bytes;
use futures::future::join_all;
use libp2p::{Multiaddr, PeerId};
use p2pdb::{
    client::{Client, ClientError},
    clock::monotonic,
    protocol::{
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        entry::Entry,
        filter::Filter,
        id::EntryId,
        limits,
        message::{
            Status, announce,
            get::Get,
            hello::{Hello, HelloRequest},
            put::{Put, PutRequest},
        },
        network::{Network, NetworkFile},
        refusal::{Outcome, Refusal},
        seal::{Content, Draft},
    },
    swarm::RequestError,
};
use rand_core::Rng as _;

use crate::{
    cli::{Home, text},
    cli_nodes::{Node, status},
    peer::{Peer, framed, prefix, signed_bytes},
    refusals::Parts,
    support::{client, eventually, key, mine, now, rng, table, table_id},
};

/// Peers that attack at once: with one of the honest client's they are as many as may connect and more than share an inbox.
const ATTACKERS: usize = 6;
/// Puts and gets of the honest client that are timed.
const ROUNDS: usize = 15;
/// How much longer an honest put and get may take under any attack, and how long at least before that counts: this is not the
/// only test that runs.
const MAX_SLOWDOWN: u32 = 20;
const NOTICEABLE: Duration = Duration::from_millis(1500);
/// What an attack may add to the node's memory, in bytes: those of requests, of answers that nobody takes, and of streams that
/// are not read yet (each `limits.max_request_memory`, 64 MiB); what else it costs is less than that.
const MAX_MEMORY: u64 = 192 << 20;
/// Descriptors that an attack may add: one for each connection that is established or being set up.
const MAX_DESCRIPTORS: usize = 192 + 64;

struct Siege {
    home: Home,
    node: Node,
    network: Network,
    address: Multiaddr,
    peer: PeerId,
    client: Client,
    entries: Vec<Entry>,
    /// Memory and descriptors of the node before the attack.
    before: (u64, usize),
}

impl Siege {
    async fn begin() -> Self {
        let home = Home::dev();
        // Quotas would end most floods before they begin.
        let unlimited: Vec<String> = ["hello", "index", "index_pages", "get", "get_bytes", "put", "announce"]
            .iter()
            .flat_map(|rate| ["--set".to_owned(), format!("rates.{rate}=0")])
            .collect();
        let unlimited: Vec<&str> = unlimited.iter().map(String::as_str).collect();
        let node =
            Node::run(&home, &[&["--set", "kad_mode=server", "--set", "log=error"], &unlimited[..]].concat());
        let network = fs::read_to_string(home.root().join("network.toml")).unwrap();
        let network = NetworkFile::parse(&network).unwrap().network;
        let address: Multiaddr = node.address.parse().unwrap();
        let client = client(&network, &[&address]).await;
        let peer = client.connect(address.clone()).await.unwrap();
        let mut siege =
            Self { home, node, network, address, peer, client, entries: Vec::new(), before: (0, 0) };
        // Enough for answers of a megabyte.
        for number in 0..40 {
            siege.put(&number.to_string().repeat(15_000)).await;
        }
        siege
    }

    async fn put(&mut self, text: &str) {
        let content = Content { media_type: "text/plain".to_owned(), data: text.as_bytes().to_vec() };
        let recipients = std::slice::from_ref(key(1).public_key());
        let draft = Draft {
            table: table(),
            recipients,
            created: now(),
            expires: None,
            content: &content,
            author: None,
        };
        let entry = mine(&self.network, &draft.seal(&mut rng(), &self.network).unwrap());
        // A node that is busy says so, and is asked again.
        eventually("the node takes an honest entry", || async {
            match self.client.put_to(self.peer, std::slice::from_ref(&entry), table().public_key()).await {
                Ok(outcomes) if outcomes[0] == Outcome::Refused(Refusal::Busy) => None,
                Ok(outcomes) => {
                    assert!(outcomes[0].is_held(), "{outcomes:?}");
                    Some(())
                }
                Err(error) => is_busy(&error),
            }
        })
        .await;
        self.entries.push(entry);
    }

    async fn get(&self, id: EntryId) {
        let found = eventually("an honest get is answered", || async {
            match self.client.get_all(self.peer, &Filter::ids(vec![id])).await {
                Ok(found) => Some(found),
                Err(ClientError::Request(error)) => is_busy(&error),
                Err(error) => panic!("{error}"),
            }
        });
        assert_eq!(found.await[0].id(), id);
    }

    /// The time of an honest put and of the get that reads it, the median of some.
    async fn honest(&mut self) -> Duration {
        let mut times = Vec::new();
        for number in 0..ROUNDS {
            let began = monotonic();
            self.put(&format!("honest {number}")).await;
            self.get(self.entries.last().unwrap().id()).await;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        times[ROUNDS / 2]
    }

    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.node.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.node.id())).unwrap().count()
    }

    /// From here on counts what an attack costs.
    fn mark(&mut self) {
        self.before = (self.memory(), self.descriptors());
    }

    async fn attackers(&mut self) -> Vec<Peer> {
        self.mark();
        let attackers: Vec<Peer> = (0..ATTACKERS).map(|_| Peer::start(&self.network)).collect();
        for attacker in &attackers {
            assert_eq!(attacker.connect(&self.address).await, Some(self.peer));
        }
        attackers
    }

    fn everything(&self) -> Vec<u8> {
        framed(&lenient::to_vec(&Filter::table(table_id(table())).to_request().unwrap()).unwrap())
    }

    /// Measures the honest client while `attack` lasts, and says what it cost.
    async fn under<T>(&mut self, name: &str, usual: Duration, attack: T) {
        let (memory, descriptors) = self.before;
        let took = self.honest().await;
        let (memory_after, descriptors_after) = (self.memory(), self.descriptors());
        let banned = status(&self.home)["swarm"]["banned"].as_u64().unwrap();
        println!(
            "{name:44} {:6.1}x {:5} MiB (+{}) {descriptors_after:4} descriptors {banned:3} banned",
            took.as_secs_f64() / usual.as_secs_f64(),
            memory_after >> 20,
            memory_after.saturating_sub(memory) >> 20,
        );
        assert!(took < (usual * MAX_SLOWDOWN).max(NOTICEABLE), "{name}: {took:?}, without it {usual:?}");
        assert!(memory_after < memory + MAX_MEMORY, "{name}: {memory_after} bytes, before {memory}");
        assert!(descriptors_after < descriptors + MAX_DESCRIPTORS, "{name}: {descriptors_after} descriptors");
        drop(attack);
    }
}

/// None if the node said that it is busy; all else is a failure.
fn is_busy<T>(error: &RequestError) -> Option<T> {
    assert!(matches!(error, RequestError::Refused { status: Status::Busy, .. }), "{error}");
    None
}

fn put_request(entries: &[Bytes]) -> Vec<u8> {
    let entries = entries.iter().map(|entry| Blob::try_from(entry.clone()).unwrap());
    let request = PutRequest {
        entries: List::try_from(entries.collect::<Vec<_>>()).unwrap(),
        keys: List::try_from(vec![Blob::try_from(table().public_key().der().to_vec()).unwrap()]).unwrap(),
    };
    framed(&lenient::to_vec(&request).unwrap())
}

fn random_ids(count: usize) -> Vec<EntryId> {
    let id = |_| {
        let mut id = [0; 32];
        rng().fill_bytes(&mut id);
        EntryId::from_bytes(id)
    };
    (0..count).map(id).collect()
}

/// A field of a message of gossip.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag], &framed(bytes)[..]].concat()
}

/// Something said in a topic.
fn said(topic: &str, data: &[u8]) -> Vec<u8> {
    field(0x12, &[field(0x12, data), field(0x22, topic.as_bytes())].concat())
}

/// Frames of gossip: each takes part in topics that do not exist, or says something in such topics; `number` makes it another one.
fn rumours(number: u64) -> Vec<u8> {
    let name = |of: u64| format!("/p2pdb/dev/announce/1.0.0/{number:040}{of:040}");
    let (mut topics, mut messages) = (Vec::new(), Vec::new());
    for of in 0..200 {
        topics.extend(field(0x0a, &[&[0x08, 1][..], &field(0x12, name(of).as_bytes())].concat()));
    }
    for of in 0..16 {
        let data = [&number.to_be_bytes()[..], &[of as u8; 6000]].concat();
        messages.extend(said(&name(of), &data));
    }
    [framed(&topics), framed(&messages)].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_puts_and_gets_go_on_under_every_attack() {
    let mut siege = Siege::begin().await;
    let to = siege.peer;
    let usual = siege.honest().await;
    println!("without an attack: {usual:?} for a put and a get");

    // Gossip about what nobody knows. First of all, since what others leave in the allocator would hide what it takes.
    let attackers = siege.attackers().await;
    let mut observer = Peer::start(&siege.network);
    observer.connect(&siege.address).await.unwrap();
    observer.subscribe(table_id(table())).await;
    let (topic, known) = (announce::topic(&siege.network, &table_id(table())), siege.entries[0].id());
    let strikes = attackers.into_iter().zip(0..).map(|(attacker, number)| {
        // At the end something true, which shows that the node heard all of it.
        let topic = topic.clone();
        let truth = move |round: u64| {
            let ids: announce::Announce = List::try_from(vec![known; 2 + round as usize]).unwrap();
            framed(&said(&topic, &lenient::to_vec(&ids).unwrap()))
        };
        tokio::spawn(async move {
            // A node takes four streams of gossip from a peer, one after the other, and has one.
            for round in 3 * number..3 * number + 3 {
                let frames = (160 * round..160 * round + 160).flat_map(rumours);
                attacker.spread(to, frames.chain(truth(round)).collect()).await;
            }
            attacker
        })
    });
    let attackers = join_all(strikes).await;
    let mut heard = BTreeSet::new();
    while heard.len() < 3 * ATTACKERS {
        let ids = observer.hears().await;
        // What was put before is still announced.
        if ids.len() > 1 && ids.iter().all(|id| *id == known) {
            heard.insert(ids.len());
        }
    }
    siege.under("300 MB of gossip in topics that nobody has", usual, attackers).await;

    // Slow: requests that are never finished, answers that are never read, streams on which nothing is said.
    let attackers = siege.attackers().await;
    let half = [prefix(limits::PUT_REQUEST_BYTES), vec![0; limits::PUT_REQUEST_BYTES / 2]].concat();
    let mut held = Vec::new();
    for attacker in &attackers {
        for _ in 0..64 {
            held.push(attacker.hold::<Put>(to, half.clone()).await);
        }
    }
    siege.under("384 puts of half a megabyte, unfinished", usual, (attackers, held)).await;

    let attackers = siege.attackers().await;
    let (everything, mut held) = (siege.everything(), Vec::new());
    for attacker in &attackers {
        for _ in 0..64 {
            held.push(attacker.ignore::<Get>(to, everything.clone()).await);
        }
    }
    siege.under("384 answers of a megabyte that nobody reads", usual, (attackers, held)).await;

    // As many questions on each stream as may be sent before anything is read.
    let attackers = siege.attackers().await;
    let (more, mut held) = (everything.repeat((250 << 10) / everything.len()), Vec::new());
    for attacker in &attackers {
        for _ in 0..200 {
            held.push(attacker.ignore::<Get>(to, more.clone()).await);
        }
    }
    siege.under("1,200 streams of a quarter of a megabyte of questions", usual, (attackers, held)).await;

    let attackers = siege.attackers().await;
    let mut held = Vec::new();
    for attacker in &attackers {
        for _ in 0..500 {
            held.push(attacker.hold::<Get>(to, Vec::new()).await);
        }
    }
    siege.under("3,000 streams on which nothing is said", usual, (attackers, held)).await;

    // Many: requests, connections.
    let attackers = siege.attackers().await;
    let mut asked = Vec::new();
    for attacker in &attackers {
        for _ in 0..300 {
            asked.push(attacker.begin::<Get>(to, everything.clone()).await);
        }
    }
    siege.under("1,800 gets of a megabyte at once", usual, (attackers, asked)).await;

    let port = text(siege.node.address.as_ref()).split('/').nth(4).unwrap().parse::<u16>().unwrap();
    siege.mark();
    let sockets: Vec<_> = (0..2000).filter_map(|_| TcpStream::connect(("127.0.0.1", port)).ok()).collect();
    assert!(sockets.len() > 100, "{} connections", sockets.len());
    siege.under("2,000 connections that say nothing", usual, sockets).await;

    // False: garbage, spoiled entries, records of others.
    let attackers = siege.attackers().await;
    let garbage = framed(&[0xff; 5000]);
    let strikes = attackers.iter().map(|attacker| async {
        for _ in 0..10 {
            let _ = attacker.ask::<Get>(to, garbage.clone()).await;
        }
    });
    join_all(strikes).await;
    siege.under("garbage", usual, attackers).await;
    assert_eq!(status(&siege.home)["swarm"]["banned"], ATTACKERS, "each of them is banned");

    let attackers = siege.attackers().await;
    let spoiled: Vec<Bytes> = siege.entries[40..50]
        .iter()
        .map(|entry| Parts::of(entry).change(|parts| parts.signature[9] ^= 1).bytes())
        .collect();
    let put = put_request(&spoiled);
    let mut asked = Vec::new();
    for attacker in &attackers {
        for _ in 0..20 {
            asked.push(attacker.begin::<Put>(to, put.clone()).await);
        }
    }
    siege.under("1,200 spoiled copies of known entries", usual, (attackers, asked)).await;

    let attackers = siege.attackers().await;
    let forged = signed_bytes(&attackers[0].key, &siege.network);
    let hello = HelloRequest { record: Some(Blob::try_from(forged).unwrap()), tables: None };
    let hello = framed(&lenient::to_vec(&hello).unwrap());
    let mut asked = Vec::new();
    for attacker in &attackers[1..] {
        for _ in 0..20 {
            asked.push(attacker.begin::<Hello>(to, hello.clone()).await);
        }
    }
    siege.under("records of another node", usual, (attackers, asked)).await;

    // Again and again: what is known, what nobody has.
    let attackers = siege.attackers().await;
    let known: Vec<Bytes> = siege.entries[40..100].iter().map(|entry| entry.encoded().clone()).collect();
    let put = put_request(&known);
    let mut asked = Vec::new();
    for attacker in &attackers {
        for _ in 0..50 {
            asked.push(attacker.begin::<Put>(to, put.clone()).await);
        }
    }
    siege.under("18,000 entries put again", usual, (attackers, asked)).await;

    let attackers = siege.attackers().await;
    for attacker in &attackers {
        attacker.subscribe(table_id(table())).await;
        attacker.announce(table_id(table()), &random_ids(64)).await;
        for _ in 0..60 {
            attacker.shout(table_id(table()), &random_ids(64)).await;
        }
    }
    siege.under("announces of 23,000 entries that nobody has", usual, attackers).await;

    let attackers = siege.attackers().await;
    for attacker in &attackers {
        let keys = (0..300).map(|_| *random_ids(1)[0].as_bytes()).collect();
        attacker.provide(to, &siege.address, keys).await;
    }
    siege.under("1,800 tables provided in the DHT", usual, attackers).await;

    // Nothing of all this is left.
    let calm = siege.honest().await;
    println!("after all of them: {calm:?}, {} descriptors", siege.descriptors());
    assert!(calm < (usual * 4).max(NOTICEABLE), "{calm:?}, before {usual:?}");
    let stored = status(&siege.home)["entries"].as_u64().unwrap();
    assert_eq!(stored, siege.entries.len() as u64, "every honest entry and nothing else");
    siege.client.stop().await;
    assert_eq!(siege.node.stop(), Some(0));
    let report = siege.home.json(&["verify"]);
    assert_eq!((report["clean"].as_bool(), report["entries"].as_u64()), (Some(true), Some(stored)));
}
