//! The behaviours of a node's or client's swarm, composed.

use std::{sync::Arc, time::Duration};

use libp2p::{
    PeerId, StreamProtocol, allow_block_list, autonat, connection_limits, dcutr, gossipsub, identify,
    identity::Keypair,
    kad, memory_connection_limits, ping, relay,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};
use p2pdb_protocol::{limits, message::announce};
use rand_core::UnwrapErr;

use crate::{
    swarm::{
        Config, KadMode,
        exchange::{self, answer::Server, streams},
        filter::{Candidates, DialBacks, Filtered, Pushes},
        gossip::guard::{Gossipsub, Guard, Topics},
        ip_limits,
    },
    wire,
};

/// A peer has this long to answer a heartbeat, or until the next one.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Message ids of 20 bytes that gossip tells of in one go.
const MAX_IHAVE: usize = 512;
/// Bytes that a frame of gossip may have: the first one names every topic of the peer.
const MAX_GOSSIP_BYTES: usize = 128 << 10;
/// Messages in one frame of gossip: libp2p's implementations send one.
const MAX_MESSAGES: usize = 16;
/// Announces that wait for a peer to take them, each less than 3 KiB: of more it hears by reconciliation.
const MAX_QUEUED: usize = 128;
/// How long gossip remembers a peer of no good name that is gone.
const RETAIN_SCORE: Duration = Duration::from_secs(300);
/// Addresses are tested so often: twice before a node looks for a relay.
const PROBE_INTERVAL: Duration = Duration::from_secs(25);
/// Tables are provided anew after this time, so that those that join find them soon.
const PROVIDE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Everything that can deny a connection stands first: the others then only see connections that are there.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) blocked: allow_block_list::Behaviour<allow_block_list::BlockedPeers>,
    ip_limits: ip_limits::Behaviour,
    identify: Filtered<identify::Behaviour, Pushes>,
    ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(crate) gossip: Gossipsub,
    pub(crate) exchange: streams::Behaviour,
    relay_client: Toggle<relay::client::Behaviour>,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: Toggle<dcutr::Behaviour>,
    autonat_client: Toggle<Filtered<Reachability, Candidates>>,
    autonat_server: Toggle<Filtered<autonat::v2::server::Behaviour, DialBacks>>,
    upnp: Toggle<upnp::tokio::Behaviour>,
}

impl Behaviour {
    pub(crate) fn new(
        key: &Keypair,
        relay_client: relay::client::Behaviour,
        config: &Config,
        server: Arc<Server>,
        guard: Guard,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let local = PeerId::from(key.public());
        let limits = &config.limits;
        let connections = connection_limits::ConnectionLimits::default()
            .with_max_pending_incoming(Some(limits.pending_incoming))
            .with_max_pending_outgoing(Some(limits.pending_outgoing))
            .with_max_established_incoming(Some(limits.established_incoming))
            .with_max_established_outgoing(Some(limits.established_outgoing))
            .with_max_established(Some(limits.established));
        let identify = identify::Config::new(wire::identify_protocol_version(&config.network), key.public())
            .with_agent_version(config.agent.clone())
            // Addresses behind which nobody can reach us are nobody's business.
            .with_hide_listen_addrs(config.hide_listen_addresses);
        // A client that listens nowhere only asks.
        let listens = if config.serve { exchange::names(&config.network) } else { Vec::new() };
        let nat = &config.nat;
        Ok(Self {
            limits: connection_limits::Behaviour::new(connections),
            memory: memory_connection_limits::Behaviour::with_max_bytes(limits.memory_bytes),
            blocked: allow_block_list::Behaviour::default(),
            ip_limits: ip_limits::Behaviour::new(limits.clone()),
            identify: Filtered::new(identify::Behaviour::new(identify), Pushes::default()),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(config.heartbeat)
                    .with_timeout(config.heartbeat.min(PING_TIMEOUT)),
            ),
            kad: kademlia(local, config),
            gossip: gossip(config, guard)?,
            exchange: streams::Behaviour::new(listens, server),
            relay_client: nat.relay_client.then_some(relay_client).into(),
            relay_server: nat
                .relay_server
                .then(|| relay::Behaviour::new(local, relay::Config::default()))
                .into(),
            dcutr: (nat.dcutr && nat.relay_client).then(|| dcutr::Behaviour::new(local)).into(),
            autonat_client: nat.autonat.then(|| Filtered::new(reachability(), Candidates::default())).into(),
            autonat_server: (nat.autonat && !config.listen.is_empty())
                .then(|| Filtered::new(Default::default(), DialBacks::default()))
                .into(),
            upnp: nat.upnp.then(upnp::tokio::Behaviour::default).into(),
        })
    }
}

