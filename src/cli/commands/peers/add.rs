//! `peers add`: connects the running node to another.

use std::io::{self, Write};

use anyhow::{Context as _, Result};
use libp2p::Multiaddr;
use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        output::{Answer, write_fields},
    },
    config::bootstrap::parse_address,
    node::admin,
};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Address of the node, with its peer id at the end
    #[arg(value_name = "MULTIADDR", value_parser = parse_address)]
    address: Multiaddr,
}

#[derive(Serialize, Deserialize)]
struct Added {
    peer: String,
}

impl Answer for Added {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        write_fields(to, &[("connected with", self.peer.clone())])
    }
}

pub(super) fn run(args: &Args, context: &Context) -> Result<Exit> {
    let socket = context.home()?.admin_socket();
    let request = admin::Request::AddPeer { address: args.address.clone() };
    let answer = context.block_on(async {
        match admin::ask(&socket, &request).await {
            Err(error @ admin::AdminError::Refused(_)) => {
                Err(error).exit(Exit::Unreachable, "check that the node runs and that the address is right")
            }
            answer => Ok(answer?),
        }
    })?;
    let added = Added::deserialize(answer).context("the node that runs is of another version of p2pdb")?;
    context.output().print(&added)?;
    Ok(Exit::Success)
}
