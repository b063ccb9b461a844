//! Finds nodes that mirror a table: of those met, of those heard of, and of those that the DHT knows.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{Multiaddr, PeerId};
use lru::LruCache;
use p2pdb_protocol::id::TableId;

use crate::{
    client::{Client, ClientError},
    clock::monotonic,
    swarm::{Event, RequestError},
};

/// After a search that found too few, the next one for the same tables waits this long: what comes to be known
/// meanwhile is found without one.
const SEARCH_PAUSE: Duration = Duration::from_secs(60);
/// Searches that are remembered.
const MAX_SEARCHES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Providers of a table that are dialed in one search.
const MAX_PROVIDERS: usize = 8;

/// When was searched for the mirrors of which tables.
#[derive(Debug)]
pub(super) struct Searches(Mutex<LruCache<Vec<TableId>, Instant>>);

impl Default for Searches {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_SEARCHES)))
    }
}

impl Searches {
    /// Whether a search for these tables is due at `now`; then it counts as done.
    fn begin(&self, tables: &[TableId], now: Instant) -> bool {
        let mut tables = tables.to_vec();
        tables.sort_unstable();
        let mut searches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = searches.get(&tables).is_none_or(|last| now >= *last + SEARCH_PAUSE);
        if is_due {
            searches.put(tables, now);
        }
        is_due
    }
}

impl Client {
    /// Connected nodes that mirror all of `tables`, at most `want`: of those met already, of those
    /// heard of, and of those that the DHT knows. Waits for a first one for as long as the client is patient.
    ///
    /// # Errors
    /// If there is none.
    pub async fn nodes(&self, tables: &[TableId], want: usize) -> Result<Vec<PeerId>, ClientError> {
        let mut nodes = self.candidates(tables, want).await?;
        nodes.truncate(want);
        Ok(nodes)
    }

    /// As [`Client::nodes`], but all that are connected, in random order: who fails can be replaced.
    pub(super) async fn candidates(
        &self,
        tables: &[TableId],
        want: usize,
    ) -> Result<Vec<PeerId>, ClientError> {
        let mut events = self.inner.swarm.events();
        let deadline = tokio::time::Instant::now() + self.inner.patience;
        let mut asked_dht = false;
        loop {
            let mut found = self.connected_mirrors(tables).await?;
            // Who has none at all searches again and again; who has too few knows that there are no more.
            if found.len() < want && (found.is_empty() || self.inner.searches.begin(tables, monotonic())) {
                self.connect_heard(tables, want - found.len(), &found).await;
                found = self.connected_mirrors(tables).await?;
                if found.len() < want && !asked_dht && !self.inner.swarm.serving_peers().await?.is_empty() {
                    asked_dht = true;
                    self.connect_providers(tables, &found).await?;
                    found = self.connected_mirrors(tables).await?;
                }
            }
            if !found.is_empty() {
                shuffle(&mut found);
                return Ok(found);
            }
            // Who introduced itself may be the one: look again. So it may be if events were missed.
            let introduced = async {
                while let Ok(event) = events.recv().await {
                    if matches!(event, Event::Introduced { .. }) {
                        break;
                    }
                }
            };
            if tokio::time::timeout_at(deadline, introduced).await.is_err() {
                let any = !self.inner.swarm.serving_peers().await?.is_empty();
                return Err(match tables.first() {
                    Some(table) if any => ClientError::NoMirror { table: *table },
                    _ => ClientError::Unreachable { tried: self.inner.upkeep.known() },
                });
            }
        }
    }

    /// Connected nodes that mirror all of `tables`.
    pub(super) async fn connected_mirrors(&self, tables: &[TableId]) -> Result<Vec<PeerId>, RequestError> {
        let mut peers = self.inner.swarm.serving_peers().await?;
        peers.retain(|peer| {
            let route = self.inner.routes.of(peer);
            route.is_some_and(|route| tables.iter().all(|table| route.record().mirrors(table)))
        });
        Ok(peers)
    }

    async fn connect_heard(&self, tables: &[TableId], want: usize, connected: &[PeerId]) {
        let tables = (!tables.is_empty()).then_some(tables);
        let heard = self.inner.routes.mirrors(tables, 4 * want + connected.len());
        let others = heard.into_iter().filter(|route| !connected.contains(&route.peer)).take(2 * want);
        let dials = others.map(|route| {
            let addresses = route.addresses().collect();
            self.connect_and_greet(route.peer, addresses)
        });
        futures::future::join_all(dials).await;
    }

    async fn connect_providers(&self, tables: &[TableId], connected: &[PeerId]) -> Result<(), RequestError> {
        for table in tables {
            let providers = self.inner.swarm.mirrors(*table).await?;
            let others = providers.into_iter().filter(|peer| !connected.contains(peer)).take(MAX_PROVIDERS);
            futures::future::join_all(others.map(|peer| self.connect_and_greet(peer, Vec::new()))).await;
        }
        Ok(())
    }

    async fn connect_and_greet(&self, peer: PeerId, addresses: Vec<Multiaddr>) {
        if self.inner.swarm.connect(peer, addresses).await.is_ok() {
            // Whether it serves is known once it has answered.
            if let Err(error) = self.hello(peer, None).await {
                tracing::debug!(%peer, %error, "a node did not introduce itself");
            }
        }
    }
}

/// Spreads requests over nodes. The order of a hash set is random from start to start, which is all that is needed.
fn shuffle(peers: &mut Vec<PeerId>) {
    let shuffled: std::collections::HashSet<PeerId> = peers.drain(..).collect();
    peers.extend(shuffled);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_not_repeated_at_once_and_others_are_not_held_up() {
        let (searches, now) = (Searches::default(), monotonic());
        let [one, other] = [1, 2].map(|byte| TableId::from_bytes([byte; 32]));
        assert!(searches.begin(&[one, other], now));
        assert!(!searches.begin(&[other, one], now + SEARCH_PAUSE / 2), "the same in another order");
        assert!(searches.begin(&[one], now));
        assert!(searches.begin(&[one, other], now + SEARCH_PAUSE));
        assert!(!searches.begin(&[one, other], now + SEARCH_PAUSE), "it counts as done");
        for byte in 0..=255 {
            searches.begin(&[TableId::from_bytes([byte; 32])], now);
        }
        assert_eq!(searches.0.lock().map(|searches| searches.len()).ok(), Some(MAX_SEARCHES.get()));
    }
}
