#![allow(clippy::unwrap_used)]

use proptest::{collection::vec, prelude::*};

use super::*;

proptest! {
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
        self.0.fetch_add(1, atomic::Ordering::Relaxed);
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
    assert_eq!(woken.0.load(atomic::Ordering::Relaxed), 0);
    greedy.read(1, LEAST);
    assert!(woken.0.load(atomic::Ordering::Relaxed) > 0, "by its own reading");
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
    assert_eq!(woken.0.load(atomic::Ordering::Relaxed), 1);
    assert!(waits.poll_room(true, &cx).is_ready());
}
