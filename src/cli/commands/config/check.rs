//! `config check`: whether a node would start with what the home says.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use libp2p::Multiaddr;
use p2pdb_protocol::id::NetworkId;
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        node_config,
        output::{Answer, write_fields},
    },
    config::Tables,
};

#[derive(Serialize)]
struct Checked {
    config: PathBuf,
    network: String,
    network_id: NetworkId,
    listen: Vec<Multiaddr>,
    tables: Tables,
    bootstrap_addresses: usize,
}

impl Answer for Checked {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let listen: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        let tables = match &self.tables {
            Tables::All => "all".to_owned(),
            Tables::Only(tables) => format!("{}, by id", tables.len()),
        };
        write_fields(
            to,
            &[
                ("configuration", self.config.display().to_string()),
                ("network", format!("{} ({})", self.network, self.network_id)),
                ("listens on", if listen.is_empty() { "nothing".to_owned() } else { listen.join(", ") }),
                ("mirrors", tables),
                ("bootstrap addresses", self.bootstrap_addresses.to_string()),
            ],
        )
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let config = context.config()?;
    let network = context.network()?;
    node_config::store_options(&config).check(&network.network)?;
    node_config::read_node_key(&home)?;
    let bootstrap = node_config::bootstrap_addresses(&home, &config, &network)?;
    context.output().print(&Checked {
        config: context.config_path()?,
        network: network.network.name.clone(),
        network_id: network.network.id(),
        listen: config.listen,
        tables: config.tables,
        bootstrap_addresses: bootstrap.len(),
    })?;
    Ok(Exit::Success)
}
