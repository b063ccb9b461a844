//! Nodes as processes of their own, and clients to them.

use std::{
    env,
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use libp2p::{Multiaddr, PeerId};
use p2pdb::{
    client::{Client, ClientConfig},
    clock::monotonic,
    node::admin,
    protocol::{bucket::BucketSummary, id::TableId, message::index::IndexRequest, network::NetworkFile},
};
use serde::Deserialize;
use serde_json::Value;

use super::machine;

const PROGRAM: &str = env!("CARGO_BIN_EXE_p2pdb");

/// All clients have one address, and what is measured is not how slowly a node may be asked to work. Without the DHT a
/// client stays with the node that it was told of.
const SETTINGS: &str = r#"
kad_mode = "client"
log = "warn"
[rates]
hello = 0
index = 0
index_pages = 0
get = 0
get_bytes = 0
put = 0
announce = 0
[limits]
max_per_ipv4 = 64
[nat]
autonat = false
relay_client = false
dcutr = false
upnp = false
"#;

/// How often a condition is looked at that nothing tells of.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A node's home, and the process that runs on it at times. Dropped, the process is killed.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) home: PathBuf,
    process: Option<Child>,
    address: Option<Multiaddr>,
}

/// What `p2pdb run --json` prints once the node can be reached.
#[derive(Deserialize)]
struct Running {
    addresses: Vec<Multiaddr>,
}

impl Node {
    /// Makes a home.
    pub(crate) fn new(directory: &Path, name: &str, network: &NetworkFile) -> Result<Self> {
        let home = directory.join(name);
        let file = directory.join(format!("{name}.network"));
        fs::write(&file, network.to_toml())?;
        let arguments = ["init", "--listen", "/ip4/127.0.0.1/tcp/0", "--network"];
        let made = command(&home).args(arguments).arg(&file).output()?;
        ensure!(made.status.success(), "p2pdb init: {}", String::from_utf8_lossy(&made.stderr));
        OpenOptions::new().append(true).open(home.join("config.toml"))?.write_all(SETTINGS.as_bytes())?;
        Ok(Self { home, process: None, address: None })
    }

    /// Imports a file, which no running node can; the processor time that it took.
    pub(crate) fn import(&self, file: &Path, expected: usize) -> Result<Duration> {
        let before = machine::children_cpu()?;
        let done = command(&self.home).arg("import").arg(file).stderr(Stdio::inherit()).output()?;
        let cpu = machine::children_cpu()? - before;
        let answer: Value = serde_json::from_slice(&done.stdout).context("p2pdb import")?;
        let stored = answer.get("stored").and_then(Value::as_u64);
        ensure!(stored == Some(expected as u64), "expected {expected} entries to be stored, got {answer}");
        Ok(cpu)
    }

    /// What a command on this home answers, which no running node has open; it has to succeed.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<Value> {
        let done = command(&self.home).args(arguments).stderr(Stdio::inherit()).output()?;
        ensure!(
            done.status.success(),
            "p2pdb {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&done.stdout)
        );
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// Runs it until it says that it can be reached, to begin with these nodes.
    pub(crate) async fn start(&mut self, bootstrap: &[Multiaddr]) -> Result<()> {
        let bootstrap = bootstrap.iter().flat_map(|address| ["--bootstrap".to_owned(), address.to_string()]);
        self.start_with(&bootstrap.collect::<Vec<_>>()).await
    }

