#![allow(clippy::unwrap_used)]

use std::{future::poll_fn, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{
    Transport as _,
    core::{Endpoint, transport::PortUse},
    dns, tcp,
    websocket::tls,
};
use soketto::handshake::{Server as Handshake, server::Response};
use tokio::{net::TcpListener, time::timeout};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::*;

/// For what does not come: all of this takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
const OPTIONS: DialOpts = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };

fn tcp() -> Tcp {
    tcp::tokio::Transport::new(tcp::Config::default())
}

fn names() -> NamedTcp {
    dns::tokio::Transport::system(tcp()).unwrap()
}

async fn dial(transport: &mut Transport, address: &Multiaddr) -> io::Result<Connection> {
    timeout(PATIENCE, transport.dial(address.clone(), OPTIONS).unwrap()).await.unwrap()
}

/// Listens, and sends back what comes on each connection; says where.
async fn echo(mut listener: Transport, address: &str) -> Multiaddr {
    listener.listen_on(ListenerId::next(), address.parse().unwrap()).unwrap();
    let event = poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await;
    let listening = event.into_new_address().unwrap();
    tokio::spawn(async move {
        while let Some((upgrade, _)) = poll_fn(|cx| Pin::new(&mut listener).poll(cx)).await.into_incoming() {
            tokio::spawn(async move {
                let (mut stream, mut bytes) = (upgrade.await.unwrap(), vec![0; 10_000]);
                while let Ok(length @ 1..) = stream.read(&mut bytes).await {
                    stream.write_all(bytes.get(..length).unwrap()).await.unwrap();
                    stream.flush().await.unwrap();
                }
            });
        }
    });
    listening
}

/// Sends so much, and reads it back.
async fn echoes(connection: Connection, length: usize) {
    let sent: Vec<u8> = (0..length).map(|number| (number % 251) as u8).collect();
    let (mut reader, mut writer) = connection.split();
    let writing = async {
        writer.write_all(&sent).await.unwrap();
        writer.flush().await.unwrap();
    };
    let reading = async {
        let mut got = vec![0; length];
        reader.read_exact(&mut got).await.unwrap();
        got
    };
    let ((), got) = timeout(PATIENCE, futures::future::join(writing, reading)).await.unwrap();
    assert!(got == sent);
}

#[tokio::test]
async fn what_is_sent_comes_back() {
    let address = echo(Transport::new(names(), tcp()).unwrap(), "/ip4/127.0.0.1/tcp/0/ws").await;
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    echoes(dial(&mut dialer, &address).await.unwrap(), 1).await;
    echoes(dial(&mut dialer, &address).await.unwrap(), 5_000_000).await;
}

#[tokio::test]
async fn a_certificate_is_looked_at() {
    let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = tls::PrivateKey::new(signed.key_pair.serialize_der());
    let mut listener = Transport::new(names(), tcp()).unwrap();
    listener
        .listener
        .set_tls_config(tls::Config::new(key, [tls::Certificate::new(signed.cert.der().to_vec())]).unwrap());
    let address = echo(listener, "/ip4/127.0.0.1/tcp/0/tls/ws").await;
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let mut trusting = Transport::trusting(roots, names(), tcp()).unwrap();
    echoes(dial(&mut trusting, &address).await.unwrap(), 100_000).await;
    let wss: Multiaddr = address.to_string().replace("/tls/ws", "/wss").parse().unwrap();
    echoes(dial(&mut trusting, &wss).await.unwrap(), 100_000).await;
    let mut others = Transport::new(names(), tcp()).unwrap();
    assert!(dial(&mut others, &address).await.is_err(), "nobody vouches for it");
}

/// The header of a message of so many bytes.
fn header(length: usize) -> Vec<u8> {
    [&[0x82, 127][..], &(length as u64).to_be_bytes()].concat()
}

/// Who greets a dialer on a stream, and then does as it likes.
async fn greet(listener: TcpListener) -> tokio::net::TcpStream {
    let (stream, _) = listener.accept().await.unwrap();
    let mut server = Handshake::new(stream.compat());
    let request = server.receive_request().await.unwrap();
    let response = Response::Accept { key: request.key(), protocol: None };
    server.send_response(&response).await.unwrap();
    server.into_inner().into_inner()
}

async fn listen() -> (TcpListener, Multiaddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}/ws", listener.local_addr().unwrap().port());
    (listener, address.parse().unwrap())
}

/// What comes of a server that says it will send a message of so many bytes, and sends some of it.
async fn announced(length: usize, sent: usize) -> io::Result<usize> {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let mut stream = greet(listener).await;
        let bytes = [header(length), vec![7; sent]].concat();
        // The other end may have enough before all of it is there.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await;
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
    });
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    let mut connection = dial(&mut dialer, &address).await.unwrap();
    let read = timeout(PATIENCE, connection.read(&mut [0; 100])).await.unwrap();
    drop(connection);
    server.await.unwrap();
    read
}

