//! `status`: how the node that runs on this home is.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cli::{
        Exit,
        context::Context,
        format,
        output::{Answer, note, write_fields, write_table},
    },
    node::admin,
};

/// What people are shown of a status; programs get all of it.
#[derive(Deserialize)]
struct Shown {
    peer: String,
    network: String,
    version: String,
    uptime: u64,
    healthy: bool,
    mirrors_all: bool,
    entries: u64,
    bytes: u64,
    disk_bytes: u64,
    dropped: u64,
    tables: Vec<Table>,
    routes: usize,
    swarm: Swarm,
    sync: Sync,
}

#[derive(Deserialize)]
struct Table {
    table: String,
    entries: u64,
    bytes: u64,
}

#[derive(Deserialize)]
struct Swarm {
    listening: Vec<String>,
    external: Vec<String>,
    peers: Vec<Value>,
    dht_peers: usize,
    banned: usize,
}

#[derive(Deserialize)]
struct Sync {
    sessions: u64,
    fetched: u64,
    running: u64,
}

#[derive(Serialize)]
#[serde(transparent)]
struct Status {
    all: Value,
    #[serde(skip)]
    shown: Shown,
}

impl Answer for Status {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let Shown { swarm, sync, .. } = &self.shown;
        let s = &self.shown;
        let or_none = |list: &[String]| if list.is_empty() { "none".to_owned() } else { list.join(" ") };
        let health = if s.healthy {
            "healthy: connected with the network"
        } else {
            "not healthy: no node is connected"
        };
        let sessions = format::count(sync.sessions);
        write_fields(
            to,
            &[
                ("node", health.to_owned()),
                ("peer id", s.peer.clone()),
                ("network", s.network.clone()),
                ("version", s.version.clone()),
                ("up for", format::duration(Duration::from_secs(s.uptime))),
                ("listens on", or_none(&swarm.listening)),
                ("reachable at", or_none(&swarm.external)),
                ("peers", format!("{} connected, {} banned", swarm.peers.len(), swarm.banned)),
                (
                    "knows",
                    format!("{}, {} in the DHT", format::some(s.routes, "node", "nodes"), swarm.dht_peers),
                ),
                (
                    "mirrors",
                    if s.mirrors_all { "all tables" } else { "the tables of its configuration" }.to_owned(),
                ),
                ("entries", format!("{}, {}", format::count(s.entries), format::bytes(s.bytes))),
                (
                    "on disk",
                    format!("{}, {} dropped ids", format::bytes(s.disk_bytes), format::count(s.dropped)),
                ),
                (
                    "reconciled",
                    format!(
                        "{sessions} times, {} now, {} entries fetched",
                        sync.running,
                        format::count(sync.fetched)
                    ),
                ),
            ],
        )?;
        writeln!(to)?;
        let row = |t: &Table| [t.table.clone(), format::count(t.entries), format::bytes(t.bytes)];
        let rows: Vec<_> = s.tables.iter().map(row).collect();
        write_table(to, ["TABLE", "ENTRIES", "SIZE"], &rows, "no tables yet")
    }
}

pub(in crate::cli) fn run(context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let all =
        context.block_on(async { Ok(admin::ask(&home.admin_socket(), &admin::Request::Status).await?) })?;
    let shown = Shown::deserialize(&all).context("the node that runs is of another version of p2pdb")?;
    let healthy = shown.healthy;
    context.output().print(&Status { all, shown })?;
    if healthy {
        Ok(Exit::Success)
    } else {
        note("hint: no node is connected; see `p2pdb peers add`, and `bootstrap.peers` in config.toml");
        Ok(Exit::Unhealthy)
    }
}
