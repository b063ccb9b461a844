//! WebSocket over TCP, with TLS where this end dials.
//!
//! libp2p's WebSocket listens. What it dials may announce messages of 256 MiB, for which it makes room before anything of them is
//! there, and before it is known who is at the other end. So this dials by itself.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures::{
    AsyncRead, AsyncWrite, FutureExt, Sink, SinkExt, StreamExt, TryStreamExt,
    future::{BoxFuture, Either},
    io::BufReader,
    sink, stream,
};
use futures_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName},
};
use libp2p::{
    Multiaddr,
    core::transport::{DialOpts, ListenerId, TransportError, TransportEvent},
    dns,
    multiaddr::Protocol,
    tcp, websocket,
};
use soketto::{
    Incoming,
    connection::Error,
    handshake::{Client, ServerResponse},
};

type Tcp = tcp::tokio::Transport;
/// What looks up names before it dials.
type NamedTcp = dns::tokio::Transport<Tcp>;

/// The longest message, in bytes: three times what libp2p's Noise sends at once.
const MAX_MESSAGE: usize = 256 << 10;

/// What a server may say before it speaks WebSocket, in bytes.
const MAX_GREETING: usize = 16 << 10;

/// A stream of bytes over WebSocket, whoever began it.
pub(super) type Connection = Either<<websocket::Config<Tcp> as libp2p::Transport>::Output, Bytes>;

/// Dials and listens.
pub(super) struct Transport {
    tcp: NamedTcp,
    listener: websocket::Config<Tcp>,
    tls: TlsConnector,
}

impl Transport {
    /// Two transports below: one to dial, one to listen.
    pub(super) fn new(dial: NamedTcp, listen: Tcp) -> Result<Self, futures_rustls::rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        Self::trusting(roots, dial, listen)
    }

    fn trusting(
        roots: RootCertStore,
        dial: NamedTcp,
        listen: Tcp,
    ) -> Result<Self, futures_rustls::rustls::Error> {
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut listener = websocket::Config::new(listen);
        listener.set_max_data_size(MAX_MESSAGE);
        Ok(Self { tcp: dial, listener, tls: TlsConnector::from(Arc::new(tls)) })
    }
}

impl libp2p::Transport for Transport {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Connection>>;
    type Dial = BoxFuture<'static, io::Result<Connection>>;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        self.listener.listen_on(id, address).map_err(|error| error.map(io::Error::other))
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.listener.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(server) = Server::of(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let dialing = self.tcp.dial(server.tcp.clone(), options);
        let dialing = dialing.map_err(|error| error.map(io::Error::other))?;
        let tls = self.tls.clone();
        let dial = async move {
            let stream = dialing.await.map_err(io::Error::other)?;
            let bytes = match server.name.clone() {
                Some(name) => server.greet(tls.connect(name, stream).await?).await,
                None => server.greet(stream).await,
            };
            bytes.map(Either::Right)
        };
        Ok(dial.boxed())
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        let event = Pin::new(&mut self.get_mut().listener).poll(cx);
        event.map(|event| {
            let upgrade = event.map_upgrade(|upgrade| {
                upgrade.map(|stream| stream.map(Either::Left).map_err(io::Error::other)).boxed()
            });
            upgrade.map_err(io::Error::other)
        })
    }
}

/// What a multiaddr says of a WebSocket server.
#[derive(Debug)]
struct Server {
    /// Where it is,
    tcp: Multiaddr,
    /// as it is called,
    host: String,
    path: String,
    /// and the name of its certificate, if it has one.
    name: Option<ServerName<'static>>,
}