/// What finds out at which of its addresses this node is reached.
type Reachability = autonat::v2::client::Behaviour<UnwrapErr<getrandom::SysRng>>;

fn reachability() -> Reachability {
    // Each test of an address may cost a hundred kilobytes, and those that came to nothing are done again.
    let config = autonat::v2::client::Config::default().with_probe_interval(PROBE_INTERVAL);
    Reachability::new(UnwrapErr(getrandom::SysRng), config)
}

fn kademlia(local: PeerId, config: &Config) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStore::with_config(
        local,
        kad::store::MemoryStoreConfig {
            // Only provider records are used: nobody's values are kept.
            max_records: 0,
            // Those of others, for which room is made before it is full, and the own ones.
            max_provided_keys: super::dht::MAX_PROVIDED_KEYS + limits::MAX_TABLES + 1,
            max_providers_per_key: 20,
            ..Default::default()
        },
    );
    let name: StreamProtocol = wire::kad_protocol_name(&config.network);
    let mut kad_config = kad::Config::new(name);
    kad_config
        // Peers enter the table once identify has shown that they are of this network.
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .disjoint_query_paths(true)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_provider_publication_interval(Some(PROVIDE_INTERVAL))
        .set_query_timeout(Duration::from_secs(30));
    let mut kad = kad::Behaviour::with_config(local, store, kad_config);
    kad.set_mode(match config.kad_mode {
        KadMode::Auto => None,
        KadMode::Client => Some(kad::Mode::Client),
        KadMode::Server => Some(kad::Mode::Server),
    });
    kad
}

fn gossip(node: &Config, guard: Guard) -> Result<Gossipsub, Box<dyn std::error::Error + Send + Sync>> {
    let mut config = gossipsub::ConfigBuilder::default();
    if !node.serve {
        // Who cannot serve what it would forward stays out of the mesh: nodes tell it everything beside it (SPEC 9.4).
        config.mesh_outbound_min(0).mesh_n_low(0).mesh_n(0).mesh_n_high(0);
    }
    let config = config
        // A peer that sends a frame that is too long loses its stream.
        .max_transmit_size(MAX_GOSSIP_BYTES)
        .max_control_message_size(MAX_GOSSIP_BYTES)
        .max_control_messages_sent(MAX_IHAVE)
        .max_publish_messages(MAX_MESSAGES)
        .connection_handler_queue_len(MAX_QUEUED)
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        // An announce is passed on only after its entries were fetched and verified.
        .validate_messages()
        .message_id_fn(|message| {
            gossipsub::MessageId::new(&announce::message_id(message.topic.as_str(), &message.data))
        })
        // Sending to all known peers at once would show who an entry comes from.
        .flood_publish(false)
        .gossip_lazy(2)
        .history_gossip(1)
        // A held announce must still be in the cache when its entries have been fetched and verified.
        .history_length(45)
        .build()?;
    let mut gossip = Gossipsub::new_with_subscription_filter_and_transform(
        gossipsub::MessageAuthenticity::Anonymous,
        config,
        Topics::limited(node.network.clone()),
        guard,
    )?;
    let scores = gossipsub::PeerScoreParams {
        app_specific_weight: 1.0,
        // Many honest peers behind one address are common (one machine, one household, Tor): the connection
        // limits per address are the brake.
        ip_colocation_factor_weight: 0.0,
        // An idle or slow peer is not a bad one: what it misses, reconciliation makes up for.
        slow_peer_weight: 0.0,
        // Peer ids are free, and each that is remembered is looked at every second.
        retain_score: RETAIN_SCORE,
        ..Default::default()
    };
    let thresholds = gossipsub::PeerScoreThresholds {
        gossip_threshold: -10.0,
        publish_threshold: -20.0,
        graylist_threshold: -40.0,
        ..Default::default()
    };
    gossip.with_peer_score(scores, thresholds)?;
    Ok(gossip)
}
