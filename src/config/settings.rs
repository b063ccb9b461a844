//! Every key of the configuration.

use std::{fmt, path::PathBuf, str::FromStr};

use libp2p::Multiaddr;
use p2pdb_protocol::{id::TableId, limits::MAX_TABLES};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{
    LEAST_MAX_DISK, LEAST_MAX_DISK_PER_TABLE, bootstrap,
    units::{Period, Size, or_none},
};

/// What an operator decides about a node.
///
/// The defaults are those of the [`Profile`]; [`Loader`](super::Loader) lays the other sources over them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Config {
    /// Which set of defaults the other keys start from.
    pub profile: Profile,
    /// What is logged to stderr: a `tracing` filter such as `info` or `info,p2pdb::sync=debug`.
    pub log: String,
    /// Addresses to listen on: TCP, QUIC (`/udp/PORT/quic-v1`) and WebSocket (`/tcp/PORT/ws`). None: a node that
    /// only dials out.
    pub listen: Vec<Multiaddr>,
    /// Addresses that others reach this node at, where it cannot find out by itself (a forwarded port, a proxy).
    pub external_addresses: Vec<Multiaddr>,
    /// The tables to mirror.
    pub tables: Tables,
    /// The part this node plays in the DHT.
    pub kad_mode: KadMode,
    /// How long it takes from one reconciliation with a random peer to the next. At least a second.
    pub sync_interval: Period,
    /// Bootstrap addresses.
    pub bootstrap: Bootstrap,
    /// Bounds on connections, memory and disk.
    pub limits: Limits,
    /// What one peer may ask for in a minute.
    pub rates: Rates,
    /// Means of being reached behind a router.
    pub nat: Nat,
}

/// A set of defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// A machine with a public address that is always on.
    Server,
    /// A machine at home: fewer connections, less memory and less disk, so that router and owner do not notice.
    Home,
}

/// The tables that a node mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tables {
    /// Every table it meets, up to [`Limits::max_tables`].
    All,
    /// These and no others: at most [`MAX_TABLES`], ascending. None: a node that only keeps routes.
    Only(Vec<TableId>),
}

impl Tables {
    /// Whether entries of the table are taken.
    #[must_use]
    pub fn contains(&self, table: &TableId) -> bool {
        match self {
            Self::All => true,
            Self::Only(tables) => tables.binary_search(table).is_ok(),
        }
    }
}

/// The part that a node plays in the DHT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KadMode {
    /// Server as soon as an address of the node is known to be reachable, client until then.
    Auto,
    /// Answers the queries of others. For nodes that others bootstrap from.
    Server,
    /// Only asks.
    Client,
}

/// Where a node finds its first peers, besides the bootstrap addresses of the network file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Bootstrap {
    /// Addresses that end in `/p2p/PEERID`, or `/dnsaddr` names.
    pub peers: Vec<Multiaddr>,
    /// Bootstrap lists (SPEC 11.1); a relative path starts at the home directory.
    pub files: Vec<PathBuf>,
}

/// Bounds on connections, memory and disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Established connections in all.
    pub max_connections: u32,
    /// Established connections that others opened.
    pub max_incoming: u32,
    /// Established connections that this node opened.
    pub max_outgoing: u32,
    /// Connections that are being opened by others.
    pub max_pending_incoming: u32,
    /// Connections that are being opened by this node.
    pub max_pending_outgoing: u32,
    /// Connections with one peer.
    pub max_per_peer: u32,
    /// Connections with one IPv4 address.
    pub max_per_ipv4: u32,
    /// Connections with one IPv6 network of 48 bits.
    pub max_per_ipv6_net: u32,
    /// Resident memory of the process above which no new connection is taken.
    pub max_memory: Size,
    /// Bytes of requests that are read or answered at one time, and as many of answers that peers have not taken yet;
    /// beyond, others are told `busy`. And as many that came and were not read yet; beyond, peers with more than 256 KiB of
    /// them have to wait.
    pub max_request_memory: Size,
    /// Disk space of the store. Under pressure the entries with the least effort per byte go first.
    pub max_disk: Size,
    /// Disk space of one table, or none beyond [`max_disk`](Self::max_disk).
    #[serde(with = "or_none")]
    pub max_disk_per_table: Option<Size>,
    /// Tables that are taken when all are mirrored.
    pub max_tables: u32,
    /// Age at which entries are dropped, counted in whole epochs of the network; at least one. None: never by age.
    #[serde(with = "or_none")]
    pub horizon: Option<Period>,
}

/// What one peer may ask for in a minute; 0: no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Rates {
    /// Hello requests.
    pub hello: u32,
    /// Indexes of a whole table.
    pub index: u32,
    /// Pages of ids of one bucket.
    pub index_pages: u32,
    /// Get requests.
    pub get: u32,
    /// Bytes of entries answered to get requests.
    pub get_bytes: Size,
    /// Entries put, counted one by one; what the node's record states (SPEC 7.1).
    pub put: u32,
    /// Sync requests that compare roots.
    pub sync: u32,
    /// Bytes of syndromes answered to sync requests.
    pub sync_bytes: Size,
    /// What these answers take: ids gone over, and rows read.
    pub sync_work: u32,
    /// Ids announced.
    pub announce: u32,
    /// How many times the rate of one peer is granted to one address (an IPv4 address, an IPv6 network of 48 bits): peer
    /// ids cost nothing, addresses do. At least 1.
    pub address_factor: u32,
}