impl Server {
    /// None for what is no address of a WebSocket server.
    fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let (at, Protocol::Tcp(port)) = (parts.next()?, parts.next()?) else { return None };
        let (host, name) = match &at {
            Protocol::Ip4(ip) => (ip.to_string(), ServerName::from(std::net::IpAddr::V4(*ip))),
            Protocol::Ip6(ip) => (format!("[{ip}]"), ServerName::from(std::net::IpAddr::V6(*ip))),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                (name.to_string(), ServerName::try_from(name.to_string()).ok()?)
            }
            _ => return None,
        };
        let (name, path) = match parts.next()? {
            Protocol::Ws(path) => (None, path),
            Protocol::Wss(path) => (Some(name), path),
            Protocol::Tls => match parts.next()? {
                Protocol::Ws(path) => (Some(name), path),
                Protocol::Sni(name) => match parts.next()? {
                    Protocol::Ws(path) => (Some(ServerName::try_from(name.to_string()).ok()?), path),
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        };
        // All that may follow is who it is.
        if !matches!(parts.next(), None | Some(Protocol::P2p(_))) || parts.next().is_some() {
            return None;
        }
        // It is sent as it is, before anybody has said who he is: an address must not say lines of another protocol.
        if !path.starts_with('/') || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let tcp = Multiaddr::empty().with(at).with(Protocol::Tcp(port));
        Some(Self { tcp, host: format!("{host}:{port}"), path: path.into_owned(), name })
    }

    /// Asks for WebSocket on a stream. Who sends this node elsewhere is not followed.
    async fn greet<S>(&self, stream: S) -> io::Result<Bytes>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let left = Arc::new(AtomicUsize::new(MAX_GREETING));
        let stream = Limited { stream, left: Arc::clone(&left) };
        let mut client = Client::new(BufReader::new(stream), &self.host, &self.path);
        match client.handshake().await.map_err(io::Error::other)? {
            ServerResponse::Accepted { .. } => left.store(usize::MAX, Ordering::Relaxed),
            ServerResponse::Redirect { status_code, .. } | ServerResponse::Rejected { status_code } => {
                return Err(io::Error::other(format!("no WebSocket, but HTTP status {status_code}")));
            }
        }
        let mut builder = client.into_builder();
        builder.set_max_message_size(MAX_MESSAGE);
        builder.set_max_frame_size(MAX_MESSAGE);
        let (sender, receiver) = builder.finish();
        let messages = stream::unfold(receiver, async |mut receiver| {
            loop {
                let mut message = Vec::new();
                match receiver.receive(&mut message).await {
                    Ok(Incoming::Data(_)) => return Some((Ok(message), receiver)),
                    Ok(Incoming::Pong(_)) => {}
                    Ok(Incoming::Closed(_)) | Err(Error::Closed) => return None,
                    Err(error) => return Some((Err(io::Error::other(error)), receiver)),
                }
            }
        });
        let sink = sink::unfold(sender, async |mut sender, outgoing| {
            match outgoing {
                Outgoing::Message(message) => {
                    sender.send_binary_mut(message).await.map_err(io::Error::other)?;
                    sender.flush().await.map_err(io::Error::other)?;
                }
                Outgoing::Close => sender.close().await.map_err(io::Error::other)?,
            }
            Ok(sender)
        });
        let reader = Box::pin(messages.boxed().into_async_read());
        Ok(Bytes { reader, writer: Some(Box::pin(sink)), is_closing: false })
    }
}

/// A stream of which so much is read at most.
struct Limited<S> {
    stream: S,
    left: Arc<AtomicUsize>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Limited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.left.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "a greeting is too long")));
        }
        let (buffer, _) = buffer.split_at_mut(buffer.len().min(left));
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if left != usize::MAX {
            self.left.fetch_sub(read, Ordering::Relaxed);
        }
        Poll::Ready(Ok(read))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Limited<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

enum Outgoing {
    Message(Vec<u8>),
    Close,
}

type Writer = Pin<Box<dyn Sink<Outgoing, Error = io::Error> + Send>>;

/// The bytes of the messages that come, and of those that are sent.
pub(super) struct Bytes {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// None once it failed: it must not be asked again.
    writer: Option<Writer>,
    is_closing: bool,
}

impl Bytes {
    /// What the writer says, as long as it has not failed.
    fn with_writer<T>(
        &mut self,
        act: impl FnOnce(&mut Writer) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(writer) = &mut self.writer else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let result = act(writer);
        if let Poll::Ready(Err(_)) = result {
            self.writer = None;
        }
        result
    }

    fn poll_send(
        &mut self,
        cx: &mut Context<'_>,
        outgoing: impl FnOnce() -> Outgoing,
    ) -> Poll<io::Result<()>> {
        self.with_writer(|writer| {
            ready!(writer.poll_ready_unpin(cx))?;
            Poll::Ready(writer.start_send_unpin(outgoing()))
        })
    }
}

impl AsyncRead for Bytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reader.as_mut().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Bytes {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let (message, _) = buffer.split_at(buffer.len().min(MAX_MESSAGE));
        ready!(self.poll_send(cx, || Outgoing::Message(message.to_vec())))?;
        Poll::Ready(Ok(message.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with_writer(|writer| writer.poll_flush_unpin(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_closing {
            ready!(self.poll_send(cx, || Outgoing::Close))?;
            self.is_closing = true;
        }
        self.with_writer(|writer| writer.poll_flush_unpin(cx))
    }
}

#[cfg(test)]
mod tests;
