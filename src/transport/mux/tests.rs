#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::future::poll_fn;

use futures::{AsyncReadExt, AsyncWriteExt, future::join_all};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;

const STREAMS: usize = 100;
const LENGTH: usize = 200 << 10;
/// The longest frame that a peer of good will sends.
const FRAME: usize = 17 << 10;

type Connection = Muxer<Compat<DuplexStream>>;

/// Both ends of a connection; the second has the budget.
async fn connected(budget: &Budget) -> (Connection, Connection) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let near = Config::new(Budget::new(usize::MAX)).upgrade_outbound(near.compat(), "").await;
    let far = Config::new(budget.clone()).upgrade_inbound(far.compat(), "").await;
    (near.unwrap(), far.unwrap())
}

/// Does what there is to do for a connection; the streams that the peer opens come out of the channel.
fn run(mut muxer: Connection) -> mpsc::Receiver<Stream> {
    let (opened, streams) = mpsc::channel(STREAMS);
    tokio::spawn(async move {
        while let Ok(stream) = poll_fn(|cx| Pin::new(&mut muxer).poll_inbound(cx)).await {
            if opened.send(stream).await.is_err() {
                return;
            }
        }
    });
    streams
}

/// Opens streams and sends so much on each, which ends with its number.
async fn sending(near: &mut Connection) -> Vec<tokio::task::JoinHandle<Stream>> {
    let mut senders = Vec::new();
    for number in 0..STREAMS {
        let mut stream = poll_fn(|cx| Pin::new(&mut *near).poll_outbound(cx)).await.unwrap();
        senders.push(tokio::spawn(async move {
            let mut bytes = vec![7; LENGTH];
            bytes.extend((number as u64).to_be_bytes());
            stream.write_all(&bytes).await.unwrap();
            stream.close().await.unwrap();
            stream
        }));
    }
    senders
}

#[tokio::test]
async fn what_nobody_reads_is_bounded_and_comes_whole_once_somebody_does() {
    const MOST: usize = 1 << 20;
    let budget = Budget::new(MOST);
    let (mut near, far) = connected(&budget).await;
    let unread = far.unread.clone();
    let senders = sending(&mut near).await;
    let (_opened, mut came) = (run(near), run(far));
    // Each sends as much as yamux lets it, 20 MB in all.
    while !unread.is_waited_for() {
        tokio::task::yield_now().await;
        assert!(budget.used() <= MOST + FRAME);
    }
    assert!(budget.used() > MOST);
    // Each by itself: whoever waits for all of them before he reads, or reads one after the other, waits for ever.
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        let (mut stream, budget) = (came.recv().await.unwrap(), budget.clone());
        readers.push(tokio::spawn(async move {
            let (mut bytes, mut piece) = (Vec::new(), vec![0; 1000]);
            loop {
                let length = stream.read(&mut piece).await.unwrap();
                assert!(budget.used() <= MOST + FRAME);
                if length == 0 {
                    break;
                }
                bytes.extend_from_slice(&piece[..length]);
            }
            let (data, number) = bytes.split_at(LENGTH);
            assert!(data.iter().all(|byte| *byte == 7));
            u64::from_be_bytes(number.try_into().unwrap())
        }));
    }
    let mut numbers: Vec<u64> = join_all(readers).await.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..STREAMS as u64));
    join_all(senders).await;
    assert_eq!(budget.used(), 0, "all of it is read");
}

#[tokio::test]
async fn streams_that_nobody_wants_and_connections_that_go_give_back_what_they_held() {
    let budget = Budget::new(1 << 20);
    let (mut near, far) = connected(&budget).await;
    let unread = far.unread.clone();
    let senders = sending(&mut near).await;
    let (_opened, mut came) = (run(near), run(far));
    while !unread.is_waited_for() {
        tokio::task::yield_now().await;
    }
    // Until nobody waits for room any more, each makes room for others.
    let mut dropped = 0;
    while dropped < STREAMS / 2 {
        drop(came.recv().await.unwrap());
        dropped += 1;
    }
    let held = budget.used();
    assert!(held > 0, "the others are still there");
    senders.iter().for_each(tokio::task::JoinHandle::abort);
    drop((_opened, came, unread));
    while budget.used() > 0 {
        tokio::task::yield_now().await;
    }
}
