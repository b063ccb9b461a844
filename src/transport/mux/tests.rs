#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::{future::poll_fn, time::Duration};

use futures::{AsyncReadExt, AsyncWriteExt, future::join_all};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

use super::*;

const STREAMS: usize = 100;
const LENGTH: usize = 200 << 10;
const MOST: usize = 1 << 20;
/// For what does not come: all of this takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);
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

/// Waits until it is so; however busy the machine is.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    assert!(timeout(PATIENCE, waiting).await.is_ok(), "{what}");
}

/// The next stream that the peer opens; does what there is to do for the connection.
fn poll_next(muxer: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<Stream>> {
    if let Poll::Ready(Err(error)) = Pin::new(&mut *muxer).poll(cx) {
        return Poll::Ready(Err(error));
    }
    Pin::new(muxer).poll_inbound(cx)
}

/// Does what there is to do for a connection; the streams that the peer opens come out of the channel.
fn run(mut muxer: Connection) -> mpsc::Receiver<Stream> {
    let (opened, streams) = mpsc::channel(STREAMS);
    tokio::spawn(async move {
        while let Ok(stream) = poll_fn(|cx| poll_next(&mut muxer, cx)).await {
            if opened.send(stream).await.is_err() {
                return;
            }
        }
    });
    streams
}

/// Opens streams and sends so much on each, which ends with its number.
async fn sending(near: &mut Connection) -> Vec<JoinHandle<Stream>> {
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
    let budget = Budget::new(MOST);
    let (mut near, far) = connected(&budget).await;
    let unread = far.unread.clone();
    let senders = sending(&mut near).await;
    let (_opened, mut came) = (run(near), run(far));
    // Each sends as much as yamux lets it, 20 MB in all.
    until("the far end waits", || {
        assert!(budget.used() <= MOST + FRAME);
        unread.waits()
    })
    .await;
    assert!(budget.used() > MOST);
    // Each by itself: whoever waits for all of them before he reads, or reads one after the other, waits for ever.
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        let came = timeout(PATIENCE, came.recv()).await.unwrap();
        let (mut stream, budget) = (came.unwrap(), budget.clone());
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
    let read = timeout(PATIENCE, join_all(readers)).await.unwrap();
    let mut numbers: Vec<u64> = read.into_iter().map(Result::unwrap).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..STREAMS as u64));
    drop(timeout(PATIENCE, join_all(senders)).await.unwrap());
    until("all of it is given back", || budget.used() == 0).await;
}

#[tokio::test]
async fn streams_that_nobody_wants_make_room_for_others() {
    let budget = Budget::new(MOST);
    let (mut near, far) = connected(&budget).await;
    let unread = far.unread.clone();
    let senders = sending(&mut near).await;
    let (_opened, mut came) = (run(near), run(far));
    until("the far end waits", || unread.waits()).await;
    // All of them come only if those before made room.
    for _ in 0..STREAMS {
        drop(timeout(PATIENCE, came.recv()).await.unwrap().unwrap());
    }
    drop(timeout(PATIENCE, join_all(senders)).await.unwrap());
    until("all of it is given back", || budget.used() == 0).await;
}

/// A frame as yamux writes it: window updates have no body.
fn frame(kind: u8, flags: u16, stream: u32, data: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend((data.len() as u32).to_be_bytes());
    frame.extend_from_slice(data);
    frame
}

const DATA: u8 = 0;
const SYN: u16 = 1;

/// A connection with the budget, and the bytes below its peer's end.
async fn raw(budget: &Budget) -> (DuplexStream, Connection) {
    let (near, far) = tokio::io::duplex(64 << 10);
    let far = Config::new(budget.clone()).upgrade_inbound(far.compat(), "").await.unwrap();
    (near, far)
}

#[tokio::test]
async fn streams_that_yamux_refuses_take_nothing() {
    let budget = Budget::new(MOST);
    let (near, far) = raw(&budget).await;
    let unread = far.unread.clone();
    let _came = run(far);
    let (mut reader, mut writer) = tokio::io::split(near);
    // It says each time that this is not how one does it.
    let told = tokio::spawn(async move {
        let mut goaway = [0; 12];
        for _ in 0..5000 {
            reader.read_exact(&mut goaway).await.unwrap();
        }
    });
    for number in 1..=5000 {
        // Even numbers are those of the other side's streams.
        writer.write_all(&frame(DATA, SYN, 2 * number, &[7; 100])).await.unwrap();
    }
    timeout(PATIENCE, told).await.unwrap().unwrap();
    assert_eq!(unread.streams(), 0);
    assert!(budget.used() < 1000, "at most the last one");
}

