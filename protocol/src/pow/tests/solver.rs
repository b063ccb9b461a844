use std::{
    num::NonZeroUsize,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use super::{EFFORT, EntryId, NONCES, Network, Puzzle, check, network, puzzle, work_of};
use crate::pow::{Cancelled, Progress, Solver, StateError};

fn threads(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap()
}

fn solve(solver: &Solver, number: usize) -> Vec<u8> {
    solver.solve(threads(number), &AtomicBool::new(false), &|_| ()).unwrap()
}

/// Needs many chunks: 600,000 hashes or so.
fn long_puzzle() -> Puzzle {
    Puzzle::for_entry(&network(600_000, 1, 8), &EntryId::from_bytes([1; 32]), 1)
}

#[test]
fn one_thread_finds_the_least_nonces() {
    let solver = Solver::new(puzzle());
    assert_eq!(solve(&solver, 1), work_of(&NONCES));
    assert_eq!(check(&puzzle(), &solve(&solver, 1)), Ok(EFFORT));
    let hashes = NONCES.iter().map(|nonce| nonce + 1).sum();
    assert_eq!(solver.progress(), Progress { solved: 5, of: 5, hashes });
}

#[test]
fn any_number_of_threads_finds_work_that_checks() {
    for number in [1, 2, 3, 8, 20] {
        let work = solve(&Solver::new(long_puzzle()), number);
        assert!(check(&long_puzzle(), &work).is_ok(), "{number} threads");
    }
}

#[test]
fn progress_is_reported_in_order() {
    let reports = Mutex::new(Vec::new());
    let solver = Solver::new(long_puzzle());
    let report = |progress| reports.lock().unwrap().push(progress);
    solver.solve(threads(3), &AtomicBool::new(false), &report).unwrap();
    let reports = reports.into_inner().unwrap();
    assert!(reports.len() >= 8, "one for every puzzle");
    assert!(reports.is_sorted_by_key(|progress| (progress.solved, progress.hashes)));
    assert_eq!(reports.last().map(|progress| progress.solved), Some(8));
}

#[test]
fn a_long_search_reports_between_solutions_and_can_be_cancelled() {
    let hopeless = Puzzle::for_entry(&network(1 << 48, 1, 1), &EntryId::from_bytes([0; 32]), 1 << 40);
    let cancel = AtomicBool::new(false);
    let reports = AtomicUsize::new(0);
    let solver = Solver::new(hopeless);
    let report = |progress: Progress| {
        assert_eq!(progress.solved, 0);
        cancel.store(reports.fetch_add(1, Relaxed) >= 1, Relaxed);
    };
    assert_eq!(solver.solve(threads(2), &cancel, &report), Err(Cancelled));
    assert!(reports.into_inner() >= 2);
}

#[test]
fn a_search_that_was_left_anywhere_ends_as_if_it_had_not_been() {
    let whole = Solver::new(long_puzzle());
    let work = solve(&whole, 1);
    for left_after in 1..8 {
        let saved = Mutex::new(Vec::new());
        let cancel = AtomicBool::new(false);
        let solver = Solver::new(long_puzzle());
        let report = |progress: Progress| {
            // As an application does it: saved on the way, from inside of the report.
            *saved.lock().unwrap() = solver.state();
            cancel.store(progress.solved == left_after, Relaxed);
        };
        assert_eq!(solver.solve(threads(1), &cancel, &report), Err(Cancelled));
        let resumed = Solver::resume(long_puzzle(), &saved.into_inner().unwrap()).unwrap();
        assert_eq!(resumed.progress(), solver.progress());
        assert_eq!(resumed.progress().solved, left_after);
        assert_eq!(solve(&resumed, 1), work);
        assert_eq!(resumed.progress().hashes, whole.progress().hashes, "nothing was tried twice");
        assert_eq!(solve(&solver, 1), work, "the solver that was cancelled can go on as well");
    }
}

#[test]
fn a_search_that_was_left_by_many_threads_keeps_what_it_found() {
    let cancel = AtomicBool::new(false);
    let solver = Solver::new(long_puzzle());
    let left = solver.solve(threads(4), &cancel, &|progress| cancel.store(progress.solved >= 3, Relaxed));
    let found = solver.progress();
    let resumed = Solver::resume(long_puzzle(), &solver.state()).unwrap();
    assert_eq!(resumed.progress(), found);
    let work = solve(&resumed, 4);
    assert!(check(&long_puzzle(), &work).is_ok());
    if let Ok(whole) = left {
        assert_eq!(whole, work, "others solved the rest before they saw the cancellation");
    }
}

#[test]
fn cancelled_before_it_began_it_does_nothing() {
    let solver = Solver::new(puzzle());
    assert_eq!(solver.solve(threads(2), &AtomicBool::new(true), &|_| ()), Err(Cancelled));
    assert_eq!(solver.progress(), Progress { solved: 0, of: 5, hashes: 0 });
    assert_eq!(Solver::resume(puzzle(), &solver.state()).unwrap().state(), solver.state());
}

#[test]
fn foreign_and_damaged_states_are_refused() {
    let solver = Solver::new(puzzle());
    solve(&solver, 1);
    let state = solver.state();
    assert_eq!(state.len(), 53 + 9 * 5);
    assert!(Solver::resume(puzzle(), &state).is_ok());

    let refused = |puzzle, state: &[u8]| assert_eq!(Solver::resume(puzzle, state).unwrap_err(), StateError);
    let id = EntryId::from_bytes([9; 32]);
    refused(Puzzle::for_entry(&network(4000, 100, 5), &id, 333), &state);
    refused(long_puzzle(), &state);
    refused(Puzzle::for_entry(&Network::default(), &id, 333), &state);
    for length in 0..state.len() {
        refused(puzzle(), &state[..length]);
    }
    refused(puzzle(), &[state.as_slice(), &[0]].concat());
    for index in 0..5 {
        let mut damaged = state.clone();
        damaged[53 + 9 * index + 8] ^= 1;
        refused(puzzle(), &damaged);
        damaged[53 + 9 * index] = 2;
        refused(puzzle(), &damaged);
    }
}
