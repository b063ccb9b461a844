//! Progress bars on stderr, for whoever watches.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use p2pdb_protocol::{network::Network, pow};

use crate::cli::context::Context;

/// How often a bar without news moves.
const TICK: Duration = Duration::from_millis(200);

fn bar(context: &Context, length: Option<u64>, template: &str) -> ProgressBar {
    let target =
        if context.shows_progress() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(length, target);
    // The templates are constants, and a test draws each of them.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar
}

const WORK: &str = "proof of work [{bar:32}] {msg} puzzles, {eta} left";
const BYTES: &str = "{prefix} [{bar:32}] {bytes} of {total_bytes}, {msg} entries, {eta} left";
const ENTRIES: &str = "{prefix} [{bar:32}] {human_pos} of {human_len} rows, {eta} left";

const FETCHED: &str = "first sync {spinner} {human_pos} entries, {msg}";

/// The progress of a first sync, whose end is not known beforehand.
pub(super) fn fetched(context: &Context) -> ProgressBar {
    bar(context, None, FETCHED)
}

/// The progress of one proof of work.
pub(super) struct WorkBar {
    bar: ProgressBar,
}

impl WorkBar {
    /// A bar whose length is the price of an entry of `size` priced bytes, which its work costs on average.
    pub(super) fn new(context: &Context, network: &Network, size: u64) -> Self {
        let price = u64::try_from(pow::price(network, size)).unwrap_or(u64::MAX);
        let bar = bar(context, Some(price), WORK);
        bar.set_message(format!("0 of {}", network.work_puzzles));
        Self { bar }
    }

    /// Shows how far the work is. Puzzles are solved by luck, several at a time: the hashes tell more of the time left.
    pub(super) fn show(&self, progress: pow::Progress) {
        let length = self.bar.length().unwrap_or_default();
        let most = if progress.solved < progress.of { length.saturating_sub(length / 100) } else { length };
        self.bar.set_position(progress.hashes.min(most));
        self.bar.set_message(format!("{} of {}", progress.solved, progress.of));
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The progress through a file of entries, in bytes.
pub(super) fn bytes(context: &Context, what: &'static str, length: u64) -> ProgressBar {
    bar(context, Some(length), BYTES).with_prefix(what).with_message("0")
}

/// The progress through the rows of a store.
pub(super) fn rows(context: &Context, what: &'static str) -> ProgressBar {
    bar(context, Some(0), ENTRIES).with_prefix(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        for template in [WORK, BYTES, ENTRIES, FETCHED] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }
}
