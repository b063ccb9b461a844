//! What is measured, its bounds, and the table of it.

use std::{fmt::Display, thread::panicking, time::Duration};

use super::Blame;

/// How many times as long a put, a get (the medians) and what is heard may take under any attack, and when nobody attacks any more;
pub(super) const MAX_SLOWDOWN: u32 = 20;
pub(super) const MAX_SLOWDOWN_AFTER: u32 = 4;
/// and how long at least before that counts. Usually a put or a get takes a few milliseconds. A flood that no quota ends keeps two
/// cores busy, with the attackers' own work first of all, and has whoever is honest wait for his turn behind as many requests as
/// an inbox holds: up to a second in a build that is not optimized, on a machine that did other things as well. This is twice that.
const NOTICEABLE: Duration = Duration::from_secs(2);
/// The most that a single put or get may take, however long it takes usually: a client has to get through each time, and not only most
/// of the time.
const MAX_ONCE: Duration = Duration::from_secs(5);
/// The most that a node may need to join: its first session has to bring everything, since the next one would begin ten seconds later.
const MAX_TO_JOIN: Duration = Duration::from_secs(5);

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
    fn each(&self) -> [(&'static str, Duration); 5] {
        [
            ("put", self.put),
            ("get", self.get),
            ("longest", self.longest),
            ("heard", self.heard),
            ("joined", self.joined),
        ]
    }

    /// The longer one of each.
    pub(super) fn max(&self, other: &Self) -> Self {
        Self {
            put: self.put.max(other.put),
            get: self.get.max(other.get),
            longest: self.longest.max(other.longest),
            heard: self.heard.max(other.heard),
            joined: self.joined.max(other.joined),
        }
    }

    /// That none of these times is too long where these are usual.
    pub(super) fn assert_bounds(&self, attack: &str, times: &Self, slowdown: u32) {
        let most = |usual: Duration| (usual * slowdown).max(NOTICEABLE);
        let bounds = [most(self.put), most(self.get), MAX_ONCE, most(self.heard), MAX_TO_JOIN];
        for (((what, took), (_, usual)), most) in times.each().into_iter().zip(self.each()).zip(bounds) {
            assert!(took <= most, "{attack}: {what} {took:?}, without it {usual:?}");
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
        let times: String = usual.each().map(|(what, took)| cell(&format!("{what}, {}", ms(took)))).concat();
        println!(
            "\n{:42} {:38} {:9} {:>4} {:>8} {:>4}{times}",
            "attack", "trials", "the node", "lost", "memory", "fds"
        );
    }

    pub(super) fn show(&self, row: &Row<'_>, usual: &Times) {
        let Row { attack, trials, blame, lost, times, added, descriptors } = row;
        let times = usual.each().into_iter().zip(times.each());
        let times: String = times
            .map(|((_, usual), (_, took))| {
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
