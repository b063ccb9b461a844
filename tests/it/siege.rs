//! A node as a process of its own under attack, each attack by several peers at once. What it does to who attacks is what it should
//! do; an honest client goes on to put and to read, one node hears of it all and another one that joins fetches it; nothing is lost,
//! and memory and descriptors stay within their bounds.

mod cost;
mod crowds;
mod floods;
mod honest;
mod lies;
mod report;
mod rumours;
mod slow;

use std::{fmt::Display, fs};

use libp2p::{Multiaddr, PeerId};
use p2pdb::{
    client::Client,
    node::admin,
    protocol::{
        codec::{
            bounded::{Blob, List},
            lenient,
        },
        entry::Entry,
        filter::Filter,
        message::put::PutRequest,
        network::{Network, NetworkFile},
    },
};
use rand_core::Rng as _;
use serde_json::Value;

use self::{
    cost::{Cost, cost, reset_peak},
    report::{MAX_SLOWDOWN, MAX_SLOWDOWN_AFTER, Report, Row, Times},
};
use crate::{
    cli::Home,
    cli_nodes::Node,
    peer::{Peer, framed},
    support::{client, eventually, rng, table, table_id, until},
};

/// Peers that attack at once: the shares of four of them fill an inbox.
const ATTACKERS: usize = 6;
/// Puts and gets of the honest client that are timed during each attack.
const ROUNDS: usize = 15;
/// What an attack may add to the node's memory, in bytes: those of requests, of answers that nobody takes, and of streams that
/// are not read yet (each `limits.max_request_memory`, 64 MiB); what else it costs is less than that.
const MAX_MEMORY: u64 = 192 << 20;
/// What all attacks together may add to it: what one leaves behind in the allocator serves the next.
const MAX_MEMORY_IN_ALL: u64 = MAX_MEMORY / 2 * 3;
/// Descriptors that an attack may add: one for each connection that is established or being set up.
const MAX_DESCRIPTORS: usize = MAX_INCOMING + MAX_PENDING;
/// The node's `limits.max_incoming` and `limits.max_pending_incoming`.
const MAX_INCOMING: usize = 128;
const MAX_PENDING: usize = 128;
/// The score of who was asked and did not answer in time once or twice, as an attacker may whom his own flood holds up, is above this.
const ONCE_LATE: f64 = -4.5;
/// Descriptors that may be open in the end besides those of the beginning: of the store, and of whoever just asks the admin socket.
const SPARE_DESCRIPTORS: usize = 8;

/// What the node does to those who attack it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blame {
    /// It bears with them: what they do may happen to honest peers.
    None,
    /// Their scores fall.
    Score,
    /// They are thrown out.
    Ban,
}

struct Siege {
    home: Home,
    node: Node,
    network: Network,
    address: Multiaddr,
    peer: PeerId,
    client: Client,
    /// A node that hears what the besieged one announces.
    near: (Home, Node),
    /// One that comes when everything is put, and goes again.
    far: (Home, Option<Node>),
    /// What was put.
    entries: Vec<Entry>,
    /// What will be put during the next attack.
    coming: Vec<Entry>,
    /// What honest peers needed when nothing had happened, or just before the attack if that is longer: whatever else the machine does
    /// may have changed.
    usual: Times,
    first_usual: Times,
    report: Report,
    /// Of the node, when nothing had happened.
    first: Cost,
    /// The most memory that it took since.
    most: u64,
    /// Before the attack.
    before: Cost,
    banned: u64,
}

impl Siege {
    async fn begin() -> Self {
        let home = Home::dev();
        // Quotas would end most floods before they begin.
        let rates = [
            "hello",
            "index",
            "index_pages",
            "get",
            "get_bytes",
            "put",
            "sync",
            "sync_bytes",
            "sync_work",
            "announce",
        ];
        let mut unlimited = vec!["--set", "kad_mode=server", "--set", "log=error"];
        let rates = rates.map(|rate| format!("rates.{rate}=0"));
        unlimited.extend(rates.iter().flat_map(|rate| ["--set", rate]));
        let node = Node::run(&home, &unlimited);
        let network = fs::read_to_string(home.root().join("network.toml")).unwrap();
        let network = NetworkFile::parse(&network).unwrap().network;
        let address: Multiaddr = node.address.parse().unwrap();
        let client = client(&network, &[&address]).await;
        let peer = client.connect(address.clone()).await.unwrap();
        let near = Home::dev();
        let near_node = Node::run(&near, &follower(&node.address));
        let first = cost(&node);
        let mut siege = Self {
            home,
            node,
            network,
            address,
            peer,
            client,
            near: (near, near_node),
            far: (Home::dev(), None),
            entries: Vec::new(),
            coming: Vec::new(),
            usual: Times::default(),
            first_usual: Times::default(),
            report: Report::default(),
            first,
            most: 0,
            before: first,
            banned: 0,
        };
        // Enough for answers of a megabyte.
        for number in 0..40 {
            siege.put(siege.entry(&number.to_string().repeat(15_000))).await;
        }
        siege.prepare();
        siege.honest().await;
        siege.first_usual = siege.honest().await;
        siege.first = siege.cost();
        siege.report.begin(&siege.first_usual);
        siege
    }

