//! `config check`: whether a node would start with what the home says.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use libp2p::Multiaddr;
use p2pdb_protocol::{id::NetworkId, network::NetworkFile};
use serde::Serialize;

use crate::{
    cli::{
        Exit,
        context::Context,
        failure::Advise as _,
        output::{Answer, write_fields},
    },
    config::{Config, Home, bootstrap},
};

#[derive(Serialize)]
struct Checked {
    config: PathBuf,
    network: String,
    network_id: NetworkId,
    listen: Vec<Multiaddr>,
    tables: crate::config::Tables,
    bootstrap_addresses: usize,
}

impl Answer for Checked {
    fn write_text(&self, to: &mut dyn Write) -> io::Result<()> {
        let listen: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        let tables = match &self.tables {
            crate::config::Tables::All => "all".to_owned(),
            crate::config::Tables::Only(tables) => format!("{}, by id", tables.len()),
        };
        write_fields(
            to,
            &[
                ("configuration", self.config.display().to_string()),
                ("network", format!("{} ({})", self.network, self.network_id)),
                ("listens on", if listen.is_empty() { "nothing".to_owned() } else { listen.join(", ") }),
                ("mirrors", tables),
                ("first contacts", self.bootstrap_addresses.to_string()),
            ],
        )
    }
}

pub(super) fn run(context: &Context) -> Result<Exit> {
    let home = context.home()?;
    let config = context.config()?;
    let network = context.network()?;
    let bootstrap = bootstrap_addresses(&home, &config, &network)?;
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

/// The first contacts of a home: those of the network file, of the configuration, and of the lists it names.
pub(in crate::cli) fn bootstrap_addresses(
    home: &Home,
    config: &Config,
    network: &NetworkFile,
) -> Result<Vec<Multiaddr>> {
    let mut addresses = Vec::new();
    for text in &network.bootstrap {
        let address = bootstrap::parse_address(text)
            .with_context(|| format!("cannot use `bootstrap` of {}", home.network().display()))
            .hint("correct the address, or remove it")?;
        addresses.push(address);
    }
    addresses.extend(config.bootstrap.peers.iter().cloned());
    for file in &config.bootstrap.files {
        let path = home.root().join(file);
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the bootstrap list {}", path.display()))
            .hint("correct `bootstrap.files` in the configuration")?;
        let list = bootstrap::parse_list(&text)
            .with_context(|| format!("cannot use the bootstrap list {}", path.display()))
            .hint("correct the line, or put a # before it")?;
        addresses.extend(list);
    }
    let mut known = std::collections::HashSet::new();
    addresses.retain(|address| known.insert(address.clone()));
    Ok(addresses)
}
