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

/// Streams whose peers never stop.
fn streams(pause: &Pause) -> Vec<Stream<futures::io::Repeat>> {
    let stream = || Stream { stream: futures::io::repeat(1), pause: pause.clone(), end: None };
    vec![stream(), stream()]
}

fn reads(stream: &mut Stream<futures::io::Repeat>) -> bool {
    stream.read(&mut [0]).now_or_never().is_some()
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
        assert!(streams.iter_mut().all(reads));
        say(&pause, 1);
        assert!(!streams.iter_mut().any(reads));
        pause.looked(true);
        // What was on its way is still heard.
        say(&pause, EVENTS);
        assert!(!streams.iter_mut().any(reads));
        pause.looked(false);
        assert!(streams.iter_mut().all(reads));
    }
}

#[test]
fn a_crowd_at_the_door_does_not_keep_streams_waiting() {
    let pause = Pause::default();
    let mut streams = streams(&pause);
    for _ in 0..3 {
        say(&pause, EVENTS);
        (1..ENTRANTS).for_each(|_| pause.looked(true));
        assert!(!streams.iter_mut().any(reads));
        pause.looked(true);
        assert!(streams.iter_mut().all(reads));
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