    /// Runs it with these arguments.
    pub(crate) async fn start_with(&mut self, arguments: &[String]) -> Result<()> {
        let mut run = command(&self.home);
        run.arg("run").args(arguments);
        run.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(self.home.join("log"))?);
        let process = self.process.insert(run.spawn()?);
        let output = process.stdout.take().context("a node without stdout")?;
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(output).read_line(&mut line).map(|_| line)
        });
        let line = tokio::time::timeout(Duration::from_secs(60), line)
            .await
            .context("the node does not start")???;
        let running: Running =
            serde_json::from_str(&line).with_context(|| format!("a node: {}", self.log()))?;
        self.address = running.addresses.into_iter().next();
        Ok(())
    }

    /// Where it is reached.
    pub(crate) fn address(&self) -> Result<&Multiaddr> {
        self.address.as_ref().context("the node does not run")
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the node does not run")?.id())
    }

    /// The processor time that it has taken.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        Ok(machine::cpu_of(self.pid()?)?)
    }

    pub(crate) async fn status(&mut self) -> Result<Value> {
        if let Some(status) = self.process.as_mut().context("the node does not run")?.try_wait()? {
            bail!("a node ended by itself ({status}): {}", self.log());
        }
        Ok(admin::ask(&self.home.join("admin.sock"), &admin::Request::Status).await?)
    }

    /// Entries that it says it holds.
    pub(crate) async fn entries(&mut self) -> Result<u64> {
        number(&self.status().await?, "/entries").context("a status without `entries`")
    }

    /// Waits until its status is as it should be.
    async fn wait_for(
        &mut self,
        what: &str,
        patience: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<()> {
        let began = monotonic();
        loop {
            let status = self.status().await?;
            if holds(&status) {
                return Ok(());
            }
            ensure!(began.elapsed() < patience, "{what}: not after {patience:?}: {status}, {}", self.log());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until it holds so many entries.
    pub(crate) async fn wait_for_entries(&mut self, expected: usize, patience: Duration) -> Result<()> {
        let holds = |status: &Value| number(status, "/entries") >= Some(expected as u64);
        self.wait_for(&format!("{expected} entries"), patience, holds).await
    }

    /// Waits until it holds no more entries than so many.
    pub(crate) async fn wait_for_entries_at_most(
        &mut self,
        expected: usize,
        patience: Duration,
    ) -> Result<()> {
        let holds =
            |status: &Value| number(status, "/entries").is_some_and(|entries| entries <= expected as u64);
        self.wait_for(&format!("at most {expected} entries"), patience, holds).await
    }

    /// Waits until it is connected with another node.
    pub(crate) async fn wait_for_peer(&mut self) -> Result<()> {
        let holds = |status: &Value| status.get("healthy") == Some(&Value::Bool(true));
        self.wait_for("connected with another node", Duration::from_secs(30), holds).await
    }

    /// Waits until a reconciliation of its own has ended, and none is under way.
    pub(crate) async fn wait_for_sync(&mut self) -> Result<()> {
        let holds = |status: &Value| {
            number(status, "/sync/requests") > Some(0) && number(status, "/sync/running") == Some(0)
        };
        self.wait_for("reconciled", Duration::from_secs(60), holds).await
    }

    /// Kills it, so that nothing is flushed or closed.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("the node does not run")?;
        process.kill()?;
        process.wait()?;
        Ok(())
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        ensure!(
            Command::new("kill").arg(process.id().to_string()).status()?.success(),
            "cannot signal a node"
        );
        let status = process.wait()?;
        ensure!(status.success(), "a node ended with {status}: {}", self.log());
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A number of a status, by its JSON pointer.
fn number(status: &Value, pointer: &str) -> Option<u64> {
    status.pointer(pointer).and_then(Value::as_u64)
}

fn command(home: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    // What is set for the user's own node is not meant for these.
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("P2PDB_")) {
        command.env_remove(name);
    }
    command.arg("--home").arg(home).arg("--json");
    command
}

/// A client that is connected with one node and knows no other.
pub(crate) async fn connect(network: &NetworkFile, address: &Multiaddr) -> Result<(Client, PeerId)> {
    // Without bootstrap: the client would dial it a second time.
    let config = ClientConfig { bootstrap: Vec::new(), nodes: 1, ..ClientConfig::new(network)? };
    let client = Client::start(config).await?;
    let peer = client.connect(address.clone()).await?;
    // Introduced, it is the one that everything goes through.
    client.hello(peer, None).await?;
    Ok((client, peer))
}

/// Shows that a client is connected with this node alone.
pub(crate) async fn check_alone(client: &Client, node: PeerId) -> Result<()> {
    let nodes = client.swarm().serving_peers().await?;
    ensure!(nodes == [node], "a client of {node} is connected with {nodes:?}");
    Ok(())
}

/// Proves by the index (SPEC 8.6) that a node holds what it should and nothing else.
pub(crate) async fn check_index(
    network: &NetworkFile,
    node: &Node,
    table: TableId,
    expected: &[BucketSummary],
) -> Result<()> {
    let (client, peer) = connect(network, node.address()?).await?;
    let index = client.index(peer, IndexRequest { table: Some(table), ..Default::default() }).await?;
    client.stop().await;
    let count = |buckets: &[BucketSummary]| buckets.iter().map(|bucket| bucket.count).sum::<u64>();
    let found = index.buckets.into_inner();
    ensure!(
        found == expected,
        "the index has {} entries and is not that of the {} expected ones",
        count(&found),
        count(expected)
    );
    Ok(())
}
