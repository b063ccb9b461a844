//! Times of operations that take micro- or milliseconds.

use std::{hint::black_box, time::Duration};

use super::{bench::Bench, machine::thread_cpu, samples::Samples};

/// The shortest batch that is timed: long against the resolution of the clock.
const BATCH_TIME: Duration = Duration::from_millis(2);
/// Batches, of which the median counts.
const BATCHES: usize = 101;

/// Processor time of one call, in seconds: the median over batches of calls, after a warm-up. What other programs do
/// on the machine counts only as far as it spoils the caches.
pub(crate) fn seconds_per_call<T>(bench: &Bench, mut call: impl FnMut() -> T) -> f64 {
    let mut batch = |calls: u32| {
        let began = thread_cpu();
        for _ in 0..calls {
            black_box(call());
        }
        (thread_cpu() - began) / calls
    };
    let mut calls = 1;
    while calls < 1 << 20 && batch(calls) * calls < bench.pick(BATCH_TIME, Duration::ZERO) {
        calls *= 2;
    }
    let times: Samples = (0..bench.pick(BATCHES, 1)).map(|_| batch(calls)).collect();
    times.median().as_secs_f64()
}
