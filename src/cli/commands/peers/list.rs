//! `peers list`: the connected peers.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cli::{
        Exit,
        context::Context,
        format,
        output::{Answer, write_table},
    },
    node::admin,
};

#[derive(Serialize, Deserialize)]
struct Peer {
    peer: String,
    address: String,
    inbound: bool,
    agent: String,
    serves: bool,
    score: f64,
}

#[derive(Serialize)]
struct List {
    peers: Vec<Peer>,
}

impl Answer for List {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let row = |peer: &Peer| {
            [
                peer.peer.clone(),
                if peer.inbound { "in" } else { "out" }.to_owned(),
                if peer.serves { "node" } else { "client" }.to_owned(),
                format!("{:.0}", peer.score),
                // The peer itself says what it is.
                format::harmless(&peer.agent).replace('\n', " "),
                peer.address.clone(),
            ]
        };
        let rows: Vec<_> = self.peers.iter().map(row).collect();
        write_table(
            to,
            ["PEER", "WAY", "KIND", "SCORE", "SOFTWARE", "ADDRESS"],
            &rows,
            "no peers are connected",
        )
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let status =
        context.block_on(async { Ok(admin::ask(&home.admin_socket(), &admin::Request::Status).await?) })?;
    let peers = status.get("swarm").and_then(|swarm| swarm.get("peers")).unwrap_or(&Value::Null);
    let peers = Vec::deserialize(peers).context("the node that runs is of another version of p2pdb")?;
    context.output().print(&List { peers })?;
    Ok(Exit::Success)
}
