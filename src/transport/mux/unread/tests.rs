#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::{collection::vec, prelude::*};

use super::*;

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

proptest! {
    #[test]
    fn however_frames_come_in_pieces_what_is_unread_is_what_came_on_open_streams(
        frames in vec((0u8..4, prop::sample::select(vec![0, SYN, 2, 4, RST, SYN | 4]), 1u32..6, 0u32..200), 1..40),
        pieces in vec(1usize..50, 1..20),
    ) {
        let unread = Unread::new(Budget::new(usize::MAX));
        let (mut expected, mut bytes) = (HashMap::<u32, usize>::new(), Vec::new());
        for (kind, flags, stream, length) in frames {
            bytes.extend(encode(kind, flags, stream, length));
            if flags & RST != 0 || kind > WINDOW_UPDATE {
                continue;
            }
            if flags & SYN != 0 {
                expected.entry(stream).or_default();
            }
            if let Some(cost) = expected.get_mut(&stream).filter(|_| kind == DATA && length > 0) {
                *cost += length as usize + FRAME_OVERHEAD;
            }
        }
        let (mut parsed, mut rest) = (Frames::default(), &bytes[..]);
        for piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at((*piece).min(rest.len()));
            parsed.take(now, &unread);
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert!(parsed.at_frame());
        let inner = unread.lock();
        prop_assert_eq!(inner.all, expected.values().sum::<usize>());
        prop_assert_eq!(inner.streams.len(), expected.len());
    }
}

#[test]
fn reading_and_closing_take_off_what_came() {
    let budget = Budget::new(usize::MAX);
    let unread = Unread::new(budget.clone());
    unread.opened(1);
    unread.came(1, 100, false);
    unread.came(1, 1, false);
    unread.came(2, 50, true);
    assert_eq!(budget.used(), 151 + 3 * FRAME_OVERHEAD);
    unread.read(1, 60);
    assert_eq!(budget.used(), 91 + 3 * FRAME_OVERHEAD);
    unread.read(1, 41);
    assert_eq!(budget.used(), 50 + FRAME_OVERHEAD, "frames that are read whole take nothing");
    unread.closed(2);
    assert_eq!(budget.used(), 0);
    unread.came(2, 50, false);
    unread.read(2, 50);
    assert_eq!(budget.used(), 0, "nothing is kept of a stream that is closed");
    unread.came(1, 7, false);
    drop(unread);
    assert_eq!(budget.used(), 0, "nor of a connection that is gone");
}

#[test]
fn a_connection_has_its_least_when_others_have_everything() {
    let budget = Budget::new(1000);
    let (greedy, modest) = (Unread::new(budget.clone()), Unread::new(budget.clone()));
    greedy.came(1, LEAST, true);
    modest.came(1, LEAST / 2, true);
    let cx = Context::from_waker(Waker::noop());
    assert!(greedy.poll_room(&cx).is_pending());
    assert!(modest.poll_room(&cx).is_ready());
    greedy.read(1, LEAST / 2);
    assert!(greedy.poll_room(&cx).is_ready());
}
