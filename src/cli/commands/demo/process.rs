//! Nodes as processes of their own, in a directory that goes when the demo ends.

use std::{
    env,
    fs::{self, DirBuilder, File},
    io::{BufRead as _, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow};
use libp2p::Multiaddr;
use p2pdb_protocol::{id::TableId, network::NetworkFile};
use serde_json::Value;

use crate::{
    cli::{failure::Advise as _, node_config::make_node_key},
    config::{
        Home,
        home::{self, Overwrite},
    },
    node::admin,
};

/// Loopback only, any free port, and nobody to help through a router.
const CONFIG: &str = r#"
listen = ["/ip4/127.0.0.1/tcp/0"]
kad_mode = "server"
[nat]
autonat = false
relay_client = false
dcutr = false
upnp = false
"#;

/// A directory that is removed when it is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("p2pdb-demo-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make the directory {}", path.display()))
            .hint("set TMPDIR to a directory that you may write to")?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(directory = %self.0.display(), %error, "the demo's directory could not be removed");
        }
    }
}

/// A node that is killed when it is dropped.
pub(super) struct NodeProcess {
    child: Child,
    address: Multiaddr,
    socket: PathBuf,
}

impl NodeProcess {
    /// Makes a home and runs a node on it that mirrors the table; returns when the node can be reached.
    pub(super) fn start(root: &Path, network: &NetworkFile, table: &TableId) -> Result<Self> {
        let home = Home::create(root)?;
        let config = format!("tables = [\"{table}\"]\n{CONFIG}");
        home::write_public(&home.config(), config.as_bytes(), Overwrite::No)?;
        home::write_public(&home.network(), network.to_toml().as_bytes(), Overwrite::No)?;
        make_node_key(&home)?;
        let log = home.root().join("log");
        let program = env::current_exe().context("cannot find this program's own file")?;
        let mut command = Command::new(program);
        // What is set for the user's own node is not meant for these.
        for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("P2PDB_")) {
            command.env_remove(name);
        }
        command.arg("--home").arg(home.root()).args(["--json", "run"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().context("cannot start a node")?;
        let mut line = String::new();
        if let Some(output) = child.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        // Killed from here on, whatever happens.
        let mut node = Self { child, address: Multiaddr::empty(), socket: home.admin_socket() };
        node.address = first_address(&line).ok_or_else(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            anyhow!("the node ended before it could be reached: {}", log.trim())
        })?;
        Ok(node)
    }

    /// Where it is reached, with its peer id at the end.
    pub(super) const fn address(&self) -> &Multiaddr {
        &self.address
    }

    /// Whether it is connected with another node.
    pub(super) async fn is_healthy(&self) -> Result<bool> {
        Ok(self.status().await?.get("healthy") == Some(&Value::Bool(true)))
    }

    /// How many entries came to it by reconciliation.
    pub(super) async fn fetched(&self) -> Result<u64> {
        let status = self.status().await?;
        let fetched = status.get("sync").and_then(|sync| sync.get("fetched")?.as_u64());
        fetched.context("the node's status does not say what it reconciled")
    }

    /// How many entries it has.
    pub(super) async fn entries(&self) -> Result<u64> {
        let status = self.status().await?;
        status.get("entries").and_then(Value::as_u64).context("the node's status does not say what it stores")
    }

    async fn status(&self) -> Result<Value> {
        Ok(admin::ask(&self.socket, &admin::Request::Status).await?)
    }
}

fn first_address(line: &str) -> Option<Multiaddr> {
    let running: Value = serde_json::from_str(line).ok()?;
    running.get("addresses")?.get(0)?.as_str()?.parse().ok()
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        // Ended already, if it cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
