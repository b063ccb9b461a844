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

proptest! {
    #[test]
    fn however_frames_come_in_pieces_what_counts_is_what_came_on_streams_that_are_taken(
        frames in vec(came(), 1..40),
        piece in 1usize..50,
    ) {
        let unread = Unread::new(Budget::new(usize::MAX));
        let (mut parsed, mut expected) = (Frames::default(), HashMap::<u32, usize>::new());
        for Came { kind, flags, stream, length, is_taken } in frames {
            for piece in encode(kind, flags, stream, length).chunks(piece) {
                parsed.take(piece, &unread);
            }
            prop_assert!(parsed.at_frame());
            let counts = flags & RST == 0 && kind <= WINDOW_UPDATE;
            let bytes = if counts && kind == DATA { length as usize } else { 0 };
            let cost = if bytes > 0 { bytes + OF_FRAME + OF_LIST } else { 0 };
            if counts && flags & SYN != 0 {
                prop_assert_eq!(unread.lock().all, expected.values().sum::<usize>() + cost);
                if is_taken {
                    unread.opened(stream);
                    expected.insert(stream, cost);
                }
            } else if let Some(all) = expected.get_mut(&stream) {
                *all += cost;
            }
        }
        parsed.take(&encode(2, 0, 0, 7), &unread);
        let inner = unread.lock();
        prop_assert_eq!(inner.all, expected.values().sum::<usize>());
        prop_assert_eq!(inner.streams.len(), expected.len());
    }
}

#[test]
fn of_a_frame_that_is_not_whole_counts_what_came() {
    let unread = Unread::new(Budget::new(usize::MAX));
    unread.opened(1);
    let (frame, mut parsed) = (encode(DATA, 0, 1, 100), Frames::default());
    parsed.take(&frame[..HEADER + 70], &unread);
    assert_eq!(unread.lock().all, 70);
    parsed.take(&frame[HEADER + 70..], &unread);
    assert_eq!(unread.lock().all, 100 + OF_FRAME + OF_LIST);
}

#[test]
fn reading_and_dropping_take_off_what_came() {
    let cx = Context::from_waker(Waker::noop());
    let budget = Budget::new(usize::MAX);
    let unread = Unread::new(budget.clone());
    unread.opened(1);
    unread.opened(2);
    unread.came(1, 90, false);
    unread.came(1, 10, false);
    unread.came(2, 50, false);
    assert_eq!(budget.used(), 150 + 3 * (OF_FRAME + OF_LIST));
    unread.read(1, 50);
    assert_eq!(budget.used(), 100 + 2 * OF_FRAME + 3 * OF_LIST, "half of its frames");
    unread.read(1, 50);
    assert_eq!(budget.used(), 50 + OF_FRAME + 3 * OF_LIST, "the list stays as long as it was");
    unread.dropped(2);
    unread.came(2, 50, false);
    unread.block(true);
    assert!(unread.poll_room(&cx).is_ready());
    assert_eq!(budget.used(), 100 + 2 * OF_FRAME + 4 * OF_LIST, "yamux does not know yet");
    unread.block(false);
    assert!(unread.poll_room(&cx).is_ready());
    assert_eq!(budget.used(), 2 * OF_LIST);
    unread.came(2, 50, false);
    unread.read(2, 50);
    assert_eq!(budget.used(), 2 * OF_LIST, "nothing is kept of a stream that is not there");
    unread.dropped(1);
    unread.opened(1);
    assert!(unread.poll_room(&cx).is_ready());
    unread.came(1, 7, false);
    assert_eq!(budget.used(), 7 + OF_FRAME + OF_LIST, "another stream of the same number");
    drop(unread);
    assert_eq!(budget.used(), 0, "nor of a connection that is gone");
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn with(budget: &Budget, bytes: usize) -> Unread {
    let unread = Unread::new(budget.clone());
    unread.opened(1);
    unread.came(1, bytes, false);
    unread
}

#[test]
fn a_connection_waits_only_if_it_has_much_and_all_have_too_much() {
    let budget = Budget::new(2 * LEAST);
    let (greedy, modest) = (with(&budget, 2 * LEAST), with(&budget, LEAST / 2));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    assert!(modest.poll_room(&cx).is_ready(), "its least is always there");
    assert!(greedy.poll_room(&cx).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    greedy.read(1, LEAST);
    assert!(woken.0.load(Ordering::Relaxed) > 0, "by its own reading");
    assert!(greedy.poll_room(&cx).is_ready());
}

#[test]
fn who_waits_is_woken_when_others_give_back() {
    let budget = Budget::new(2 * LEAST);
    let (others, waits) = (with(&budget, 2 * LEAST), with(&budget, LEAST + LEAST / 2));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    assert!(waits.poll_room(&cx).is_pending());
    drop(others);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(waits.poll_room(&cx).is_ready());
}
