//! A client for the daemon's HTTP that can also say what no good client would, and daemons in homes of their own.

use std::{collections::HashMap, fs, net::SocketAddr, num::NonZeroUsize, time::Duration};

use libp2p::Multiaddr;
use p2pdb::{
    config::{
        Home,
        home::{self, Overwrite},
    },
    gateway::{Gateway, GatewayConfig, GatewayError, NamedKey},
    protocol::{
        card::TableCard,
        keys::PrivateKey,
        network::{Network, NetworkFile},
    },
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::support::{key, table};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a daemon answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The end of a problem's type.
    pub(crate) fn problem(&self) -> String {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status);
        assert!(!problem["fix"].as_str().unwrap().is_empty());
        problem["type"].as_str().unwrap().strip_prefix("urn:p2pdb:problem:").unwrap().to_owned()
    }
}

/// Whom to ask, and with which token.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    pub(crate) token: String,
}

impl Http {
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, token: token.to_owned() }
    }

    /// Sends a request as it stands.
    pub(crate) async fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // Who is refused in the middle of his request may find the connection reset: what counts is the answer.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer");
        parse(&answer)
    }

    fn head(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        let usual = [("Host", self.address.to_string()), ("Authorization", format!("Bearer {}", self.token))];
        for (name, value) in usual {
            if !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                head += &format!("{name}: {value}\r\n");
            }
        }
        // An empty value leaves the header out.
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            head += &format!("{name}: {value}\r\n");
        }
        head
    }

    /// Sends a request with these headers besides, or instead of, the usual ones.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let head = self.head(method, path, headers);
        self.raw(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await
    }

    pub(crate) async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.send(method, path, &[("Content-Type", "application/json")], &body.to_string()).await
    }

    /// What a GET that must succeed answers.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.send("GET", path, &[], "").await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Puts an entry, which must be accepted.
    pub(crate) async fn put(&self, query: &str, body: &Value) -> Value {
        let answer = self.json("POST", &format!("/v1/put{query}"), body).await;
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        answer.json()
    }

    /// A stream of events.
    pub(crate) async fn events(&self, path: &str, headers: &[(&str, &str)]) -> Events {
        let head = self.head("GET", path, &[headers, &[("Accept", "text/event-stream")]].concat());
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut events = Events(BufReader::new(stream));
        assert!(events.line().await.unwrap().contains(" 200 "), "{path}");
        while !events.line().await.unwrap().is_empty() {}
        events
    }
}

fn parse(answer: &[u8]) -> Answer {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8(answer[..at].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    };
    let headers = lines.map(header).collect();
    Answer { status, headers, body: String::from_utf8(answer[at + 4..].to_vec()).unwrap() }
}

/// Server-sent events.
pub(crate) struct Events(BufReader<TcpStream>);

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Events {
    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_line(&mut line)).await.expect("an event");
        (read.unwrap_or(0) > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event that is no mere place; none when the stream has ended.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            match self.any().await {
                Some(event) if event.name == "cursor" => {}
                other => return other,
            }
        }
    }

    /// The next event; none when the stream has ended. The lengths of chunks stand between, on lines of their own.
    pub(crate) async fn any(&mut self) -> Option<Event> {
        let mut event = Event::default();
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", name)) => event.name = name.to_owned(),
                Some(("id", id)) => event.id = id.to_owned(),
                Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
                _ if line.is_empty() && !event.name.is_empty() => return Some(event),
                _ => {}
            }
        }
    }
}

/// A daemon in a home of its own.
pub(crate) struct Daemon {
    pub(crate) gateway: Gateway,
    pub(crate) http: Http,
    pub(crate) config: GatewayConfig,
    home: TempDir,
}

/// A card of the table with this key.
pub(crate) fn card(network: &Network, table: &PrivateKey) -> TableCard {
    TableCard {
        name: "notes".to_owned(),
        network: NetworkFile { network: network.clone(), bootstrap: Vec::new() },
        table_public: table.public_key().clone(),
        table_private: Some(table.clone()),
        recipient_public: None,
        recipient_private: None,
    }
}

/// Keys 1 to 3 as alice, bob and carol, of which `own` has the private halves.
pub(crate) fn people(own: &[&str]) -> Vec<NamedKey> {
    let named = |(index, name): (usize, &str)| NamedKey {
        name: name.parse().unwrap(),
        public: key(index + 1).public_key().clone(),
        private: own.contains(&name).then(|| key(index + 1).clone()),
    };
    ["alice", "bob", "carol"].into_iter().enumerate().map(named).collect()
}

impl Daemon {
    /// A daemon with the space `notes` that knows these nodes.
    pub(crate) async fn start(network: &Network, nodes: &[&Multiaddr], own: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let home = Home::create(&directory.path().join("home")).unwrap();
        let text = card(network, table()).to_toml().unwrap();
        home::write_secret(&home.table(&"notes".parse().unwrap()), text.as_bytes(), Overwrite::No).unwrap();
        let mut config = GatewayConfig::new(home, network.clone());
        config.bootstrap = nodes.iter().map(|node| (*node).clone()).collect();
        config.keys = people(own);
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.threads = NonZeroUsize::MIN;
        Self::run(config, directory).await
    }

    async fn run(config: GatewayConfig, home: TempDir) -> Self {
        // A client that is dropped lets go of the files a moment later.
        let gateway = loop {
            match Gateway::start(config.clone()).await {
                Ok(gateway) => break gateway,
                Err(GatewayError::Outbox(p2pdb::gateway::OutboxError::InUse)) => {
                    tokio::task::yield_now().await
                }
                Err(error) => panic!("{error}"),
            }
        };
        let http = Http { address: gateway.address(), token: gateway.token().to_owned() };
        Self { gateway, http, config, home }
    }

    pub(crate) async fn restart(self) -> Self {
        let Self { gateway, config, home, .. } = self;
        gateway.stop().await;
        Self::run(config, home).await
    }

    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.config.home.root().join("gateway").join(name)).unwrap()
    }
}
