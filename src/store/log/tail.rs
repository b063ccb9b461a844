//! What may stand behind the last whole frame: a torn one, of which nobody was told that it was written.

use redb::Error;

use super::{
    frame::{FRAME_HEADER, Frame, KINDS, MOST_BYTES, PAYLOAD_HEADER, sum},
    segment::Segment,
};
use crate::store::schema::damaged;

/// Refuses what lies behind `from` if it is more than one torn frame: then that one was whole when those behind it were
/// written, and somebody may rely on it.
pub(super) fn check(segment: &Segment, store: [u8; 8], from: u64) -> Result<(), Error> {
    let (number, length) = (segment.number, segment.end().saturating_sub(from));
    if length > MOST_BYTES {
        return Err(damaged(format!(
            "the frame at {from} of segment {number} is damaged: {length} bytes lie behind it, expected at most \
             {MOST_BYTES}"
        )));
    }
    let rest = segment.read(from, usize::try_from(length).unwrap_or(usize::MAX))?;
    if let Some(next) = whole_frame(&rest, store, number, from) {
        return Err(damaged(format!(
            "the frame at {from} of segment {number} is damaged, although that at {next} is whole"
        )));
    }
    tracing::warn!(
        segment = number,
        bytes = length,
        "the last write was not finished, and nobody was told that it was"
    );
    Ok(())
}

/// Where the first whole frame in these bytes begins, wherever that is: the length of the one before may be what is damaged.
fn whole_frame(rest: &[u8], store: [u8; 8], segment: u32, from: u64) -> Option<u64> {
    // Somebody's entry can be full of what looks like frames; that must not make opening take for ever.
    let mut left = 4 * rest.len();
    (0..rest.len()).find_map(|at| {
        let payload = looks_like_frame(rest.get(at..)?)?;
        let offset = from + at as u64;
        left = left.checked_sub(payload.len())?;
        let frame = Frame { offset, payload: payload.to_vec() };
        let header = rest.get(at + 4..at + FRAME_HEADER)?;
        let is_whole =
            frame.items().all(|item| item.is_ok()) && header == sum(store, segment, offset, payload);
        is_whole.then_some(offset)
    })
}

/// The payload of a frame that begins here, as far as a few of its bytes can tell.
fn looks_like_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk()?;
    let payload = rest.get(FRAME_HEADER - 4..)?.get(..u32::from_be_bytes(*length) as usize)?;
    let (received, items) = payload.split_at_checked(PAYLOAD_HEADER)?;
    // A time in this millennium or the next ones, and an item of a known kind.
    (received.starts_with(&[0; 3]) && items.first().is_some_and(|kind| KINDS.contains(kind)))
        .then_some(payload)
}