#[tokio::test]
async fn what_is_dropped_counts_until_yamux_knows() {
    let budget = Budget::new(MOST);
    let (near, far) = raw(&budget).await;
    let unread = far.unread.clone();
    let mut came = run(far);
    let (mut reader, mut writer) = tokio::io::split(near);
    // An answer that the peer does not take: yamux cannot write.
    writer.write_all(&frame(DATA, SYN, 1, b"question")).await.unwrap();
    let mut asked = came.recv().await.unwrap();
    let answering = tokio::spawn(async move { asked.write_all(&vec![7; 250_000]).await });
    until("it cannot write", || unread.is_blocked()).await;
    let sending = tokio::spawn(async move {
        for number in 1..40 {
            writer.write_all(&frame(DATA, SYN, 2 * number + 1, &[7; 100_000])).await.unwrap();
        }
        writer
    });
    let dropping = tokio::spawn(async move { while came.recv().await.is_some() {} });
    until("it waits, though nobody holds any of them", || unread.waits() || sending.is_finished()).await;
    assert!(budget.used() > MOST);
    // The peer takes the answer: so yamux gets on.
    let taking =
        tokio::spawn(
            async move { while reader.read(&mut [0; 1000]).await.is_ok_and(|length| length > 0) {} },
        );
    drop(timeout(PATIENCE, sending).await.unwrap().unwrap());
    timeout(PATIENCE, answering).await.unwrap().unwrap().unwrap();
    until("all of it is given back", || budget.used() == 0).await;
    taking.abort();
    dropping.abort();
}

#[tokio::test]
async fn a_connection_closes_though_its_peer_takes_nothing() {
    let budget = Budget::new(MOST);
    let (mut near, mut far) = raw(&budget).await;
    near.write_all(&frame(DATA, SYN, 1, b"question")).await.unwrap();
    let mut asked = poll_fn(|cx| poll_next(&mut far, cx)).await.unwrap();
    let answering = tokio::spawn(async move { asked.write_all(&vec![7; 250_000]).await });
    let unread = far.unread.clone();
    let closed = tokio::spawn(async move {
        // Until nothing goes out any more.
        poll_fn(|cx| {
            assert!(poll_next(&mut far, cx).is_pending());
            if unread.is_blocked() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        poll_fn(|cx| Pin::new(&mut far).poll_close(cx)).await
    });
    assert!(timeout(PATIENCE, closed).await.is_ok());
    timeout(PATIENCE, answering).await.unwrap().unwrap().unwrap_err();
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn who_waits_on_a_stream_is_told_when_this_end_closes_the_connection() {
    let budget = Budget::new(MOST);
    let (mut near, far) = connected(&budget).await;
    let mut open = async || poll_fn(|cx| Pin::new(&mut near).poll_outbound(cx)).await.unwrap();
    let (mut asking, mut sending) = (open().await, open().await);
    // The peer takes both and does not care.
    let unread = far.unread.clone();
    let mut came = run(far);
    let idle = tokio::spawn(async move { (came.recv().await, came.recv().await, came.recv().await) });
    let reader = tokio::spawn(async move {
        asking.write_all(b"question").await.unwrap();
        asking.read(&mut [0]).await
    });
    let writer = tokio::spawn(async move { sending.write_all(&vec![7; 1 << 20]).await });
    let closed = tokio::spawn(async move {
        poll_fn(|cx| {
            assert!(poll_next(&mut near, cx).is_pending());
            cx.waker().wake_by_ref();
            if unread.all() >= 256 << 10 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        poll_fn(|cx| Pin::new(&mut near).poll_close(cx)).await
    });
    timeout(PATIENCE, closed).await.unwrap().unwrap().unwrap();
    timeout(PATIENCE, reader).await.unwrap().unwrap().unwrap_err();
    timeout(PATIENCE, writer).await.unwrap().unwrap().unwrap_err();
    idle.abort();
}

#[tokio::test]
async fn what_its_peer_does_not_take_is_bounded_and_goes_out_whole_once_it_does() {
    let budget = Budget::new(MOST);
    let (near, mut far) = connected(&budget).await;
    let unsent = far.unsent.clone();
    let senders = sending(&mut far).await;
    let mut short = poll_fn(|cx| Pin::new(&mut far).poll_outbound(cx)).await.unwrap();
    let _came = run(far);
    until("as much is written as may be", || {
        assert!(unsent.used() <= unsent::MOST + unsent::MAX_WRITE);
        unsent.used() > unsent::MOST
    })
    .await;
    // Whatever else the senders get to do.
    for _ in 0..10 * STREAMS {
        tokio::task::yield_now().await;
    }
    assert!(unsent.used() <= unsent::MOST + unsent::MAX_WRITE, "{}", unsent.used());
    // Meanwhile a few bytes are written all the same.
    timeout(PATIENCE, short.write_all(&[7; 32])).await.unwrap().unwrap();
    short.close().await.unwrap();
    let mut came = run(near);
    let mut readers = Vec::new();
    for _ in 0..=STREAMS {
        let mut stream = timeout(PATIENCE, came.recv()).await.unwrap().unwrap();
        readers.push(tokio::spawn(async move { stream.read_to_end(&mut Vec::new()).await.unwrap() }));
    }
    let lengths = timeout(PATIENCE, join_all(readers)).await.unwrap().into_iter();
    let (whole, short): (Vec<_>, Vec<_>) = lengths.map(Result::unwrap).partition(|length| *length > 32);
    assert_eq!((whole, short), (vec![LENGTH + 8; STREAMS], vec![32]));
    drop(timeout(PATIENCE, join_all(senders)).await.unwrap());
    assert_eq!(unsent.used(), 0);
}
