//! The defaults of each profile.

use std::net::{Ipv4Addr, Ipv6Addr};

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    settings::{Bootstrap, Config, KadMode, Limits, Nat, Profile, Rates, Tables},
    units::{Period, Size},
};

/// The port that nodes listen on unless told otherwise, TCP and UDP.
const PORT: u16 = 4711;

impl Default for Config {
    /// The defaults of [`Profile::Server`].
    fn default() -> Self {
        Self::of(Profile::Server)
    }
}

impl Config {
    /// The defaults of a profile.
    #[must_use]
    pub fn of(profile: Profile) -> Self {
        Self {
            profile,
            log: "info".to_owned(),
            listen: listen(),
            external_addresses: Vec::new(),
            tables: Tables::All,
            kad_mode: KadMode::Auto,
            sync_interval: Period(30),
            bootstrap: Bootstrap { peers: Vec::new(), files: Vec::new() },
            limits: limits(profile),
            rates: Rates {
                hello: 12,
                index: 600,
                index_pages: 12_000,
                get: 120,
                get_bytes: Size(32 << 20),
                put: 30,
                sync: 120,
                sync_bytes: Size(8 << 20),
                sync_work: 32 << 20,
                announce: 600,
                address_factor: 4,
            },
            // A search for routers is a multicast into the local network: the operator's to switch on.
            nat: Nat { autonat: true, relay_client: true, dcutr: true, upnp: false, relay_server: false },
        }
    }
}

/// Every address of the machine, over TCP and over QUIC. One without IPv6 listens on the others.
fn listen() -> Vec<Multiaddr> {
    let all = [Multiaddr::from(Ipv4Addr::UNSPECIFIED), Multiaddr::from(Ipv6Addr::UNSPECIFIED)];
    let both = |any: Multiaddr| {
        [any.clone().with(Protocol::Tcp(PORT)), any.with(Protocol::Udp(PORT)).with(Protocol::QuicV1)]
    };
    all.into_iter().flat_map(both).collect()
}

fn limits(profile: Profile) -> Limits {
    let server = Limits {
        max_connections: 192,
        max_incoming: 128,
        max_outgoing: 64,
        max_pending_incoming: 128,
        max_pending_outgoing: 32,
        max_per_peer: 3,
        max_per_ipv4: 8,
        max_per_ipv6_net: 16,
        max_memory: Size(2 << 30),
        max_request_memory: Size(64 << 20),
        max_disk: Size(20 << 30),
        max_disk_per_table: None,
        max_tables: 256,
        horizon: None,
    };
    match profile {
        Profile::Server => server,
        Profile::Home => Limits {
            max_connections: 64,
            max_incoming: 32,
            max_outgoing: 32,
            max_pending_incoming: 32,
            max_pending_outgoing: 8,
            max_memory: Size(512 << 20),
            max_request_memory: Size(16 << 20),
            max_disk: Size(5 << 30),
            ..server
        },
    }
}
