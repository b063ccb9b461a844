//! Streams that pause, and the end of a pause.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Wake, Waker},
};

use futures::{AsyncReadExt as _, FutureExt as _};

use super::*;

/// How often.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Repeated = Stream<futures::io::Repeat>;

/// Streams of two connections whose peers never stop, of each of which has been read as much as one may say before it has to pause.
fn streams(pause: &Pause) -> Vec<Repeated> {
    let stream = || {
        let connection = Connection { pause: pause.clone(), ..Connection::default() };
        Stream { stream: futures::io::repeat(1), connection: Arc::new(connection), end: None }
    };
    let mut streams = vec![stream(), stream()];
    assert!(streams.iter_mut().all(|stream| reads(stream, QUIET)));
    streams
}

fn reads(stream: &mut Repeated, bytes: usize) -> bool {
    stream.read(&mut vec![0; bytes]).now_or_never().is_some()
}

fn reads_much(stream: &mut Repeated) -> bool {
    reads(stream, QUIET)
}

fn say(pause: &Pause, events: usize) {
    (0..events).for_each(|_| pause.count());
}

#[test]
fn streams_pause_until_nobody_is_at_the_door() {
    let pause = Pause::default();
    let mut streams = streams(&pause);
    // Again and again: what was said before a pause does not count any more.
    for _ in 0..3 {
        say(&pause, EVENTS - 1);
        assert!(streams.iter_mut().all(reads_much));
        say(&pause, 1);
        assert!(!streams.iter_mut().any(reads_much));
        pause.looked(true);
        // What was on its way is still heard.
        say(&pause, EVENTS);
        assert!(!streams.iter_mut().any(reads_much));
        pause.looked(false);
        assert!(streams.iter_mut().all(reads_much));
    }
}

#[test]
fn a_crowd_at_the_door_does_not_keep_streams_waiting() {
    let pause = Pause::default();
    let mut streams = streams(&pause);
    for _ in 0..3 {
        say(&pause, EVENTS);
        (1..ENTRANTS).for_each(|_| pause.looked(true));
        assert!(!streams.iter_mut().any(reads_much));
        pause.looked(true);
        assert!(streams.iter_mut().all(reads_much));
    }
}

#[test]
fn who_is_read_is_woken_at_the_end_of_the_pause() {
    let pause = Pause::default();
    let mut streams = streams(&pause);
    say(&pause, EVENTS);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    for stream in &mut streams {
        assert!(Pin::new(stream).poll_read(&mut Context::from_waker(&waker), &mut [0]).is_pending());
    }
    pause.looked(false);
    assert_eq!(woken.0.load(Ordering::SeqCst), streams.len());
}

#[test]
fn who_says_little_is_heard_during_pauses() {
    let pause = Pause::default();
    let [much, little] = &mut streams(&pause)[..] else { panic!("two") };
    pause.looked(false);
    assert!(reads(much, QUIET) && reads(little, QUIET - 1));
    say(&pause, EVENTS);
    assert!(!reads(much, 1));
    assert!(reads(little, 1));
    assert!(!reads(little, 1), "all that it may");
    pause.looked(false);
    assert!(reads(much, 1) && reads(little, 1));
    // Each byte may be something that is said: there is an end to it.
    say(&pause, MOST_EVENTS - 1);
    assert!(reads(little, 1));
    say(&pause, 1);
    assert!(!reads(little, 1));
}

#[test]
fn a_swarm_that_is_gone_keeps_nobody_waiting() {
    let pause = Pause::default();
    let mut streams = streams(&pause);
    let transport = Transport::new((), pause.clone());
    say(&pause, EVENTS);
    assert!(!streams.iter_mut().any(reads_much));
    drop(transport);
    assert!(streams.iter_mut().all(reads_much));
}
