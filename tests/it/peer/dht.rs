//! What a peer tells and asks the DHT.

use libp2p::{Multiaddr, PeerId, kad};

use super::{Peer, event_loop::Found};

type Dht = kad::Behaviour<kad::store::MemoryStore>;

impl Peer {
    /// Takes a node for one of the DHT. The peer itself only asks.
    pub(crate) async fn know(&self, node: PeerId, address: &Multiaddr) {
        let address = address.clone();
        self.tell(move |event_loop, done| {
            let kad = &mut event_loop.swarm.behaviour_mut().kad;
            kad.set_mode(Some(kad::Mode::Client));
            kad.add_address(&node, address);
            done.send(()).unwrap();
        })
        .await;
    }

    /// Tells the DHT that it provides tables of these keys, any number of them, at an address of its own.
    pub(crate) async fn provide(&self, keys: Vec<[u8; 32]>) {
        // Without an address nobody would be told of it.
        let own = self.listen().await;
        self.tell(move |event_loop, done| {
            event_loop.swarm.add_external_address(own);
            for key in keys {
                event_loop.swarm.behaviour_mut().kad.start_providing(key.to_vec().into()).unwrap();
            }
            done.send(()).unwrap();
        })
        .await;
    }

    /// Asks the DHT who provides the table of a key.
    pub(crate) async fn providers(&self, key: [u8; 32]) -> Found {
        self.query(move |dht| dht.get_providers(key.to_vec().into())).await
    }

    /// Asks the DHT who is closest to a key.
    pub(crate) async fn closest(&self, key: [u8; 32]) -> Found {
        self.query(move |dht| dht.get_closest_peers(key.to_vec())).await
    }

    async fn query(&self, begin: impl FnOnce(&mut Dht) -> kad::QueryId + Send + 'static) -> Found {
        self.tell(move |event_loop, answer| {
            let id = begin(&mut event_loop.swarm.behaviour_mut().kad);
            event_loop.finding.insert(id, (Default::default(), answer));
        })
        .await
    }
}
