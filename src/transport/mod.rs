//! How nodes reach each other: TCP, WebSocket, QUIC and relayed circuits, with names resolved by DNS.
//!
//! A transport of its own kind (an onion network, say) is added here, as another function that returns a swarm.

mod mux;

use std::time::Duration;

use libp2p::{
    Swarm, SwarmBuilder, core::upgrade::Version, identity::Keypair, noise, relay, swarm::NetworkBehaviour,
    tcp,
};

use self::mux::Budget;

/// Why a swarm could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the network transports: {0}")]
pub struct TransportError(#[source] Box<dyn std::error::Error + Send + Sync>);

/// Connections that do nothing are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that is not set up after this time never will be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Events of a connection that may wait for the task of the swarm. Each time the queue is full costs a change from one task to
/// the other and back.
const CONNECTION_EVENTS: usize = 64;

/// What a peer may send over QUIC before it is read, in bytes, on a stream and on all of a connection.
const QUIC_STREAM_WINDOW: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 2 << 20;

/// A swarm on the open internet. Of what peers send over TCP, WebSocket and relays, `unread` bytes may lie unread, and 768 KiB
/// for each connection besides; of what they send over QUIC, 2 MiB for each connection.
///
/// # Errors
/// If a transport cannot be set up, or `behaviour` fails.
pub async fn clearnet<B, F>(key: Keypair, unread: usize, behaviour: F) -> Result<Swarm<B>, TransportError>
where
    B: NetworkBehaviour,
    F: FnOnce(&Keypair, relay::client::Behaviour) -> Result<B, Box<dyn std::error::Error + Send + Sync>>,
{
    let budget = Budget::new(unread);
    let mux = || {
        let budget = budget.clone();
        move || mux::Config::new(budget)
    };
    let fail = |e: Box<dyn std::error::Error + Send + Sync>| TransportError(e);
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, mux())
        .map_err(|e| fail(e.into()))?
        .with_quic_config(|mut config| {
            config.max_stream_data = QUIC_STREAM_WINDOW;
            config.max_connection_data = QUIC_CONNECTION_WINDOW;
            config
        })
        .with_dns()
        .map_err(|e| fail(e.into()))?
        .with_websocket(noise::Config::new, mux())
        .await
        .map_err(|e| fail(e.into()))?
        .with_relay_client(noise::Config::new, mux())
        .map_err(|e| fail(e.into()))?
        .with_behaviour(behaviour)
        .map_err(|e| fail(e.into()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
                // A request goes out with the name of its protocol, not a round trip after it.
                .with_substream_upgrade_protocol_override(Version::V1Lazy)
        })
        .with_connection_timeout(CONNECT_TIMEOUT)
        .build())
}
