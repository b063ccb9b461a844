//! The DHT's side of the event loop: who mirrors which table (SPEC 11.2).

use std::collections::{HashMap, HashSet};

use libp2p::{
    PeerId,
    kad::{self, QueryId, store::RecordStore as _},
};
use p2pdb_protocol::limits;
use tokio::sync::oneshot;

use crate::swarm::{address, event_loop::EventLoop};

/// Length of the keys of SPEC 11.2.
const PROVIDER_KEY_BYTES: usize = 32;
/// Providers of one table that are wanted of the DHT.
const MAX_PROVIDERS: usize = 64;

/// What the event loop remembers of the DHT.
#[derive(Debug, Default)]
pub(super) struct Dht {
    /// Tables that nobody was there to be told of.
    unpublished: HashSet<kad::RecordKey>,
    finding: HashMap<QueryId, (HashSet<PeerId>, oneshot::Sender<Vec<PeerId>>)>,
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
        if stats.num_successes() == 0 {
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
        record.addresses.retain(|told| address::is_reachable_from(told, &seen_at));
        record.addresses.truncate(limits::MAX_RECORD_ADDRESSES);
        // A full store takes no more: others of the nearest nodes will.
        let _ = self.swarm.behaviour_mut().kad.store_mut().add_provider(record);
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

    pub(super) fn find_providers(&mut self, key: kad::RecordKey, answer: oneshot::Sender<Vec<PeerId>>) {
        let id = self.swarm.behaviour_mut().kad.get_providers(key);
        self.dht.finding.insert(id, (HashSet::new(), answer));
    }

    pub(super) fn refresh_dht(&mut self) {
        // It fails as long as no peer is known, and then there is nothing to refresh.
        let _ = self.swarm.behaviour_mut().kad.bootstrap();
    }
}
