#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Debug, Default)]
struct Woken(AtomicUsize);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a stream that has a frame to write may write it now.
fn writes(unsent: &Unsent, stream: u32) -> bool {
    unsent.poll_take(stream, MAX_WRITE, &Context::from_waker(Waker::noop())).is_ready()
}

/// As much as may be.
fn full() -> Unsent {
    let unsent = Unsent::default();
    while unsent.used() <= MOST {
        assert!(writes(&unsent, 1));
    }
    unsent
}

#[test]
fn streams_take_turns_in_the_order_in_which_they_came() {
    let unsent = full();
    for stream in 1..=3 {
        assert!(!writes(&unsent, stream) && !writes(&unsent, stream));
    }
    for round in 0..100 {
        unsent.less(MAX_WRITE);
        // Whoever comes now is behind those who wait.
        let wrote: Vec<_> = (1..=4).filter(|stream| writes(&unsent, *stream)).collect();
        let next = 1 + round % 4;
        assert_eq!(wrote, [next], "in round {round}");
        assert!(!writes(&unsent, next));
    }
}

#[test]
fn much_that_goes_out_at_once_leaves_the_order_as_it_was() {
    let unsent = full();
    let all: Vec<_> = (1..=40).collect();
    assert!(!all.iter().any(|stream| writes(&unsent, *stream)));
    // All of it: everybody is called, and there is not room for all.
    unsent.less(unsent.used());
    for stream in &all {
        let wrote = writes(&unsent, *stream);
        assert_eq!(wrote, *stream <= 33, "{stream}");
    }
    // Who had his turn has no second one before the others.
    assert!(!all.iter().any(|stream| writes(&unsent, *stream)));
    for stream in 34..=40 {
        unsent.less(MAX_WRITE);
        let wrote: Vec<_> = all.iter().filter(|other| writes(&unsent, **other)).collect();
        assert_eq!(wrote, [&stream]);
    }
}

#[test]
fn what_is_short_takes_no_turn_and_has_room_of_its_own() {
    let unsent = full();
    assert!(!writes(&unsent, 1));
    let short = || unsent.poll_take(2, SHORT, &Context::from_waker(Waker::noop())).is_ready();
    assert_eq!((0..10_000).filter(|_| short()).count(), (MOST + FOR_SHORT - full().used()) / SHORT);
    assert!(!writes(&unsent, 1));
    unsent.less(FOR_SHORT);
    assert!(short());
}

#[test]
fn a_stream_that_is_gone_gives_its_turn_to_the_next() {
    let unsent = full();
    let woken = Arc::new(Woken::default());
    let waker = Arc::clone(&woken).into();
    let cx = Context::from_waker(&waker);
    for stream in 2..=4 {
        assert!(unsent.poll_take(stream, MAX_WRITE, &cx).is_pending());
    }
    unsent.forget(3);
    unsent.less(MAX_WRITE);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1, "one frame is room for one");
    unsent.forget(2);
    assert_eq!(woken.0.load(Ordering::Relaxed), 2);
    assert!(writes(&unsent, 4) && unsent.lock().called.is_empty() && unsent.lock().waiting.is_empty());
}

proptest! {
    /// Whatever streams do: who waits is called at the latest when little is left.
    #[test]
    fn nobody_waits_for_ever(steps in vec((0u8..5, 1u32..6, 1usize..=MAX_WRITE), 1..400)) {
        let unsent = Unsent::default();
        let cx = Context::from_waker(Waker::noop());
        for (step, stream, bytes) in steps {
            match step {
                0..=2 => drop(unsent.poll_take(stream, bytes, &cx)),
                3 => unsent.less(bytes.min(unsent.used())),
                _ => unsent.forget(stream),
            }
            let inner = unsent.lock();
            prop_assert!(inner.used <= MOST + FOR_SHORT + MAX_WRITE);
            prop_assert!(inner.waiting.is_empty() || inner.used > LITTLE);
            prop_assert!(inner.waiting.values().all(|(stream, _)| !inner.called.contains_key(stream)));
        }
    }
}
