//! Whatever is done to a store, in any order: what was committed is there until it is dropped for a reason, and its indexes are
//! its data. `PROPTEST_CASES=10000` tries more; `tests/fuzz/run store` lets coverage choose.

mod operations;

use proptest::{collection::vec, prelude::*};

use self::operations::{Operation, check};
use super::*;

fn operation() -> impl Strategy<Value = Operation> {
    let draft = (0usize..3, 0u64..5 * DAY, prop::option::of(1u64..3 * DAY), 100usize..8000);
    let draft = draft.prop_map(|(table, created, expires, length)| Draft {
        table,
        created: START - created,
        expires: expires.map(|expires| START + expires),
        length,
        ..Draft::default()
    });
    prop_oneof![
        6 => vec(draft, 1..20).prop_map(Operation::Commit),
        1 => any::<usize>().prop_map(Operation::CommitAgain),
        2 => any::<usize>().prop_map(Operation::Withdraw),
        2 => Just(Operation::Sweep),
        2 => Just(Operation::Merge),
        1 => Just(Operation::Compact),
        1 => Just(Operation::Verify),
        1 => Just(Operation::Reopen),
        2 => Just(Operation::Kill),
        2 => (-2 * DAY as i64..2 * DAY as i64).prop_map(Operation::Clock),
    ]
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").map_or(24, |cases| cases.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_committed_is_there_until_it_is_dropped_for_a_reason(operations in vec(operation(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(check(directory.path(), operations));
    }
}
