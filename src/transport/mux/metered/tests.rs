#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, prelude::*};

use super::{super::unread::Budget, *};

/// A frame: its kind, flags, stream, and length field; data has a body.
fn encode(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    if kind == DATA {
        frame.extend(vec![0xff; length as usize]);
    }
    frame
}

#[derive(Debug, Clone)]
struct Came {
    kind: u8,
    flags: u16,
    stream: u32,
    length: u32,
    /// Whether yamux takes the stream that it opens.
    is_taken: bool,
}

fn came() -> impl Strategy<Value = Came> {
    let flags = prop::sample::select(vec![0, SYN, 2, 4, RST, SYN | 4]);
    (0u8..4, flags, 1u32..6, 0u32..200, any::<bool>())
        .prop_map(|(kind, flags, stream, length, is_taken)| Came { kind, flags, stream, length, is_taken })
}

fn unread() -> Unread {
    Unread::new(Budget::new(usize::MAX))
}

proptest! {
    #[test]
    fn however_frames_come_in_pieces_what_counts_is_what_came_on_streams_that_are_taken(
        frames in vec(came(), 1..40),
        piece in 1usize..50,
    ) {
        let (mut parsed, counted, expected) = (Frames::default(), unread(), unread());
        for Came { kind, flags, stream, length, is_taken } in frames {
            for piece in encode(kind, flags, stream, length).chunks(piece) {
                parsed.take(piece, &counted);
            }
            prop_assert!(parsed.at_frame());
            let counts = flags & RST == 0 && kind <= WINDOW_UPDATE;
            let bytes = if counts && kind == DATA { length as usize } else { 0 };
            if counts && flags & SYN != 0 {
                expected.opens(stream, bytes);
                if is_taken {
                    expected.accepted(stream);
                    counted.accepted(stream);
                }
            } else {
                expected.came(stream, bytes);
            }
            prop_assert_eq!(counted.all(), expected.all());
            prop_assert_eq!(counted.streams(), expected.streams());
        }
    }
}

#[test]
fn of_a_frame_that_is_not_whole_counts_what_came() {
    let (unread, mut parsed) = (unread(), Frames::default());
    unread.opened(1);
    let (empty, frame) = (unread.all(), encode(DATA, 0, 1, 100));
    parsed.take(&frame[..HEADER + 70], &unread);
    assert_eq!(unread.all(), empty + 70);
    parsed.take(&frame[HEADER + 70..], &unread);
    assert!(unread.all() >= empty + 100 && unread.read(1, 100));
    assert_eq!(unread.all(), empty);
}

#[test]
fn a_frame_longer_than_any_is_refused_at_its_header() {
    let mut parsed = Frames::default();
    parsed.take(&encode(DATA, 0, 1, 300 << 10)[..HEADER], &unread());
    assert!(parsed.is_too_long());
    let mut parsed = Frames::default();
    parsed.take(&encode(WINDOW_UPDATE, 0, 1, 300 << 10), &unread());
    assert!(!parsed.is_too_long());
}
