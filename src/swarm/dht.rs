//! The DHT's side of the event loop: who mirrors which table (SPEC 11.2).

use std::collections::{HashMap, HashSet, VecDeque};

use libp2p::{
    Multiaddr, PeerId,
    kad::{self, QueryId, store::RecordStore as _},
};
use p2pdb_protocol::limits;
use tokio::sync::oneshot;

use crate::swarm::{address, event_loop::EventLoop};

/// Length of the keys of SPEC 11.2.
const PROVIDER_KEY_BYTES: usize = 32;
/// Providers of one table that are wanted of the DHT.
const MAX_PROVIDERS: usize = 64;

/// Provider records that a node keeps for others.
pub(super) const MAX_PROVIDED_KEYS: usize = 4096;
/// Provider records that are kept of one peer: as many tables as its record can name (SPEC 7.1).
const MAX_PROVIDED_BY_PEER: usize = limits::MAX_TABLES;

/// Bytes of the addresses of one peer: an answer names up to forty peers in 16 KiB, and a longer one nobody reads.
const MAX_ADDRESSES: usize = 256;

/// Those of the addresses that a peer whom we see at `seen_at` told which may be told to others.
fn worth_telling(told: Vec<Multiaddr>, seen_at: &Multiaddr) -> Vec<Multiaddr> {
    let mut room = MAX_ADDRESSES;
    let fits = |address: &Multiaddr| {
        let left = room.checked_sub(address.len());
        room = left.unwrap_or(room);
        left.is_some()
    };
    let reachable = told.into_iter().filter(|told| address::is_reachable_from(told, seen_at));
    reachable.filter(fits).take(limits::MAX_RECORD_ADDRESSES).collect()
}

/// What the event loop remembers of the DHT.
#[derive(Debug, Default)]
pub(super) struct Dht {
    provided: Provided,
    /// Tables that nobody was there to be told of.
    unpublished: HashSet<kad::RecordKey>,
    finding: HashMap<QueryId, (HashSet<PeerId>, oneshot::Sender<Vec<PeerId>>)>,
}

/// Whose records are kept for others: keys are free to make up, and who fills the store must not keep out the others.
#[derive(Debug, Default)]
struct Provided {
    of: HashMap<PeerId, VecDeque<kad::RecordKey>>,
    total: usize,
}

impl Provided {
    /// Notes a record; gives one that has to go for it: the oldest of this peer, or of the one with the most.
    fn add(&mut self, peer: PeerId, key: &kad::RecordKey) -> Option<(PeerId, kad::RecordKey)> {
        let own = self.of.entry(peer).or_default();
        if own.contains(key) {
            return None;
        }
        own.push_back(key.clone());
        let is_over = own.len() > MAX_PROVIDED_BY_PEER;
        self.total += 1;
        if !is_over && self.total <= MAX_PROVIDED_KEYS {
            return None;
        }
        let most = || self.of.iter().max_by_key(|(_, keys)| keys.len()).map(|(peer, _)| *peer);
        let loser = if is_over { peer } else { most()? };
        let keys = self.of.get_mut(&loser)?;
        let oldest = keys.pop_front()?;
        if keys.is_empty() {
            self.of.remove(&loser);
        }
        self.total -= 1;
        Some((loser, oldest))
    }
}

impl EventLoop {
    pub(super) fn on_dht(&mut self, event: kad::Event) {
        match event {
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => match result {
                kad::QueryResult::StartProviding(
                    Ok(kad::AddProviderOk { key }) | Err(kad::AddProviderError::Timeout { key }),
                ) => self.on_provided(key, &stats),
                result => self.on_query(id, result, step.last),
            },
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => self.on_provider(record),
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.publish_again(),
            _ => {}
        }
    }

    /// The DHT says nothing again for half a day: what nobody heard is said again once there is somebody.
    fn on_provided(&mut self, key: kad::RecordKey, stats: &kad::QueryStats) {
        let store = self.swarm.behaviour_mut().kad.store_mut();
        if stats.num_successes() == 0
            && kad::store::RecordStore::provided(store).any(|record| record.key == key)
        {
            self.dht.unpublished.insert(key);
        }
    }

    fn publish_again(&mut self) {
        for key in std::mem::take(&mut self.dht.unpublished) {
            self.provide(key);
        }
    }

    /// Keeps who provides a table for others, as far as it makes sense: keys are hashes, and addresses are few and
    /// lead somewhere.
    fn on_provider(&mut self, mut record: kad::ProviderRecord) {
        let Some(seen_at) = self.address_of(&record.provider) else { return };
        if record.key.as_ref().len() != PROVIDER_KEY_BYTES {
            return;
        }
        record.addresses = worth_telling(record.addresses, &seen_at);
        let kept = self.swarm.behaviour_mut().kad.store_mut();
        if let Some((loser, key)) = self.dht.provided.add(record.provider, &record.key) {
            kept.remove_provider(&key, &loser);
        }
        // It takes every record but those of a table with too many providers.
        let _ = kept.add_provider(record);
    }

