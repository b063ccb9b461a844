//! Frames of SPEC 8.1, made and taken apart without the node's own code.

use p2pdb::protocol::{
    codec::lenient,
    message::{Reply, Status},
};
use serde::de::IgnoredAny;

/// A frame of SPEC 8.1.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = prefix(body.len());
    frame.extend_from_slice(body);
    frame
}

/// An unsigned varint.
pub(crate) fn prefix(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes
}

/// The body of a frame that is all there is.
pub(super) fn unframed(frame: &[u8]) -> Option<&[u8]> {
    let (body, rest) = split(frame)?;
    rest.is_empty().then_some(body)
}

/// The body of the first frame, and what follows it.
fn split(frames: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = frames.iter().position(|byte| byte & 0x80 == 0)? + 1;
    let length = frames[..end].iter().rev().fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
    frames[end..].split_at_checked(length)
}

pub(crate) fn status(answer: &[u8]) -> Status {
    reply_status(unframed(answer).unwrap())
}

/// The statuses of several answers on one stream.
pub(crate) fn statuses(mut answers: &[u8]) -> Vec<Status> {
    let mut statuses = Vec::new();
    while let Some((reply, rest)) = split(answers) {
        statuses.push(reply_status(reply));
        answers = rest;
    }
    statuses
}

fn reply_status(reply: &[u8]) -> Status {
    match lenient::from_slice::<Reply<IgnoredAny>>(reply).unwrap() {
        Reply::Ok(_) => Status::Ok,
        Reply::Refused { status, .. } => status,
    }
}

/// The framed reply with this body.
pub(crate) fn ok<T: serde::Serialize>(body: T) -> Vec<u8> {
    framed(&lenient::to_vec(&Reply::Ok(body)).unwrap())
}

/// A field of a message of gossip.
pub(crate) fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    [&[tag], &framed(bytes)[..]].concat()
}

/// Something said in a topic, as a part of a frame of gossip.
pub(crate) fn said(topic: &str, data: &[u8]) -> Vec<u8> {
    field(0x12, &[field(0x12, data), field(0x22, topic.as_bytes())].concat())
}
