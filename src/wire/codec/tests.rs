#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::time::Duration;

use futures::io::Cursor;
use libp2p::request_response::Codec as _;
use p2pdb_protocol::{
    codec::bounded::List,
    id::TableId,
    message::{
        Status,
        hello::{Hello, HelloRequest, HelloResponse},
        put::Put,
    },
    network::Network,
};

use super::*;
use crate::wire::protocol_name;

fn codec<O: Operation>(budget: usize) -> Codec<O> {
    Codec::new(Budget::new(budget), Duration::from_secs(10))
}

async fn read<O: Operation>(codec: &mut Codec<O>, bytes: &[u8]) -> io::Result<Received<O::Request>> {
    let name = protocol_name::<O>(&Network::default());
    codec.read_request(&name, &mut Cursor::new(bytes)).await
}

async fn written(request: HelloRequest) -> Vec<u8> {
    let mut io = Cursor::new(Vec::new());
    let name = protocol_name::<Hello>(&Network::default());
    codec::<Hello>(1000).write_request(&name, &mut io, Received::outbound(request)).await.unwrap();
    io.into_inner()
}

#[tokio::test]
async fn what_is_written_is_read_again() {
    let bytes = written(HelloRequest::default()).await;
    let read = read(&mut codec::<Hello>(1000), &bytes).await.unwrap();
    assert_eq!(read.request.unwrap(), HelloRequest::default());
}

#[tokio::test]
async fn a_byte_after_the_frame_and_a_missing_byte_are_errors() {
    let mut bytes = written(HelloRequest::default()).await;
    bytes.push(0);
    assert_eq!(read(&mut codec::<Hello>(1000), &bytes).await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    bytes.truncate(bytes.len() - 2);
    assert_eq!(
        read(&mut codec::<Hello>(1000), &bytes).await.unwrap_err().kind(),
        io::ErrorKind::UnexpectedEof
    );
}

#[tokio::test]
async fn a_length_over_the_limit_is_rejected_without_reading_on() {
    let mut bytes = vec![0xff, 0xff, 0xff, 0x7f];
    bytes.extend([0; 100]);
    let read = read(&mut codec::<Put>(1 << 30), &bytes).await.unwrap();
    assert_eq!(read.request.unwrap_err(), Rejected::Malformed);
}

#[tokio::test]
async fn long_and_wasteful_prefixes_are_errors() {
    for prefix in [&[0x80, 0x00][..], &[0x80, 0x80, 0x80, 0x80, 0x01]] {
        let error = read(&mut codec::<Hello>(1000), prefix).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[tokio::test]
async fn requests_over_the_budget_are_rejected_until_earlier_ones_are_dropped_and_small_ones_are_not() {
    let tables = List::try_from(vec![TableId::from_bytes([7; 32]); 200]).unwrap();
    let long = written(HelloRequest { record: None, tables: Some(tables) }).await;
    assert!(long.len() > SMALL_REQUEST);
    let mut codec = codec::<Hello>(long.len());
    let first = read(&mut codec, &long).await.unwrap();
    assert_eq!(read(&mut codec, &long).await.unwrap().request.unwrap_err(), Rejected::Overloaded);
    let small = written(HelloRequest::default()).await;
    assert!(read(&mut codec, &small).await.unwrap().request.is_ok());
    drop(first);
    assert!(read(&mut codec, &long).await.unwrap().request.is_ok());
}

#[tokio::test]
async fn garbage_is_malformed() {
    let read = read(&mut codec::<Hello>(1000), &[3, 0xff, 0x00, 0x01]).await.unwrap();
    assert_eq!(read.request.unwrap_err(), Rejected::Malformed);
}

#[tokio::test]
async fn a_response_holds_its_bytes_until_it_is_written_or_given_up() {
    let reply: Reply<HelloResponse> = Reply::retry(Status::Busy, 7);
    let (budget, name) = (Budget::new(100), protocol_name::<Hello>(&Network::default()));
    let mut codec = codec::<Hello>(1000);
    let response = |held| Response::encode(&reply, Hello::MAX_RESPONSE).unwrap().holding(held);
    let given_up = response(budget.take(100).unwrap());
    assert!(budget.take(1).is_none() && given_up.len() > 3);
    drop(given_up);
    let written = response(budget.take(100).unwrap());
    let mut io = Cursor::new(Vec::new());
    codec.write_response(&name, &mut io, written).await.unwrap();
    assert!(budget.take(100).is_some());
    let read = codec.read_response(&name, &mut Cursor::new(io.into_inner())).await.unwrap();
    assert_eq!(read.into_reply(), Some(reply));
    assert!(Response::encode(&Reply::Ok([0_u64; 10]), 5).is_err(), "longer than may be sent");
}
