//! Counts the bytes between two processes.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use libp2p::{Multiaddr, multiaddr::Protocol};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};

/// Passes TCP connections on to a node and counts what goes through them, in both directions: the payload of TCP, with
/// encryption and multiplexing, without the headers of TCP and IP.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Where to reach the node through it.
    pub(crate) address: Multiaddr,
    bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    /// Ended when it is dropped.
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// A proxy in front of the node at `/ip4/../tcp/../p2p/..`.
    pub(crate) async fn before(node: &Multiaddr) -> Result<Self> {
        let mut parts = node.iter();
        let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port)), Some(peer)) =
            (parts.next(), parts.next(), parts.next())
        else {
            anyhow::bail!("expected an address with TCP, got {node}");
        };
        let target = SocketAddr::from((ip, port));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen")?;
        let own = listener.local_addr()?;
        let address = Multiaddr::from(own.ip()).with(Protocol::Tcp(own.port())).with(peer);
        let (bytes, connections): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&bytes), Arc::clone(&connections)));
        Ok(Self { address, bytes, connections, _tasks: tasks })
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

async fn accept(
    listener: TcpListener,
    target: SocketAddr,
    bytes: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
) {
    let mut pipes = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(target).await else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
            continue;
        }
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        pipes.spawn(pass_on(from_client, to_server, Arc::clone(&bytes)));
        pipes.spawn(pass_on(from_server, to_client, Arc::clone(&bytes)));
    }
}

async fn pass_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, bytes: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        if to.write_all(buffer.get(..length).unwrap_or_default()).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
