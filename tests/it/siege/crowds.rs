//! Who comes in great numbers.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use futures::future::join_all;

use super::{Blame, MAX_INCOMING, MAX_PENDING, Siege};
use crate::{cli::text, peer::Peer, support::until};

const SOCKETS: usize = 2000;
/// Peers with ids of their own that come together; then they go, and others come.
const WAVE: usize = 150;
const WAVES: usize = 3;
/// The honest client and the other nodes: some may have two connections.
const HONEST: usize = 3;
/// Those who come when all places are taken, or all but as many as the honest may have two of.
const LATE: usize = 20;

/// Whether the other end closed it.
fn is_closed(mut socket: &TcpStream) -> bool {
    match socket.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

pub(super) async fn silent_connections(siege: &mut Siege) {
    // Nobody can join meanwhile: this one is there already, and stays.
    siege.mark().await;
    siege.join().await;
    let port = text(siege.node.address.as_ref()).split('/').nth(4).unwrap().parse::<u16>().unwrap();
    let connect = || {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let sockets: Vec<TcpStream> = (0..SOCKETS).map(|_| connect()).collect();
    // All but those that may be set up at a time are closed at once;
    until("the node closes what it has no room for", || async {
        sockets.iter().filter(|socket| is_closed(socket)).count() >= SOCKETS - MAX_PENDING
    })
    .await;
    let shut = sockets.iter().filter(|socket| is_closed(socket)).count();
    let trials = format!("{} opened, {shut} shut out", sockets.len());
    siege.under("connections that say nothing", &trials, &[], Blame::None).await;
    // and these once they have said nothing for a while.
    until("the node gives up connections that say nothing", || async { sockets.iter().all(is_closed) }).await;
    // Nor does it listen to what another protocol says.
    let mut page = connect();
    page.write_all(
        b"GET / HTTP/1.1\r\nHost: localhost:4711\r\nOrigin: http://example.org\r\nAccept: */*\r\n\r\n",
    )
    .unwrap();
    until("the node gives up a web page", || async { is_closed(&page) }).await;
}

/// They finish the handshake, and ask nothing.
pub(super) async fn many_ids(siege: &mut Siege) {
    siege.mark().await;
    siege.join().await;
    let mut crowd: Vec<Peer> = Vec::new();
    for _ in 0..WAVES {
        drop(crowd);
        until("the last ones are gone", || async { siege.incoming().await <= HONEST }).await;
        crowd = (0..WAVE).map(|_| Peer::start(&siege.network)).collect();
        // Who comes too late is shut out.
        join_all(crowd.iter().map(|peer| peer.connect(&siege.address))).await;
        until("all places are taken", || async { siege.incoming().await >= MAX_INCOMING - HONEST }).await;
    }
    let late: Vec<Peer> = (0..LATE).map(|_| Peer::start(&siege.network)).collect();
    join_all(late.iter().map(|peer| peer.connect(&siege.address))).await;
    until("nobody gets in who comes when all places are taken", || async {
        let connected = join_all(late.iter().map(|peer| peer.is_connected(siege.peer))).await;
        connected.into_iter().filter(|is_connected| *is_connected).count() <= HONEST
    })
    .await;
    let trials = format!("{} peers, {} places taken", WAVES * WAVE + LATE, siege.incoming().await);
    siege.under("peers with ids of their own", &trials, &[], Blame::None).await;
    siege.far.1 = None;
    drop(crowd);
    until("their places are free again", || async { siege.incoming().await <= HONEST }).await;
}
