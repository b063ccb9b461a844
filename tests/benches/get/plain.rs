//! The same bytes from memory, by libp2p's own request-response with TCP, Noise and yamux as they come: what asking costs
//! without a store, and with a stream for each question.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, noise,
    request_response::{self, Event, Message, ProtocolSupport},
    swarm::SwarmEvent,
    tcp, yamux,
};
use p2pdb::clock::monotonic;
use tokio::task::JoinSet;

use crate::support::child;

/// About as much as a filter with a recipient and a time takes.
const REQUEST: usize = 64;

/// Sends what it is given, and reads until the other side has no more.
#[derive(Debug, Clone, Copy, Default)]
struct Bytes;

impl request_response::Codec for Bytes {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = vec![0; REQUEST];
        io.read_exact(&mut bytes).await?;
        Ok(bytes)
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut bytes = Vec::new();
        io.read_to_end(&mut bytes).await?;
        Ok(bytes)
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }
}

type Plain = request_response::Behaviour<Bytes>;

fn swarm() -> Result<Swarm<Plain>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
        .with_behaviour(|_| {
            let protocols = [(StreamProtocol::new("/plain"), ProtocolSupport::Full)];
            Plain::new(protocols, request_response::Config::default())
        })?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build())
}

/// The part of a child: answers each request with so many bytes, and says where it is.
pub(super) fn serve(bytes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let address = runtime.block_on(async {
        let mut swarm = swarm()?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        tokio::spawn(async move {
            loop {
                if let SwarmEvent::Behaviour(Event::Message {
                    message: Message::Request { channel, .. },
                    ..
                }) = swarm.select_next_some().await
                {
                    // Who asked may have gone.
                    let _ = swarm.behaviour_mut().send_response(channel, vec![7; bytes]);
                }
            }
        });
        anyhow::Ok(address)
    })?;
    child::tell(&address)
}

/// How long so many clients take for so many questions each, one after the other.
pub(super) async fn ask_all(clients: usize, rounds: usize, bytes: usize) -> Result<Duration> {
    let mut serving = child::spawn(&["serve", &bytes.to_string()])?;
    let address: Multiaddr = child::answer(&mut serving)?;
    let mut asking = JoinSet::new();
    let began = monotonic();
    for _ in 0..clients {
        asking.spawn(ask(address.clone(), rounds, bytes));
    }
    while let Some(asked) = asking.join_next().await {
        asked??;
    }
    let took = began.elapsed();
    serving.kill()?;
    serving.wait()?;
    Ok(took)
}

async fn ask(address: Multiaddr, rounds: usize, bytes: usize) -> Result<()> {
    let mut swarm = swarm()?;
    swarm.dial(address)?;
    let peer = loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
            SwarmEvent::OutgoingConnectionError { error, .. } => bail!(error),
            _ => {}
        }
    };
    for _ in 0..rounds {
        swarm.behaviour_mut().send_request(&peer, vec![1; REQUEST]);
        let response = loop {
            match swarm.select_next_some().await {
                SwarmEvent::Behaviour(Event::Message {
                    message: Message::Response { response, .. }, ..
                }) => {
                    break Some(response);
                }
                SwarmEvent::Behaviour(Event::OutboundFailure { .. }) => break None,
                _ => {}
            }
        };
        ensure!(response.context("a request failed")?.len() == bytes, "another number of bytes");
    }
    Ok(())
}
