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
        let (mut parsed, mut expected) = (Frames::default(), HashMap::<u32, Kept>::new());
        for Came { kind, flags, stream, length, is_taken } in frames {
            for piece in encode(kind, flags, stream, length).chunks(piece) {
                parsed.take(piece, &unread);
            }
            prop_assert!(parsed.at_frame());
            let cost = |expected: &HashMap<u32, Kept>| expected.values().map(Kept::cost).sum::<usize>();
            let counts = flags & RST == 0 && kind <= WINDOW_UPDATE;
            let bytes = if counts && kind == DATA { length as usize } else { 0 };
            if counts && flags & SYN != 0 {
                let mut opening = Kept::default();
                opening.take(bytes);
                prop_assert_eq!(unread.lock().all, cost(&expected) + opening.cost());
                if is_taken {
                    unread.accepted(stream);
                    expected.insert(stream, opening);
                }
            } else {
                if let Some(kept) = expected.get_mut(&stream) {
                    kept.take(bytes);
                }
                prop_assert_eq!(unread.lock().all, cost(&expected));
            }
        }
        parsed.take(&encode(2, 0, 0, 7), &unread);
        prop_assert_eq!(unread.lock().all, expected.values().map(Kept::cost).sum::<usize>());
        prop_assert_eq!(unread.lock().streams.len(), expected.len());
    }

    #[test]
    fn whatever_happens_the_sum_is_that_of_its_parts(
        steps in vec((0u8..9, 1u32..5, 0usize..300), 1..80),
    ) {
        let budget = Budget::new(usize::MAX);
        let unread = Unread::new(budget.clone());
        let cx = Context::from_waker(Waker::noop());
        for (step, stream, bytes) in steps {
            match step {
                0 => unread.opens(stream, bytes),
                1 => unread.accepted(stream),
                2 => unread.opened(stream),
                3 => unread.came(stream, bytes),
                4 => drop(unread.read(stream, bytes)),
                5 => unread.dropped(stream),
                6 => unread.block(bytes % 2 == 0),
                7 => unread.came_in_part(bytes),
                _ => drop(unread.poll_room(bytes % 2 == 0, &cx)),
            }
            let inner = unread.lock();
            let opening = inner.opening.map_or(0, |(_, kept)| kept.cost());
            let parts = inner.streams.values().map(Kept::cost).sum::<usize>() + opening + inner.part;
            prop_assert_eq!(inner.all, parts);
            let opening = inner.opening.map_or(0, |(_, kept)| kept.fixed());
            prop_assert_eq!(inner.fixed, inner.streams.values().map(Kept::fixed).sum::<usize>() + opening);
            prop_assert_eq!(budget.used(), parts);
        }
        drop(unread);
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn of_a_frame_that_is_not_whole_counts_what_came() {
    let unread = Unread::new(Budget::new(usize::MAX));
    unread.opened(1);
    let (frame, mut parsed) = (encode(DATA, 0, 1, 100), Frames::default());
    parsed.take(&frame[..HEADER + 70], &unread);
    assert_eq!(unread.lock().all, OF_STREAM + 70);
    parsed.take(&frame[HEADER + 70..], &unread);
    assert_eq!(unread.lock().all, OF_STREAM + 100 + OF_FRAME);
}

#[test]
fn reading_and_dropping_take_off_what_came() {
    let cx = Context::from_waker(Waker::noop());
    let budget = Budget::new(usize::MAX);
    let unread = Unread::new(budget.clone());
    unread.opened(1);
    for _ in 0..2 * SHORT_LIST {
        unread.came(1, 100);
    }
    assert_eq!(budget.used(), OF_STREAM + 2 * SHORT_LIST * (100 + OF_FRAME) + SHORT_LIST * OF_LIST);
    assert!(!unread.read(1, SHORT_LIST * 100));
    assert_eq!(budget.used(), OF_STREAM + SHORT_LIST * (100 + OF_FRAME) + SHORT_LIST * OF_LIST, "half of it");
    assert!(unread.read(1, SHORT_LIST * 100));
    let empty = OF_STREAM + SHORT_LIST * OF_LIST;
    assert_eq!(budget.used(), empty, "the list stays as long as it was");
    unread.came(1, 100);
    assert!(!unread.read(1, 99));
    assert_eq!(budget.used(), empty + 100 + OF_FRAME, "a frame is kept whole");
    unread.dropped(1);
    unread.block(true);
    assert!(unread.poll_room(true, &cx).is_ready());
    assert_eq!(budget.used(), empty + 100 + OF_FRAME, "yamux does not know yet");
    unread.block(false);
    assert!(unread.poll_room(false, &cx).is_ready());
    assert_eq!(budget.used(), 0);
    unread.came(1, 50);
    assert!(unread.read(1, 50));
    assert_eq!(budget.used(), 0, "nothing is kept of a stream that is not there");
}

#[test]
fn a_connection_that_closes_gives_back_all_but_what_is_still_held() {
    let budget = Budget::new(usize::MAX);
    let unread = Unread::new(budget.clone());
    for stream in 1..=3 {
        unread.opened(stream);
        unread.came(stream, 100);
    }
    unread.opens(4, 100);
    unread.came_in_part(100);
    unread.dropped(1);
    unread.close();
    let held = OF_STREAM + 100 + OF_FRAME;
    assert_eq!(budget.used(), 2 * held);
    unread.dropped(2);
    assert_eq!(budget.used(), held);
    drop(unread);
    assert_eq!(budget.used(), 0);
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
    (0..4).for_each(|_| unread.came(1, bytes / 4));
    unread
}

#[test]
fn a_connection_waits_only_if_it_has_much_and_all_have_too_much() {
    let budget = Budget::new(2 * LEAST);
    let (greedy, modest) = (with(&budget, 2 * LEAST), with(&budget, LEAST / 2));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    assert!(modest.poll_room(true, &cx).is_ready(), "its least is always there");
    assert!(greedy.poll_room(true, &cx).is_pending());
    assert!(greedy.poll_room(false, &cx).is_ready(), "a frame that has begun comes whole");
    assert!(greedy.poll_room(true, &cx).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    greedy.read(1, LEAST);
    assert!(woken.0.load(Ordering::Relaxed) > 0, "by its own reading");
    assert!(greedy.poll_room(true, &cx).is_ready());
}

#[test]
fn who_waits_is_woken_when_others_give_back() {
    let budget = Budget::new(2 * LEAST);
    let (others, waits) = (with(&budget, 2 * LEAST), with(&budget, LEAST + LEAST / 2));
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    assert!(waits.poll_room(true, &cx).is_pending());
    drop(others);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(waits.poll_room(true, &cx).is_ready());
}