    async fn status(&self) -> Value {
        status(&self.home).await
    }

    /// Streams on which it listens for requests.
    async fn streams(&self) -> usize {
        self.status().await["swarm"]["streams"].as_u64().unwrap() as usize
    }

    /// Peers that opened a connection.
    async fn incoming(&self) -> usize {
        let status = self.status().await;
        let incoming = status["swarm"]["peers"].as_array().unwrap().iter();
        let incoming = incoming.filter(|peer| peer["inbound"] == true).count();
        assert!(incoming <= MAX_INCOMING, "{incoming} connections");
        incoming
    }

    /// Signatures that it verified.
    async fn verified(&self) -> usize {
        self.status().await["gate"]["verified"].as_u64().unwrap() as usize
    }

    fn cost(&self) -> Cost {
        cost(&self.node)
    }

    /// From here on counts what an attack costs.
    async fn mark(&mut self) {
        let usual = self.honest().await;
        self.first_usual.assert_bounds("before the next attack", &usual, MAX_SLOWDOWN);
        self.usual = self.first_usual.max(&usual);
        reset_peak(&self.node);
        self.before = self.cost();
        self.banned = banned(&self.status().await);
    }

    async fn attackers(&mut self) -> Vec<Peer> {
        self.mark().await;
        let attackers: Vec<Peer> = (0..ATTACKERS).map(|_| Peer::start(&self.network)).collect();
        self.besiege(&attackers).await;
        attackers
    }

    async fn besiege(&self, attackers: &[Peer]) {
        for attacker in attackers {
            assert_eq!(attacker.connect(&self.address).await, Some(self.peer));
        }
    }

    /// Measures honest peers while an attack lasts that goes on by itself; see [`Self::judge`].
    async fn under(&mut self, attack: &str, trials: &impl Display, attackers: &[PeerId], blame: Blame) {
        let times = self.honest().await;
        self.judge(attack, trials, attackers, blame, times).await;
    }

    /// Looks whether honest peers needed too long during an attack, what it costs and what the node does to those who began it.
    async fn judge(
        &mut self,
        attack: &str,
        trials: &impl Display,
        attackers: &[PeerId],
        blame: Blame,
        times: Times,
    ) {
        let attackers: Vec<String> = attackers.iter().map(ToString::to_string).collect();
        let status = eventually(&format!("{attack}: {blame:?} for each of them"), || async {
            let status = self.status().await;
            self.is_just(&status, &attackers, blame).then_some(status)
        })
        .await;
        let stored = status["entries"].as_u64().unwrap() as usize;
        let lost = self.entries.len().saturating_sub(stored);
        let cost = self.cost();
        self.most = self.most.max(cost.memory);
        let added = cost.memory.saturating_sub(self.before.memory);
        self.report.show(
            &Row { attack, trials, blame, lost, times, added, descriptors: cost.descriptors },
            &self.usual,
        );
        assert_eq!(stored, self.entries.len(), "{attack}: every honest entry and nothing else");
        self.usual.assert_bounds(attack, &times, MAX_SLOWDOWN);
        let (memory, first) = (self.before.memory, self.first.memory);
        assert!(cost.memory < memory + MAX_MEMORY, "{attack}: {} bytes, before {memory}", cost.memory);
        assert!(cost.memory < first + MAX_MEMORY_IN_ALL, "{attack}: {} bytes, at first {first}", cost.memory);
        let descriptors = self.before.descriptors + MAX_DESCRIPTORS;
        assert!(cost.descriptors < descriptors, "{attack}: {} descriptors", cost.descriptors);
        self.report.passed();
    }

