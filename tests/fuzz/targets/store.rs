//! Everything that can be done to a store, in an order that coverage chooses, kills and clocks among it: what was committed is
//! there until it is dropped for a reason, and the indexes are the data.
#![no_main]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

#[allow(dead_code, reason = "the store's own tests use all of it")]
#[path = "../../../src/store/tests/draft.rs"]
mod draft;
#[path = "../../../src/store/tests/model/operations.rs"]
mod operations;

use std::{path::Path, sync::LazyLock};

use libfuzzer_sys::{
    arbitrary::{Arbitrary, Result, Unstructured},
    fuzz_target,
};
use p2pdb::{
    clock::Clock,
    store::{Committed, NewEntry, Presence, Store, StoreOptions},
};
use tokio::runtime::{Builder, Runtime};

use crate::{
    draft::{DAY, Draft, START, key, network, table},
    operations::{Operation, check},
};

/// As many as show how operations follow each other; each is of files that are opened, written and copied.
const MAX_OPERATIONS: usize = 40;
const MAX_DRAFTS: u64 = 20;

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

#[derive(Debug)]
struct Operations(Vec<Operation>);

impl<'a> Arbitrary<'a> for Operations {
    fn arbitrary(input: &mut Unstructured<'a>) -> Result<Self> {
        let mut operations = Vec::new();
        while !input.is_empty() && operations.len() < MAX_OPERATIONS {
            operations.push(operation(input)?);
        }
        Ok(Self(operations))
    }
}

fn operation(input: &mut Unstructured<'_>) -> Result<Operation> {
    Ok(match input.int_in_range(0..=11)? {
        0..=2 => {
            let count = input.int_in_range(1..=MAX_DRAFTS)?;
            Operation::Commit((0..count).map(|_| draft(input)).collect::<Result<_>>()?)
        }
        3 => Operation::CommitAgain(input.arbitrary::<u8>()?.into()),
        4 => Operation::Withdraw(input.arbitrary::<u8>()?.into()),
        5 => Operation::Sweep,
        6 => Operation::Merge,
        7 => Operation::Compact,
        8 => Operation::Verify,
        9 => Operation::Reopen,
        10 => Operation::Kill,
        _ => Operation::Clock(i64::from(input.arbitrary::<i8>()?) * (DAY as i64 / 50)),
    })
}

fn draft(input: &mut Unstructured<'_>) -> Result<Draft> {
    let expires = input.arbitrary::<Option<u8>>()?;
    Ok(Draft {
        table: input.int_in_range(0..=2)?,
        created: START - u64::from(input.arbitrary::<u8>()?) * (DAY / 50),
        expires: expires.map(|expires| START + 1 + u64::from(expires) * (DAY / 50)),
        length: 100 + usize::from(input.arbitrary::<u8>()?) * 30,
        ..Draft::default()
    })
}

fuzz_target!(|operations: Operations| {
    // Memory instead of a disk: what a disk adds is tried by the tests of the store.
    let memory = Path::new("/dev/shm");
    let directory = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let directory = directory.unwrap();
    RUNTIME.block_on(check(directory.path(), operations.0));
});
