//! `peers ban`: keeps a peer away from the running node.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use libp2p::PeerId;
use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        Exit,
        context::Context,
        output::{Answer, write_fields},
    },
    config::Period,
    node::admin,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Peer id
    peer: PeerId,
    /// For how long, at most until the node is restarted
    #[arg(long = "for", value_name = "PERIOD", default_value = "1 hour")]
    length: Period,
}

#[derive(Serialize, Deserialize)]
struct Banned {
    peer: String,
    seconds: u64,
}

impl Answer for Banned {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(to, &[("peer", self.peer.clone()), ("banned for", Period(self.seconds).to_string())])
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let socket = context.home()?.admin_socket();
    let request = admin::Request::BanPeer { peer: args.peer.to_string(), seconds: args.length.0 };
    let answer = context.block_on(async { Ok(admin::ask(&socket, &request).await?) })?;
    let banned = Banned::deserialize(answer).context("the node that runs is of another version of p2pdb")?;
    context.output().print(&banned)?;
    Ok(Exit::Success)
}
