//! What a peer speaks.

use std::{sync::Arc, time::Duration};

use libp2p::{
    StreamProtocol, gossipsub, identify,
    identity::Keypair,
    kad,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use p2pdb::{
    protocol::{
        message::{Operation, announce, get::Get, hello::Hello, index::Index, put::Put, sync},
        network::Network,
    },
    wire,
};

use super::raw::{Hung, RawCodec};

/// The protocol of gossip.
pub(super) const RUMOURS: &str = "/meshsub/1.1.0";

#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    identify: identify::Behaviour,
    pub(super) gossip: gossipsub::Behaviour,
    /// What gossip would not say by itself.
    rumours: request_response::Behaviour<RawCodec>,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    hello: request_response::Behaviour<RawCodec>,
    index: request_response::Behaviour<RawCodec>,
    get: request_response::Behaviour<RawCodec>,
    put: request_response::Behaviour<RawCodec>,
    sync: Toggle<request_response::Behaviour<RawCodec>>,
}

impl Behaviour {
    pub(super) fn new(
        key: &Keypair,
        network: &Network,
        support: ProtocolSupport,
        syncs: bool,
        hung: Option<Arc<Hung>>,
    ) -> Self {
        let gossip = gossipsub::ConfigBuilder::default()
            .validation_mode(gossipsub::ValidationMode::Anonymous)
            .message_id_fn(|message| {
                gossipsub::MessageId::new(&announce::message_id(message.topic.as_str(), &message.data))
            })
            .build()
            .unwrap();
        let version = wire::identify_protocol_version(network);
        let with_codec = |name, codec| {
            let config = request_response::Config::default()
                // Longer than a node waits: it has to be the first to give up.
                .with_request_timeout(Duration::from_secs(90))
                .with_max_concurrent_streams(1024);
            request_response::Behaviour::with_codec(codec, [(name, support.clone())], config)
        };
        let exchange = |name| with_codec(name, RawCodec::default());
        Self {
            identify: identify::Behaviour::new(identify::Config::new(version, key.public())),
            gossip: gossipsub::Behaviour::new(gossipsub::MessageAuthenticity::Anonymous, gossip).unwrap(),
            rumours: request_response::Behaviour::with_codec(
                RawCodec::default(),
                [(StreamProtocol::new(RUMOURS), ProtocolSupport::Outbound)],
                // As long as a siege needs.
                request_response::Config::default().with_request_timeout(Duration::from_secs(300)),
            ),
            kad: kad::Behaviour::with_config(
                key.public().to_peer_id(),
                kad::store::MemoryStore::with_config(
                    key.public().to_peer_id(),
                    kad::store::MemoryStoreConfig { max_provided_keys: 1 << 20, ..Default::default() },
                ),
                kad::Config::new(wire::kad_protocol_name(network)),
            ),
            hello: exchange(wire::protocol_name::<Hello>(network)),
            index: exchange(wire::protocol_name::<Index>(network)),
            get: with_codec(wire::protocol_name::<Get>(network), RawCodec::hanging(hung)),
            put: exchange(wire::protocol_name::<Put>(network)),
            sync: syncs.then(|| exchange(wire::protocol_name::<sync::Sync>(network))).into(),
        }
    }

    pub(super) fn exchange(&mut self, operation: &str) -> &mut request_response::Behaviour<RawCodec> {
        match operation {
            Hello::NAME => &mut self.hello,
            Index::NAME => &mut self.index,
            Get::NAME => &mut self.get,
            Put::NAME => &mut self.put,
            RUMOURS => &mut self.rumours,
            sync::Sync::NAME => self.sync.as_mut().expect("this peer speaks the fast form"),
            other => panic!("no operation {other}"),
        }
    }
}
