//! Which of the addresses that peers tell are worth a dial.

use std::net::IpAddr;

use libp2p::{Multiaddr, multiaddr::Protocol};
use p2pdb_protocol::limits;

/// How far an address reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// This machine.
    Machine,
    /// A network behind a router.
    Site,
    /// The internet.
    World,
}

/// How far an address reaches; none if it leads nowhere.
pub(crate) fn scope(address: &Multiaddr) -> Option<Scope> {
    let ip: IpAddr = match address.iter().next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_) => {
            return Some(Scope::World);
        }
        _ => return None,
    };
    match ip.to_canonical() {
        ip if ip.is_unspecified() || ip.is_multicast() => None,
        ip if ip.is_loopback() => Some(Scope::Machine),
        IpAddr::V4(ip) if ip.is_link_local() || ip.is_broadcast() => None,
        IpAddr::V4(ip) if ip.is_private() => Some(Scope::Site),
        IpAddr::V4(ip) => match ip.octets() {
            // "This network" and what is reserved lead nowhere; 100.64/10 is behind a provider's router.
            [0 | 240..=255, ..] => None,
            [100, 64..=127, ..] => Some(Scope::Site),
            _ => Some(Scope::World),
        },
        IpAddr::V6(ip) if ip.is_unicast_link_local() => None,
        IpAddr::V6(ip) if ip.is_unique_local() => Some(Scope::Site),
        _ => Some(Scope::World),
    }
}

/// Whether `address`, told by a peer whom we see at `seen_at`, may lead somewhere from here.
///
/// What is longer than an address may be leads nowhere. A peer on the open internet that tells a loopback or private address would have us dial our own machine or
/// network; only who is itself on it may.
#[must_use]
pub fn is_reachable_from(address: &Multiaddr, seen_at: &Multiaddr) -> bool {
    if address.len() > limits::MAX_ADDRESS_BYTES {
        return false;
    }
    match (scope(address), scope(seen_at)) {
        (Some(Scope::World), _) => true,
        (Some(told), Some(seen)) => told >= seen,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn private_addresses_are_only_taken_from_their_own_network() {
        let reachable =
            |told: &str, seen: &str| is_reachable_from(&told.parse().unwrap(), &seen.parse().unwrap());
        assert!(reachable("/ip4/8.8.8.8/tcp/1", "/ip4/9.9.9.9/tcp/1"));
        assert!(reachable("/dns4/example.org/tcp/1", "/ip4/9.9.9.9/tcp/1"));
        assert!(!reachable("/ip4/127.0.0.1/tcp/1", "/ip4/9.9.9.9/tcp/1"));
        assert!(!reachable("/ip4/192.168.1.1/tcp/1", "/ip4/9.9.9.9/tcp/1"));
        assert!(!reachable("/ip4/127.0.0.1/tcp/1", "/ip4/192.168.1.1/tcp/1"));
        assert!(reachable("/ip4/192.168.1.1/tcp/1", "/ip4/192.168.1.2/tcp/1"));
        assert!(reachable("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/9"));
        assert!(reachable("/ip6/::ffff:127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/9"));
        assert!(!reachable("/ip4/0.0.0.0/tcp/1", "/ip4/127.0.0.1/tcp/9"));
        assert!(!reachable("/ip6/fe80::1/tcp/1", "/ip4/127.0.0.1/tcp/9"));
        assert!(!reachable(&format!("/dns4/{}/tcp/1", "a".repeat(300)), "/ip4/9.9.9.9/tcp/1"));
    }
}
