//! What is measured, its bounds, and the table of it.

use std::{fmt::Display, thread::panicking, time::Duration};

use super::Blame;

/// How much longer anything honest may take under any attack, and when nobody attacks any more;
pub(super) const MAX_SLOWDOWN: u32 = 20;
pub(super) const MAX_SLOWDOWN_AFTER: u32 = 4;
/// and how long at least before that counts. Usually a put or a get takes a few milliseconds. A flood that no quota ends keeps two
/// cores busy, with the attackers' own work first of all, and has whoever is honest wait for his turn behind as many requests as
/// an inbox holds: up to 0.37 seconds in a build that is not optimized, on a machine that did other things as well. This is twice that.
const NOTICEABLE: Duration = Duration::from_millis(750);
/// A node that joins starts, connects, and asks several times, one after the other. Still its first session has to bring everything:
/// the next one would begin ten seconds later.
const NOTICEABLE_TO_JOIN: Duration = Duration::from_secs(5);

/// A client has to get through each time, and not only most of the time.
const NOTICEABLE_ONCE: Duration = Duration::from_secs(5);

/// How long honest peers need.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Times {
    /// For a put.
    pub(super) put: Duration,
    /// For a get.
    pub(super) get: Duration,
    /// For the longest of these.
    pub(super) longest: Duration,
    /// Until a node that listens has all that was put.
    pub(super) heard: Duration,
    /// Until a node that joins has it.
    pub(super) joined: Duration,
}

impl Times {
    fn each(&self) -> [(&'static str, Duration, Duration); 5] {
        [
            ("put", self.put, NOTICEABLE),
            ("get", self.get, NOTICEABLE),
            ("longest", self.longest, NOTICEABLE_ONCE),
            ("heard", self.heard, NOTICEABLE),
            ("joined", self.joined, NOTICEABLE_TO_JOIN),
        ]
    }

    /// That none of these times is much longer than this usual one.
    pub(super) fn assert_bounds(&self, attack: &str, times: &Self, slowdown: u32) {
        for ((what, usual, noticeable), (_, took, _)) in self.each().into_iter().zip(times.each()) {
            let most = (usual * slowdown).max(noticeable);
            assert!(took < most, "{attack}: {what} {took:?}, without it {usual:?}");
        }
    }
}

/// What came of an attack.
pub(super) struct Row<'a> {
    pub(super) attack: &'a str,
    /// Of what, and how many.
    pub(super) trials: &'a dyn Display,
    pub(super) blame: Blame,
    /// Honest entries.
    pub(super) lost: usize,
    pub(super) times: Times,
    /// To the memory, in bytes.
    pub(super) added: u64,
    pub(super) descriptors: usize,
}

/// Counts the attacks that the node stood, and closes with a line that says how many, however it ends.
#[derive(Default)]
pub(super) struct Report {
    passed: usize,
}

impl Report {
    pub(super) fn begin(&self, usual: &Times) {
        let times: String =
            usual.each().map(|(what, took, _)| cell(&format!("{what}, {}", ms(took)))).concat();
        println!(
            "\n{:42} {:38} {:9} {:>4} {:>8} {:>4}{times}",
            "attack", "trials", "the node", "lost", "memory", "fds"
        );
    }

    pub(super) fn show(&self, row: &Row<'_>, usual: &Times) {
        let Row { attack, trials, blame, lost, times, added, descriptors } = row;
        let times = usual.each().into_iter().zip(times.each());
        let times: String = times
            .map(|((_, usual, _), (_, took, _))| {
                cell(&format!("{} {:.1}x", ms(took), took.as_secs_f64() / usual.as_secs_f64()))
            })
            .collect();
        let blame = match blame {
            Blame::None => "bears it",
            Blame::Score => "scores",
            Blame::Ban => "bans",
        };
        let (trials, added) = (trials.to_string(), format!("+{} MiB", added >> 20));
        println!("{attack:42} {trials:38} {blame:9} {lost:>4} {added:>8} {descriptors:4}{times}");
    }

    pub(super) fn passed(&mut self) {
        self.passed += 1;
    }
}

fn ms(time: Duration) -> String {
    format!("{} ms", time.as_millis())
}

fn cell(text: &str) -> String {
    format!(" {text:>16}")
}

impl Drop for Report {
    fn drop(&mut self) {
        println!("\n{} passed, {} failed", self.passed, usize::from(panicking()));
    }
}
