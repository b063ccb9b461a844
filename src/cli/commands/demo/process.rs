//! Nodes as processes of their own, in a directory that goes when the demo ends.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use libp2p::{Multiaddr, PeerId};
use p2pdb_protocol::{id::TableId, network::NetworkFile};
use serde::Deserialize;

use crate::{
    cli::{failure::Advise as _, node_config::make_node_key},
    config::{
        Home,
        home::{self, Overwrite},
    },
    node::admin,
};

/// A node is to be reached after this time.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// Lines of a node's log that are shown if it fails.
const LOG_LINES: usize = 5;

/// Loopback only, any free port. All clients and nodes of the demo have one address, which would be too many for the usual
/// rates.
const CONFIG: &str = r#"
listen = ["/ip4/127.0.0.1/tcp/0"]
kad_mode = "server"
sync_interval = "5 seconds"
[rates]
hello = 0
index = 0
[nat]
autonat = false
relay_client = false
dcutr = false
upnp = false
"#;

/// A node that runs as a process; it is killed when it is dropped.
#[derive(Debug)]
pub(super) struct NodeProcess {
    pub(super) name: char,
    home: Home,
    child: Child,
    /// Held open, so that what the node prints never fails.
    _output: Option<ChildStdout>,
    address: Multiaddr,
    peer: PeerId,
}

/// What the demo wants to know of a running node.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) entries: u64,
    pub(super) sync: Sync,
    swarm: Swarm,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sync {
    /// Entries that came by reconciliation.
    pub(super) fetched: u64,
}

#[derive(Debug, Deserialize)]
struct Swarm {
    peers: Vec<Peer>,
}

#[derive(Debug, Deserialize)]
struct Peer {
    peer: String,
    serves: bool,
}

impl Status {
    /// Whether the node is connected with this one, as a node.
    pub(super) fn knows(&self, node: &NodeProcess) -> bool {
        let id = node.peer.to_string();
        self.swarm.peers.iter().any(|peer| peer.serves && peer.peer == id)
    }
}

/// The line that `p2pdb run --json` prints once the node can be reached.
#[derive(Deserialize)]
struct Running {
    peer: String,
    addresses: Vec<Multiaddr>,
}

impl NodeProcess {
    /// Makes the home `directory/name` and runs a node on it that mirrors `table`; returns when it can be reached.
    pub(super) async fn start(
        directory: &Path,
        name: char,
        network: &NetworkFile,
        table: TableId,
    ) -> Result<Self> {
        let home = Home::create(&directory.join(name.to_string()))?;
        let config = format!("tables = [\"{table}\"]\n{CONFIG}");
        home::write_public(&home.config(), config.as_bytes(), Overwrite::No)?;
        home::write_public(&home.network(), network.to_toml().as_bytes(), Overwrite::No)?;
        make_node_key(&home)?;
        Self::run(name, home, &[]).await
    }

    async fn run(name: char, home: Home, args: &[String]) -> Result<Self> {
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        // What is set for the user's own node is not meant for these.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("P2PDB_")) {
            command.env_remove(name);
        }
        command.arg("--home").arg(home.root()).args(["--json", "run"]).args(args);
        let log = File::create(home.root().join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().context("cannot start a process")?;
        let output = child.stdout.take();
        // Killed from here on, whatever happens.
        let mut node =
            Self { name, home, child, _output: None, address: Multiaddr::empty(), peer: PeerId::random() };
        let read = tokio::task::spawn_blocking(move || {
            let mut output = BufReader::new(output.context("the node has no standard output")?);
            let mut line = String::new();
            output.read_line(&mut line)?;
            anyhow::Ok((line, output.into_inner()))
        });
        let read = tokio::time::timeout(START_DEADLINE, read).await;
        let (line, output) = read.with_context(|| node.complaint("cannot be reached in time"))???;
        let running: Running =
            serde_json::from_str(&line).with_context(|| node.complaint("ended before it could be reached"))?;
        node.address = running.addresses.into_iter().next().context("a node listens nowhere")?;
        node.peer = running.peer.parse().context("a node has a strange peer id")?;
        node._output = Some(output);
        Ok(node)
    }

    /// Where it is reached, with its peer id at the end.
    pub(super) const fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Its peer id.
    pub(super) const fn peer(&self) -> PeerId {
        self.peer
    }

    /// The id of its process.
    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Asks it through its admin socket.
    ///
    /// # Errors
    /// If it ended, with what it logged last.
    pub(super) async fn status(&mut self) -> Result<Status> {
        if let Some(status) = self.child.try_wait()? {
            bail!(self.complaint(&format!("ended by itself ({status})")));
        }
        let answer = admin::ask(&self.home.admin_socket(), &admin::Request::Status).await;
        let answer = answer.with_context(|| self.complaint("does not answer"))?;
        Ok(Status::deserialize(&answer)?)
    }

    /// Kills it: it has no chance to save anything.
    pub(super) fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// Runs it again after it was killed, with nothing of what it had stored, to begin with another node.
    pub(super) async fn start_empty(mut self, first_contact: &Multiaddr) -> Result<Self> {
        ensure!(self.child.try_wait()?.is_some(), "node {} still runs", self.name);
        fs::remove_dir_all(self.home.store())?;
        let home = Home::create(self.home.root())?;
        Self::run(self.name, home, &["--bootstrap".to_owned(), first_contact.to_string()]).await
    }

    /// What is wrong with it, and what it said last.
    fn complaint(&self, what: &str) -> String {
        let log = fs::read_to_string(self.home.root().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n    ");
        let said = if last.is_empty() { "it logged nothing".to_owned() } else { format!("its log:\n    {last}") };
        format!("node {} (process {}) {what}; {said}", self.name, self.child.id())
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Ended already, if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory for the homes of the nodes.
///
/// # Errors
/// If there is no place for one.
pub(super) fn scratch() -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix("p2pdb-demo-")
        .tempdir()
        .map_err(|error| anyhow!("cannot make a directory in {}: {error}", env::temp_dir().display()))
        .hint("set TMPDIR to a directory that you may write to")
}
