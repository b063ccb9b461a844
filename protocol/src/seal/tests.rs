#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod draft;
mod known;
mod opening;
mod padding;

use std::{num::NonZeroUsize, sync::atomic::AtomicBool};

use super::*;
use crate::{
    entry::Entry,
    keys::{
        PublicKey,
        testing::{key, rng},
    },
    network::Network,
    pow::{Puzzle, Solver},
};

const CREATED: u64 = 1_700_000_000;

fn network() -> Network {
    Network { work_price: 64, work_puzzles: 4, ..Network::default() }
}

fn content() -> Content {
    Content { media_type: "text/plain".to_owned(), data: b"hello".to_vec() }
}

fn public(number: usize) -> PublicKey {
    key(number).public_key().clone()
}

/// To the table of key 0.
fn draft<'a>(recipients: &'a [PublicKey], content: &'a Content) -> Draft<'a> {
    Draft { table: key(0), recipients, created: CREATED, expires: None, content, author: None }
}

fn solve(puzzle: Puzzle) -> Vec<u8> {
    Solver::new(puzzle).solve(NonZeroUsize::MIN, &AtomicBool::new(false), &|_| ()).unwrap()
}

fn post(draft: &Draft<'_>) -> Entry {
    let sealed = draft.seal(&mut rng(), &network()).unwrap();
    sealed.finish(&solve(sealed.puzzle(&network())), &network()).unwrap()
}