    fn is_just(&self, status: &Value, attackers: &[String], blame: Blame) -> bool {
        let peers = status["swarm"]["peers"].as_array().unwrap();
        let scores: Vec<f64> = peers
            .iter()
            .filter(|peer| attackers.iter().any(|attacker| peer["peer"] == **attacker))
            .map(|peer| peer["score"].as_f64().unwrap())
            .collect();
        let honest = self.client.swarm().local_peer().to_string();
        let is_there =
            peers.iter().any(|peer| peer["peer"] == *honest && peer["score"].as_f64() >= Some(0.0));
        assert!(is_there, "the honest client is in good standing: {peers:?}");
        let banned = banned(status) - self.banned;
        let is_all = scores.len() == attackers.len();
        match blame {
            Blame::None => {
                assert!(
                    scores.iter().all(|score| *score > ONCE_LATE) && banned == 0,
                    "{scores:?}, {banned} banned"
                );
                is_all
            }
            Blame::Score => {
                assert_eq!(banned, 0);
                is_all && scores.iter().all(|score| *score < 0.0)
            }
            // Others may have come in the place of those who are banned.
            Blame::Ban => banned >= attackers.len() as u64 && scores.is_empty(),
        }
    }
}

/// The arguments of a node that follows the besieged one, and nobody else: it cannot be connected to. All of the siege comes to it from
/// that one peer, faster than it would take it of one.
fn follower(address: &str) -> [&str; 10] {
    [
        "--set",
        "rates.announce=0",
        "--set",
        "limits.max_incoming=0",
        "--set",
        "kad_mode=client",
        "--set",
        "log=error",
        "--bootstrap",
        address,
    ]
}

async fn status(home: &Home) -> Value {
    admin::ask(&home.root().join("admin.sock"), &admin::Request::Status).await.unwrap()
}

fn banned(status: &Value) -> u64 {
    status["swarm"]["banned"].as_u64().unwrap()
}

fn ids(peers: &[Peer]) -> Vec<PeerId> {
    peers.iter().map(Peer::id).collect()
}

fn random_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    rng().fill_bytes(&mut bytes);
    bytes
}

/// The request for every entry, and the answers are a megabyte each.
fn everything() -> Vec<u8> {
    framed(&lenient::to_vec(&Filter::table(table_id(table())).to_request().unwrap()).unwrap())
}

fn put_request(entries: impl IntoIterator<Item = bytes::Bytes>) -> Vec<u8> {
    let entries = entries.into_iter().map(|entry| Blob::try_from(entry).unwrap());
    let request = PutRequest {
        entries: List::try_from(entries.collect::<Vec<_>>()).unwrap(),
        keys: List::try_from(vec![Blob::try_from(table().public_key().der().to_vec()).unwrap()]).unwrap(),
    };
    framed(&lenient::to_vec(&request).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and prints a table: tests/siege/run"]
async fn honest_puts_gets_and_syncs_go_on_under_every_attack() {
    let mut siege = Siege::begin().await;

    // First of all, since what others leave in the allocator would hide what it takes.
    rumours::of_what_nobody_has(&mut siege).await;
    rumours::control(&mut siege).await;

    slow::unfinished_puts(&mut siege).await;
    slow::unread_answers(&mut siege).await;
    slow::questions_without_end(&mut siege).await;
    slow::silent_streams(&mut siege).await;

    floods::gets(&mut siege).await;
    floods::known_entries(&mut siege).await;
    floods::announces(&mut siege).await;
    floods::provided_tables(&mut siege).await;
    floods::questions_to_the_dht(&mut siege).await;

    lies::garbage(&mut siege).await;
    lies::forged_entries(&mut siege).await;
    lies::records_of_others(&mut siege).await;

    crowds::silent_connections(&mut siege).await;
    crowds::many_ids(&mut siege).await;

    siege.end().await;
}

impl Siege {
    /// Nothing of all this is left.
    async fn end(mut self) {
        until("descriptors come back", || async {
            self.cost().descriptors <= self.first.descriptors + SPARE_DESCRIPTORS
        })
        .await;
        let times = self.honest().await;
        let descriptors = self.cost().descriptors;
        self.client.stop().await;
        assert_eq!(self.node.stop(), Some(0));
        let verified = self.home.json(&["verify"]);
        let stored = verified["entries"].as_u64().unwrap() as usize;
        let lost = self.entries.len().saturating_sub(stored);
        let (attack, trials) = ("after all of them", &"memory: of all together");
        let added = self.most.saturating_sub(self.first.memory);
        self.report.show(
            &Row { attack, trials, blame: Blame::None, lost, times, added, descriptors },
            &self.first_usual,
        );
        self.first_usual.assert_bounds(attack, &times, MAX_SLOWDOWN_AFTER);
        assert_eq!((verified["clean"].as_bool(), stored), (Some(true), self.entries.len()));
        self.report.passed();
    }
}
