#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use futures::io::Cursor;
use p2pdb_protocol::{
    codec::bounded::List,
    id::TableId,
    message::{
        Status,
        hello::{Hello, HelloRequest, HelloResponse},
        put::Put,
    },
};

use super::*;

async fn read<O: Operation>(budget: &Budget, bytes: &[u8]) -> io::Result<Received<O::Request>> {
    let mut io = Cursor::new(bytes);
    let first = begin(&mut io).await?.unwrap();
    read_request::<O, _>(&mut io, first, budget).await
}

async fn written(request: HelloRequest) -> Vec<u8> {
    let mut io = Cursor::new(Vec::new());
    Frame::request::<Hello>(&request).unwrap().send(&mut io).await.unwrap();
    io.into_inner()
}

#[tokio::test]
async fn what_is_written_is_read_again_one_frame_after_the_other() {
    let tables = |count| Some(List::try_from(vec![TableId::from_bytes([7; 32]); count]).unwrap());
    let requests = [0, 1, 3, 4, 200].map(|count| HelloRequest { record: None, tables: tables(count) });
    let mut bytes = Vec::new();
    for request in &requests {
        bytes.extend(written(request.clone()).await);
    }
    let (mut io, budget) = (Cursor::new(bytes), Budget::new(1 << 20));
    for request in requests {
        let first = begin(&mut io).await.unwrap().unwrap();
        let read = read_request::<Hello, _>(&mut io, first, &budget).await.unwrap();
        assert_eq!(read.request.unwrap(), request);
    }
    assert_eq!(begin(&mut io).await.unwrap(), None);
}

#[tokio::test]
async fn a_length_is_written_in_its_shortest_form() {
    for (length, prefix) in [
        (1, &[1][..]),
        (127, &[127]),
        (128, &[0x80, 1]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 1]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 1]),
    ] {
        // A text is its length and its bytes.
        let head = [1_usize, 24, 256, 65_536].iter().filter(|from| length > **from).count();
        let head = [1, 1, 2, 3, 5][head];
        let frame = Frame::encode(&"x".repeat(length - head), length).unwrap();
        assert_eq!(frame.message_bytes(), length);
        let mut io = Cursor::new(Vec::new());
        frame.send(&mut io).await.unwrap();
        let written = io.into_inner();
        assert_eq!(&written[..prefix.len()], prefix);
        assert_eq!(written.len(), prefix.len() + length);
    }
}

#[tokio::test]
async fn a_missing_byte_is_an_error() {
    let mut bytes = written(HelloRequest::default()).await;
    bytes.pop();
    let error = read::<Hello>(&Budget::new(1000), &bytes).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn a_length_over_the_limit_is_rejected_without_reading_on() {
    let mut bytes = vec![0xff, 0xff, 0xff, 0x7f];
    bytes.extend([0; 100]);
    let read = read::<Put>(&Budget::new(1 << 30), &bytes).await.unwrap();
    assert_eq!(read.request.unwrap_err(), Rejected::TooLong);
}

#[tokio::test]
async fn long_and_wasteful_prefixes_are_errors() {
    for prefix in [&[0x80, 0x00][..], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
        let error = read::<Hello>(&Budget::new(1000), prefix).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn requests_over_the_budget_are_rejected_until_earlier_ones_are_dropped_and_small_ones_are_not() {
    let tables = List::try_from(vec![TableId::from_bytes([7; 32]); 200]).unwrap();
    let long = written(HelloRequest { record: None, tables: Some(tables) }).await;
    assert!(long.len() > SMALL_REQUEST);
    let budget = Budget::new(long.len());
    let first = read::<Hello>(&budget, &long).await.unwrap();
    assert_eq!(read::<Hello>(&budget, &long).await.unwrap().request.unwrap_err(), Rejected::Overloaded);
    let small = written(HelloRequest::default()).await;
    assert!(read::<Hello>(&budget, &small).await.unwrap().request.is_ok());
    drop(first);
    assert!(read::<Hello>(&budget, &long).await.unwrap().request.is_ok());
}

#[tokio::test]
async fn garbage_is_malformed() {
    let read = read::<Hello>(&Budget::new(1000), &[3, 0xff, 0x00, 0x01]).await.unwrap();
    assert_eq!(read.request.unwrap_err(), Rejected::Malformed);
}

#[tokio::test]
async fn a_reply_holds_its_bytes_until_it_is_dropped() {
    let reply: Reply<HelloResponse> = Reply::retry(Status::Busy, 7);
    let budget = Budget::new(100);
    let frame = Frame::reply::<Hello>(&reply).unwrap().holding(budget.take(100).unwrap());
    assert!(budget.take(1).is_none() && frame.message_bytes() > 3);
    let mut io = Cursor::new(Vec::new());
    frame.send(&mut io).await.unwrap();
    drop(frame);
    assert!(budget.take(100).is_some());
    let mut io = Cursor::new(io.into_inner());
    let first = begin(&mut io).await.unwrap().unwrap();
    assert_eq!(read_reply::<Hello, _>(&mut io, first).await.unwrap(), reply);
    assert!(Frame::encode(&[0_u64; 10], 5).is_err(), "longer than may be sent");
}
