//! From what an operator decides to what a node is made of.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result};
use libp2p::{Multiaddr, identity::Keypair};
use p2pdb_protocol::network::NetworkFile;

use crate::{
    cli::failure::Advise as _,
    config::{
        Config, Home, KadMode, Size, Tables, bootstrap,
        home::{self, Overwrite},
    },
    ingest::Mirror,
    node::{NodeConfig, store_file},
    serve::Rates,
    store::StoreOptions,
    swarm::{self, ip_limits::IpLimits},
};

/// The node that a home describes.
pub(super) fn node_config(home: &Home, config: &Config, network: &NetworkFile) -> Result<NodeConfig> {
    Ok(NodeConfig {
        store_options: store_options(config),
        mirror: mirror(config),
        max_tables: max_tables(config),
        swarm: swarm_config(config, network),
        bootstrap: bootstrap_addresses(home, config, network)?,
        rates: rates(config),
        sync_interval: config.sync_interval.into(),
        routes: Some(home.routes()),
        ..NodeConfig::new(network.network.clone(), store_file(&home.store()), Vec::new())
    })
}

/// The bounds of the store.
pub(super) fn store_options(config: &Config) -> StoreOptions {
    StoreOptions {
        max_disk: Some(config.limits.max_disk.0),
        table_max_disk: config.limits.max_disk_per_table.map(|size| size.0),
        horizon: config.limits.horizon.map(|period| period.0),
        ..StoreOptions::default()
    }
}

/// The tables to keep.
pub(super) fn mirror(config: &Config) -> Mirror {
    match &config.tables {
        Tables::All => Mirror::All,
        Tables::Only(tables) => Mirror::Only(Arc::new(tables.iter().copied().collect())),
    }
}

/// Most tables to keep.
pub(super) fn max_tables(config: &Config) -> usize {
    usize::try_from(config.limits.max_tables).unwrap_or(usize::MAX)
}

fn swarm_config(config: &Config, network: &NetworkFile) -> swarm::Config {
    let (limits, nat) = (&config.limits, &config.nat);
    let bytes = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    swarm::Config {
        external: config.external_addresses.clone(),
        kad_mode: match config.kad_mode {
            KadMode::Auto => swarm::KadMode::Auto,
            KadMode::Server => swarm::KadMode::Server,
            KadMode::Client => swarm::KadMode::Client,
        },
        nat: swarm::Nat {
            autonat: nat.autonat,
            relay_client: nat.relay_client,
            dcutr: nat.dcutr,
            upnp: nat.upnp,
            relay_server: nat.relay_server,
        },
        limits: swarm::Limits {
            pending_incoming: limits.max_pending_incoming,
            pending_outgoing: limits.max_pending_outgoing,
            established_incoming: limits.max_incoming,
            established_outgoing: limits.max_outgoing,
            established: limits.max_connections,
            established_per_peer: limits.max_per_peer,
            per_ip: IpLimits { per_ipv4: limits.max_per_ipv4, per_ipv6_48: limits.max_per_ipv6_net },
            memory_bytes: bytes(limits.max_memory.0),
            request_bytes: bytes(limits.max_request_memory.0),
        },
        ..swarm::Config::node(network.network.clone(), config.listen.clone())
    }
}

fn rates(config: &Config) -> Rates {
    let rates = &config.rates;
    let bytes = |size: Size| u32::try_from(size.0).unwrap_or(u32::MAX);
    Rates {
        hellos: rates.hello,
        indexes: rates.index,
        index_pages: rates.index_pages,
        gets: rates.get,
        get_bytes: bytes(rates.get_bytes),
        puts: rates.put,
        syncs: rates.sync,
        sync_bytes: bytes(rates.sync_bytes),
        sync_work: rates.sync_work,
        announced: rates.announce,
        per_address: rates.address_factor,
    }
}

/// The bootstrap addresses of a home: those of the network file, of the configuration, and of the lists it names.
pub(super) fn bootstrap_addresses(
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

/// The node's Ed25519 key, in the protobuf form of libp2p.
pub(super) fn read_node_key(home: &Home) -> Result<Keypair> {
    let path = home.node_key();
    Keypair::from_protobuf_encoding(&home::read_secret(&path)?)
        .with_context(|| format!("{} is not a node key", path.display()))
        .hint("take it from a backup; without one move the file away and run `p2pdb init` in a new home")
}

/// Makes and keeps a new key.
pub(super) fn make_node_key(home: &Home) -> Result<Keypair> {
    let key = Keypair::generate_ed25519();
    let encoded =
        zeroize::Zeroizing::new(key.to_protobuf_encoding().context("cannot encode the node's key")?);
    home::write_secret(&home.node_key(), &encoded, Overwrite::No)?;
    Ok(key)
}
