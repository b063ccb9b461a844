//! Addresses at which peers claim to see this node. What looks for the true ones among them remembers each for good.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr,
    swarm::{FromSwarm, NetworkBehaviour, NewExternalAddrCandidate},
};
use p2pdb_protocol::limits;

use super::Filter;
use crate::clock::monotonic;

/// Addresses that are believed at once,
const MAX_AT_ONCE: u32 = 64;
/// and one more each time this has passed: less than a megabyte a day, were it all false.
const PERIOD: Duration = Duration::from_secs(60);

/// As many addresses as a node may come to have.
#[derive(Debug)]
pub(crate) struct Candidates {
    known: HashSet<Multiaddr>,
    since: Instant,
}

impl Default for Candidates {
    fn default() -> Self {
        Self { known: HashSet::new(), since: monotonic() }
    }
}

impl Candidates {
    fn believes(&mut self, address: &Multiaddr, now: Instant) -> bool {
        if self.known.contains(address) {
            return true;
        }
        let periods = now.saturating_duration_since(self.since).as_secs() / PERIOD.as_secs();
        let room = u64::from(MAX_AT_ONCE) + periods;
        let believes = address.len() <= limits::MAX_ADDRESS_BYTES && (self.known.len() as u64) < room;
        if believes {
            self.known.insert(address.clone());
        }
        believes
    }
}

impl<B: NetworkBehaviour> Filter<B> for Candidates {
    fn hears(&mut self, event: &FromSwarm<'_>) -> bool {
        match event {
            FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr }) => {
                self.believes(addr, monotonic())
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn address(number: u32) -> Multiaddr {
        format!("/ip4/{}/tcp/4711", std::net::Ipv4Addr::from(number)).parse().unwrap()
    }

    #[test]
    fn few_new_addresses_are_believed_and_known_ones_always() {
        let (mut candidates, now) = (Candidates::default(), monotonic());
        let long: Multiaddr = format!("/dns4/{}/tcp/1", "a".repeat(300)).parse().unwrap();
        assert!(!candidates.believes(&long, now));
        let mut believed =
            |from, at| (from..10_000).filter(|number| candidates.believes(&address(*number), at)).count();
        assert_eq!(believed(0, now), MAX_AT_ONCE as usize);
        assert_eq!(believed(0, now), MAX_AT_ONCE as usize, "the same");
        assert_eq!(believed(5000, now), 0);
        assert_eq!(believed(5000, now + 3 * PERIOD), 3);
    }
}