#[tokio::test]
async fn nothing_is_kept_ready_for_what_a_server_says_that_it_will_send() {
    assert!(announced(MAX_MESSAGE + 1, 10).await.is_err());
    assert!(announced(200 << 20, 10).await.is_err());
    assert_eq!(announced(MAX_MESSAGE, MAX_MESSAGE).await.unwrap(), 100);
}

#[tokio::test]
async fn a_greeting_without_end_is_not_listened_to() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let start = b"HTTP/1.1 101 Switching Protocols\r\nX: ".to_vec();
        let bytes = [start, vec![b'a'; 10 << 20]].concat();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &bytes).await.is_err()
    });
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    assert!(dial(&mut dialer, &address).await.is_err());
    assert!(server.await.unwrap(), "the dialer closed it before all of it was there");
}

#[tokio::test]
async fn a_connection_that_broke_says_so_as_often_as_it_is_asked() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(greet(listener));
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    let mut connection = dial(&mut dialer, &address).await.unwrap();
    drop(server.await.unwrap());
    let failed = async {
        while connection.write_all(&[7; 100_000]).await.is_ok() {
            if connection.flush().await.is_err() {
                break;
            }
        }
    };
    timeout(PATIENCE, failed).await.unwrap();
    assert!(connection.write(&[7]).await.is_err());
    assert!(connection.flush().await.is_err());
    assert!(connection.close().await.is_err());
}

#[tokio::test]
async fn the_other_end_hears_that_a_connection_is_closed() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut stream, mut bytes) = (greet(listener).await, Vec::new());
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut bytes).await.unwrap();
        bytes
    });
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    let mut connection = dial(&mut dialer, &address).await.unwrap();
    timeout(PATIENCE, connection.close()).await.unwrap().unwrap();
    drop(connection);
    // A frame of the kind that closes, from a client.
    assert_eq!(server.await.unwrap().first(), Some(&0x88));
}

#[tokio::test]
async fn who_sends_elsewhere_is_not_followed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let answer = format!("HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:{port}/other\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, answer.as_bytes()).await.unwrap();
        listener
    });
    let mut dialer = Transport::new(names(), tcp()).unwrap();
    assert!(dial(&mut dialer, &format!("/ip4/127.0.0.1/tcp/{port}/ws").parse().unwrap()).await.is_err());
    let listener = server.await.unwrap();
    assert!(listener.accept().now_or_never().is_none());
}

#[test]
fn addresses_of_servers_are_understood_and_no_others() {
    let of = |address: &str| {
        let server = Server::of(&address.parse().unwrap())?;
        let name = server.name.map(|name| name.to_str().into_owned());
        Some((server.tcp.to_string(), server.host, server.path, name))
    };
    let said = |tcp: &str, host: &str, path: &str, name: Option<&str>| {
        Some((tcp.to_owned(), host.to_owned(), path.to_owned(), name.map(str::to_owned)))
    };
    let (ip4, ip6) = ("/ip4/198.51.100.1/tcp/80", "/ip6/2001:db8::1/tcp/80");
    assert_eq!(of(&format!("{ip4}/ws")), said(ip4, "198.51.100.1:80", "/", None));
    assert_eq!(of(&format!("{ip4}/x-parity-ws/%2Fpath")), said(ip4, "198.51.100.1:80", "/path", None));
    assert_eq!(of(&format!("{ip6}/ws")), said(ip6, "[2001:db8::1]:80", "/", None));
    let (dns, id) = ("/dns4/example.org/tcp/443", "12D3KooWGRUVh6YrYKsJm4nWZLXFUNb4vTWgxBJvLbNRJmcxQ1DL");
    let with_tls = |name| said(dns, "example.org:443", "/", Some(name));
    assert_eq!(of(&format!("{dns}/wss")), with_tls("example.org"));
    assert_eq!(of(&format!("{dns}/tls/ws/p2p/{id}")), with_tls("example.org"));
    assert_eq!(of(&format!("{dns}/tls/sni/example.net/ws")), with_tls("example.net"));
    for none in [
        ip4.to_owned(),
        dns.to_owned(),
        "/ip4/198.51.100.1/udp/1/quic-v1".to_owned(),
        format!("{dns}/tls"),
        format!("{dns}/ws/p2p/{id}/p2p-circuit"),
        format!("{dns}/ws/ws"),
        // What would be said as it is.
        format!("{ip4}/x-parity-ws/x%0D%0AFLUSHALL%0D%0A"),
        format!("{ip4}/x-parity-ws/%2Fx%0D%0AFLUSHALL%0D%0A"),
        format!("{ip4}/x-parity-ws/%2Fx y"),
    ] {
        assert_eq!(of(&none), None, "{none}");
    }
}
