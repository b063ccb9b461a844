//! What a peer tells the DHT.

use libp2p::{Multiaddr, PeerId};

use super::Peer;

impl Peer {
    /// Tells the DHT that it provides tables of these keys, any number of them.
    pub(crate) async fn provide(&self, node: PeerId, address: &Multiaddr, keys: Vec<[u8; 32]>) {
        let address = address.clone();
        self.tell(move |event_loop, done| {
            let kad = &mut event_loop.swarm.behaviour_mut().kad;
            kad.add_address(&node, address);
            for key in keys {
                kad.start_providing(key.to_vec().into()).unwrap();
            }
            done.send(()).unwrap();
        })
        .await;
    }
}