    /// Has the DHT name a peer with the addresses that it tells now, and no others.
    pub(super) fn route(&mut self, peer: PeerId, told: Vec<Multiaddr>, seen_at: &Multiaddr) {
        let told = worth_telling(told, seen_at);
        let kad = &mut self.swarm.behaviour_mut().kad;
        for address in &told {
            kad.add_address(&peer, address.clone());
        }
        let told: HashSet<_> = told.into_iter().filter_map(|address| address.with_p2p(peer).ok()).collect();
        let Some(bucket) = kad.kbucket(peer) else { return };
        let entry = bucket.iter().find(|entry| *entry.node.key.preimage() == peer);
        let known = entry.map_or_else(Vec::new, |entry| entry.node.value.iter().cloned().collect());
        for old in known.into_iter().filter(|address| !told.contains(address)) {
            kad.remove_address(&peer, &old);
        }
    }

    fn on_query(&mut self, id: QueryId, result: kad::QueryResult, last: bool) {
        if let kad::QueryResult::GetProviders(Ok(kad::GetProvidersOk::FoundProviders { providers, .. })) =
            result
            && let Some((found, _)) = self.dht.finding.get_mut(&id)
        {
            let room = MAX_PROVIDERS.saturating_sub(found.len());
            found.extend(providers.into_iter().take(room));
        }
        if last && let Some((found, answer)) = self.dht.finding.remove(&id) {
            let _ = answer.send(found.into_iter().collect());
        }
    }

    pub(super) fn provide(&mut self, key: kad::RecordKey) {
        if let Err(error) = self.swarm.behaviour_mut().kad.start_providing(key) {
            tracing::warn!(%error, "cannot provide a table in the DHT");
        }
    }

    pub(super) fn stop_providing(&mut self, key: &kad::RecordKey) {
        self.dht.unpublished.remove(key);
        self.swarm.behaviour_mut().kad.stop_providing(key);
    }

    pub(super) fn find_providers(&mut self, key: kad::RecordKey, answer: oneshot::Sender<Vec<PeerId>>) {
        let id = self.swarm.behaviour_mut().kad.get_providers(key);
        self.dht.finding.insert(id, (HashSet::new(), answer));
    }

    pub(super) fn refresh_dht(&mut self) {
        // It fails as long as no peer is known, and then there is nothing to refresh.
        let _ = self.swarm.behaviour_mut().kad.bootstrap();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn key(number: usize) -> kad::RecordKey {
        kad::RecordKey::new(&number.to_be_bytes())
    }

    #[test]
    fn a_flood_of_records_pushes_out_its_own_and_no_others() {
        let (mut provided, honest) = (Provided::default(), PeerId::random());
        assert_eq!(provided.add(honest, &key(0)), None);
        let flooders: Vec<PeerId> = (0..40).map(|_| PeerId::random()).collect();
        for number in 1..20_000 {
            let flooder = *flooders.get(number % flooders.len()).unwrap();
            let gone = provided.add(flooder, &key(number));
            assert!(gone.is_none_or(|(loser, _)| loser != honest));
            assert!(provided.total <= MAX_PROVIDED_KEYS);
        }
        assert_eq!(provided.total, MAX_PROVIDED_KEYS);
        assert!(provided.of.values().all(|keys| keys.len() <= MAX_PROVIDED_BY_PEER));
        assert_eq!(provided.of.values().map(VecDeque::len).sum::<usize>(), provided.total);
        // The honest one goes on as well, and what is told again takes no further place.
        assert!(provided.add(honest, &key(20_000)).is_some_and(|(loser, _)| loser != honest));
        assert_eq!(provided.add(honest, &key(20_000)), None);
        assert_eq!(provided.of.get(&honest).unwrap().len(), 2);
    }

    #[test]
    fn addresses_are_told_as_far_as_an_answer_holds_them() {
        let seen_at: Multiaddr = "/ip4/198.51.100.7/tcp/1".parse().unwrap();
        let short = |number| format!("/ip4/198.51.100.7/tcp/{number}").parse().unwrap();
        let few: Vec<Multiaddr> = (1..4).map(short).collect();
        assert_eq!(worth_telling(few.clone(), &seen_at), few);
        assert_eq!(
            worth_telling((1..100).map(short).collect(), &seen_at).len(),
            limits::MAX_RECORD_ADDRESSES
        );
        let long = |number| format!("/dns4/{}{number}/tcp/1", "a".repeat(60)).parse().unwrap();
        let told: Vec<Multiaddr> = (1..100).map(long).chain(few).collect();
        let kept = worth_telling(told, &seen_at);
        assert!(kept.len() > 3 && kept.iter().map(Multiaddr::len).sum::<usize>() <= MAX_ADDRESSES);
        assert_eq!(worth_telling(vec!["/ip4/10.0.0.1/tcp/1".parse().unwrap()], &seen_at), []);
    }

    #[test]
    fn one_peer_gets_as_many_places_as_it_can_have_tables() {
        let (mut provided, peer) = (Provided::default(), PeerId::random());
        for number in 0..MAX_PROVIDED_BY_PEER {
            assert_eq!(provided.add(peer, &key(number)), None);
        }
        assert_eq!(provided.add(peer, &key(9999)), Some((peer, key(0))));
        assert_eq!(provided.total, MAX_PROVIDED_BY_PEER);
    }
}
