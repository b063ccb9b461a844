//! How nodes reach each other: TCP, WebSocket, QUIC and relayed circuits, with names resolved by DNS.
//!
//! A transport of its own kind (an onion network, say) is added here, as another function that returns a swarm.

mod mux;
pub(crate) mod pause;
mod websocket;

use std::time::Duration;

use libp2p::{
    PeerId, Swarm, Transport,
    core::{
        StreamMuxer,
        muxing::StreamMuxerBox,
        transport::{Boxed, timeout::TransportTimeout},
        upgrade::Version,
    },
    dns,
    identity::Keypair,
    noise, quic, relay,
    swarm::{self, NetworkBehaviour},
    tcp,
};

use self::{mux::Budget, pause::Pause};

/// Why a swarm could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("could not set up the network transports: {0}")]
pub struct TransportError(#[source] Failure);

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Connections that do nothing are closed after this time.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// A connection that is not set up after this time never will be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Events of a connection that may wait for the task of the swarm. Each time the queue is full costs a change from one task to
/// the other and back.
const CONNECTION_EVENTS: usize = 64;
/// Streams of a connection on which is not said yet what they are for; others wait. Each may take 16 KiB.
const MAX_NEGOTIATING: usize = 64;

/// What a peer may send over QUIC before it is read, in bytes, on a stream and on all of a connection.
const QUIC_STREAM_WINDOW: u32 = 1 << 20;
const QUIC_CONNECTION_WINDOW: u32 = 2 << 20;

/// A swarm on the open internet. Of what peers send over TCP, WebSocket and relays, `unread` bytes may lie unread, and 768 KiB
/// for each connection besides; of what they send over QUIC, 2 MiB for each connection. The behaviour has to count what connections
/// tell it.
///
/// # Errors
/// If a transport cannot be set up, or `behaviour` fails.
pub async fn clearnet<B, F>(key: Keypair, unread: usize, behaviour: F) -> Result<Swarm<B>, TransportError>
where
    B: NetworkBehaviour,
    F: FnOnce(&Keypair, relay::client::Behaviour, Pause) -> Result<B, Failure>,
{
    let fail = |e: Failure| TransportError(e);
    let (relayed, relay) = relay::client::new(key.public().to_peer_id());
    let pause = Pause::default();
    // How names are resolved is read from files.
    let transport = {
        let key = key.clone();
        let pause = pause.clone();
        let all = move || all(&key, unread, relayed, &pause);
        tokio::task::spawn_blocking(all).await.map_err(|e| fail(e.into()))?
    };
    let transport = pause::Transport::new(transport.map_err(fail)?, pause.clone());
    let transport = TransportTimeout::new(transport, CONNECT_TIMEOUT).boxed();
    let behaviour = behaviour(&key, relay, pause).map_err(fail)?;
    let config = swarm::Config::with_tokio_executor()
        .with_idle_connection_timeout(IDLE_TIMEOUT)
        .with_per_connection_event_buffer_size(CONNECTION_EVENTS)
        .with_max_negotiating_inbound_streams(MAX_NEGOTIATING)
        // A request goes out with the name of its protocol, not a round trip after it.
        .with_substream_upgrade_protocol_override(Version::V1Lazy);
    Ok(Swarm::new(transport, behaviour, key.public().to_peer_id(), config))
}

/// Streams to a peer who said who he is.
type Connections = Boxed<(PeerId, StreamMuxerBox)>;

/// TCP, WebSocket and what relays pass on, encrypted by Noise, and QUIC.
fn all(
    key: &Keypair,
    unread: usize,
    relayed: relay::client::Transport,
    pause: &Pause,
) -> Result<Connections, Failure> {
    let mux = mux::Config::new(Budget::new(unread));
    let noise = noise::Config::new(key)?;
    let tcp = || tcp::tokio::Transport::new(tcp::Config::default().nodelay(true));
    let names = |transport| dns::tokio::Transport::system(transport);
    let websocket = websocket::Transport::new(names(tcp())?, tcp())?;
    let websocket = websocket.upgrade(Version::V1Lazy).authenticate(noise.clone()).multiplex(mux.clone());
    let tcp = tcp().upgrade(Version::V1Lazy).authenticate(noise.clone()).multiplex(mux.clone());
    let relayed = relayed.upgrade(Version::V1Lazy).authenticate(noise).multiplex(mux);
    let mut config = quic::Config::new(key);
    config.max_stream_data = QUIC_STREAM_WINDOW;
    config.max_connection_data = QUIC_CONNECTION_WINDOW;
    let quic = quic::tokio::Transport::new(config);
    let named = dns::tokio::Transport::system(either(pausing(tcp, pause), pausing(quic, pause)))?.boxed();
    // Relays before what looks up names, which would take their addresses for its own; WebSocket looks up names by itself: it
    // says them to the server.
    Ok(either(pausing(relayed, pause), either(pausing(websocket, pause), named)))
}

/// Connections whose streams pause.
fn pausing<T, M>(transport: T, pause: &Pause) -> Connections
where
    T: Transport<Output = (PeerId, M), Dial: Send, ListenerUpgrade: Send, Error: Send + Sync>
        + Send
        + Unpin
        + 'static,
    M: StreamMuxer<Substream: Send + Unpin, Error: Send + Sync> + Send + Unpin + 'static,
{
    let pause = pause.clone();
    let pausing = move |muxer| StreamMuxerBox::new(pause::Muxer::new(muxer, pause.clone()));
    transport.map(move |(peer, muxer), _| (peer, pausing(muxer))).boxed()
}

/// Whichever of two transports an address is for.
fn either(one: Connections, other: Connections) -> Connections {
    one.or_transport(other).map(|either, _| either.into_inner()).boxed()
}
