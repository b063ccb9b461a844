//! Proof of work: hashes a second of the solver, against the same hashes through the usual interface of `sha2`.

use std::{hint::black_box, num::NonZeroUsize, sync::atomic::AtomicBool, thread};

use anyhow::{Context as _, Result};
use p2pdb::{
    clock::monotonic,
    protocol::{
        id::EntryId,
        network::Network,
        pow::{self, Puzzle, Solver},
    },
};
use sha2::{Digest as _, Sha256};

use crate::support::{
    bench::{Bench, Row},
    micro::seconds_per_call,
    samples::per_second,
};

/// Hashes of a call that is timed.
const CALL: u64 = 1 << 10;

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let plain = CALL as f64 / seconds_per_call(bench, || (0..CALL).for_each(hash_plainly));
    let bare = CALL as f64 / seconds_per_call(bench, || pow::benchmark(CALL));
    let row = |what: String, rate: f64| {
        Row::new()
            .text("what", what)
            .number("m_hashes_per_s", rate / 1e6)
            .number("ratio_to_plain", rate / plain)
    };
    let mut rows = vec![
        row("Sha256::digest of the same bytes".to_owned(), plain),
        row("one nonce after the other".to_owned(), bare),
    ];
    let cores = thread::available_parallelism()?;
    let mut threads = vec![NonZeroUsize::MIN];
    threads.extend(Some(cores).filter(|cores| cores.get() > 1));
    for threads in threads {
        rows.push(row(format!("Solver, {threads} threads, by the clock"), solve(bench, threads)?));
    }
    bench.show("processor time of one core, unless it says otherwise", &rows);
    bench.show("what a node spends on the proof of one entry; processor time of one core", &[check(bench)?]);
    Ok(())
}

/// What SPEC 5.2 hashes, without any preparation.
fn hash_plainly(nonce: u64) {
    let mut message = [0x5a; 44];
    for (to, from) in message.iter_mut().rev().zip(nonce.to_le_bytes()) {
        *to = from;
    }
    black_box(Sha256::digest(message));
}

/// Hashes a second of solving whole puzzles.
fn solve(bench: &Bench, threads: NonZeroUsize) -> Result<f64> {
    // A hash in 2^27 is about ten seconds of one core.
    let network =
        Network { work_price: bench.pick(1 << 27, 1 << 10), work_puzzles: 32, ..Network::default() };
    let solver = Solver::new(Puzzle::for_entry(&network, &EntryId::from_bytes([3; 32]), 1));
    let began = monotonic();
    solver.solve(threads, &AtomicBool::new(false), &|_| {})?;
    Ok(per_second(usize::try_from(solver.progress().hashes)?, began.elapsed()))
}

/// What a node spends on the proof of an entry.
fn check(bench: &Bench) -> Result<Row> {
    let network = Network { work_price: 1 << 10, ..Network::default() };
    let puzzle = Puzzle::for_entry(&network, &EntryId::from_bytes([4; 32]), 1);
    let work = Solver::new(puzzle).solve(NonZeroUsize::MIN, &AtomicBool::new(false), &|_| {})?;
    pow::check(&puzzle, &work).ok().context("the solution of the solver is none")?;
    let seconds = seconds_per_call(bench, || pow::check(&puzzle, &work));
    Ok(Row::new()
        .count("puzzles", puzzle.puzzles().into())
        .number("microseconds", seconds * 1e6)
        .number("m_hashes_per_s", f64::from(puzzle.puzzles()) / seconds / 1e6))
}