/// Means of being reached behind a router, and of helping others with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Nat {
    /// Asks others whether this node's addresses can be reached.
    pub autonat: bool,
    /// Is reached through a relay when it cannot be reached otherwise.
    pub relay_client: bool,
    /// Replaces relayed connections by direct ones through hole punching.
    pub dcutr: bool,
    /// Asks the router for a forwarded port.
    pub upnp: bool,
    /// Relays connections to others; costs traffic.
    pub relay_server: bool,
}

impl FromStr for Tables {
    type Err = String;

    /// Reads `all`, or ids with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "all" {
            return Ok(Self::All);
        }
        Self::only(text.split(',').map(str::trim).filter(|id| !id.is_empty()))
    }
}

impl Tables {
    fn only<'a>(ids: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut tables = ids
            .map(|id| id.parse().map_err(|e| format!("expected \"all\" or a list of table ids: {id:?}: {e}")))
            .collect::<Result<Vec<TableId>, _>>()?;
        tables.sort_unstable();
        tables.dedup();
        if tables.len() > MAX_TABLES {
            return Err(format!("expected at most {MAX_TABLES} tables, got {}", tables.len()));
        }
        Ok(Self::Only(tables))
    }
}

impl Serialize for Tables {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::All => serializer.serialize_str("all"),
            Self::Only(tables) => tables.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Tables;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\" or a list of table ids")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Tables, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut ids: A) -> Result<Tables, A::Error> {
                let mut texts = Vec::new();
                while let Some(id) = ids.next_element::<String>()? {
                    texts.push(id);
                }
                Tables::only(texts.iter().map(String::as_str)).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A value that has the right type and still makes no sense.
pub(super) struct Nonsense {
    /// The key at fault, in dotted form.
    pub(super) key: &'static str,
    /// What was expected and what was found.
    pub(super) reason: String,
}

impl Config {
    /// Checks what the types cannot say: each value's range, and values against one another.
    pub(super) fn check(&self) -> Result<(), Nonsense> {
        let at_least = |key, least: u64, got: u64| {
            let reason = format!("expected at least {least}, got {got}");
            if got < least { Err(Nonsense { key, reason }) } else { Ok(()) }
        };
        let limits = &self.limits;
        at_least("sync_interval", 1, self.sync_interval.0)?;
        at_least("limits.max_connections", 1, limits.max_connections.into())?;
        at_least("limits.max_per_peer", 1, limits.max_per_peer.into())?;
        at_least("limits.max_per_ipv4", 1, limits.max_per_ipv4.into())?;
        at_least("limits.max_per_ipv6_net", 1, limits.max_per_ipv6_net.into())?;
        at_least("rates.address_factor", 1, self.rates.address_factor.into())?;
        let size_at_least = |key, least: Size, got: Size| {
            let reason = format!("expected at least {least}, got {got}");
            if got < least { Err(Nonsense { key, reason }) } else { Ok(()) }
        };
        // One put request and one get response must fit (SPEC 8.1).
        size_at_least("limits.max_request_memory", Size(4 << 20), limits.max_request_memory)?;
        size_at_least("limits.max_memory", Size(64 << 20), limits.max_memory)?;
        size_at_least("limits.max_disk", Size(LEAST_MAX_DISK), limits.max_disk)?;
        if let Some(per_table) = limits.max_disk_per_table {
            size_at_least("limits.max_disk_per_table", Size(LEAST_MAX_DISK_PER_TABLE), per_table)?;
        }
        if let Some(per_table) = limits.max_disk_per_table.filter(|size| *size > limits.max_disk) {
            let reason = format!("expected at most limits.max_disk ({}), got {per_table}", limits.max_disk);
            return Err(Nonsense { key: "limits.max_disk_per_table", reason });
        }
        for address in &self.listen {
            addresses::check_listen(address).map_err(|reason| Nonsense { key: "listen", reason })?;
        }
        for address in &self.external_addresses {
            addresses::check_external(address)
                .map_err(|reason| Nonsense { key: "external_addresses", reason })?;
        }
        for address in &self.bootstrap.peers {
            bootstrap::check_address(address)
                .map_err(|e| Nonsense { key: "bootstrap.peers", reason: e.to_string() })?;
        }
        Ok(())
    }
}

mod addresses {
    use libp2p::{Multiaddr, multiaddr::Protocol as P};

    /// What the transports of this node can listen on.
    pub(super) fn check_listen(address: &Multiaddr) -> Result<(), String> {
        let parts: Vec<P<'_>> = address.iter().collect();
        match parts.as_slice() {
            [P::Ip4(_) | P::Ip6(_), P::Tcp(_)]
            | [P::Ip4(_) | P::Ip6(_), P::Tcp(_), P::Ws(_)]
            | [P::Ip4(_) | P::Ip6(_), P::Udp(_), P::QuicV1] => Ok(()),
            _ => Err(format!(
                "expected /ip4/.. or /ip6/.. followed by /tcp/PORT, /tcp/PORT/ws or /udp/PORT/quic-v1, got {address}"
            )),
        }
    }

    /// What others can dial: a place, not a wildcard.
    pub(super) fn check_external(address: &Multiaddr) -> Result<(), String> {
        let is_place = match address.iter().next() {
            Some(P::Ip4(ip)) => !ip.is_unspecified(),
            Some(P::Ip6(ip)) => !ip.is_unspecified(),
            Some(P::Dns(_) | P::Dns4(_) | P::Dns6(_)) => true,
            _ => false,
        };
        let has_port = address.iter().any(|part| matches!(part, P::Tcp(_) | P::Udp(_)));
        if is_place && has_port {
            Ok(())
        } else {
            Err(format!(
                "expected an address that others can dial such as /dns4/HOST/tcp/4711, got {address}"
            ))
        }
    }
}
