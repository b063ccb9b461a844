#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod solver;

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn network(work_price: u64, work_base_bytes: u64, work_puzzles: u64) -> Network {
    Network { work_price, work_base_bytes, work_puzzles, ..Network::default() }
}

/// A puzzle that takes some 13,000 hashes in all.
fn puzzle() -> Puzzle {
    let id = EntryId::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()));
    Puzzle::for_entry(&network(4000, 100, 5), &id, 333)
}

/// Its work with the least nonces and the effort of that, computed by a few lines of Python's hashlib from the text of
/// SPEC 5.
const NONCES: [u64; 5] = [0x94d, 0x52d, 0xff4, 0x426, 0x9d5];
const EFFORT: u64 = 14185;

fn work_of(nonces: &[u64]) -> Vec<u8> {
    nonces.iter().flat_map(|nonce| nonce.to_be_bytes()).collect()
}

#[test]
fn puzzles_are_those_of_the_specification() {
    let puzzle = puzzle();
    assert_eq!(puzzle.target, 6_924_453_481_122_204);
    assert_eq!(puzzle.seed[..4], [0x93, 0x23, 0x45, 0x81]);
    assert_eq!((puzzle.puzzles(), puzzle.work_bytes()), (5, 40));
    assert_eq!(check(&puzzle, &work_of(&NONCES)), Ok(EFFORT));
}

#[test]
fn the_price_grows_with_the_size() {
    let default = Network::default();
    for (size, hashes) in [(0, 1 << 29), (2048, 1 << 29), (2049, (1 << 29) + (1 << 18)), (4096, 1 << 30)] {
        assert_eq!(price(&default, size), hashes, "{size} bytes");
    }
    assert_eq!(price(&network(3, 2, 1), 3), 4, "rounded down");
    assert_eq!(price(&network(1 << 48, 1, 1), u64::MAX), u128::from(u64::MAX) << 48, "no overflow");
}

#[test]
fn the_target_is_that_of_the_price_of_one_puzzle_rounded_up() {
    let target = |work_price, work_puzzles| {
        Puzzle::for_entry(&network(work_price, 1, work_puzzles), &EntryId::from_bytes([0; 32]), 1).target
    };
    assert_eq!(target(1, 256), u64::MAX, "at least one hash");
    assert_eq!(target(257, 256), u64::MAX / 2);
    assert_eq!(target(1 << 28, 64), (1 << 42) - 1);
}

#[test]
fn a_wrong_length_is_refused_before_anything_is_hashed() {
    let work = work_of(&NONCES);
    let longer = [work.as_slice(), &[0; 8]].concat();
    for wrong in [&[][..], &work[..32], &work[..39], &longer[..41], &longer] {
        let checked = check_by(&puzzle(), wrong, |_, _| panic!("hashed"));
        assert_eq!(checked, Err(Refusal::WorkMalformed), "{} bytes", wrong.len());
    }
}

#[test]
fn checking_stops_at_the_first_puzzle_not_solved() {
    for failing in 0..5 {
        let hashed = Cell::new(0);
        let checked = check_by(&puzzle(), &[0; 40], |index, _| {
            hashed.set(hashed.get() + 1);
            if index == failing { puzzle().target + 1 } else { puzzle().target }
        });
        assert_eq!((checked, hashed.get()), (Err(Refusal::WorkInsufficient), failing + 1));
    }
}

#[test]
fn the_effort_is_that_of_the_worst_puzzle() {
    let effort = |values: [u64; 5]| check_by(&puzzle(), &[0; 40], |index, _| values[index as usize]);
    assert_eq!(effort([0; 5]), Ok(u64::MAX), "no division by zero, no overflow");
    assert_eq!(effort([1 << 32; 5]), Ok(5 * u64::from(u32::MAX)));
    assert_eq!(effort([1, 1 << 32, 0, 2, 3]), Ok(5 * u64::from(u32::MAX)));
    let target = puzzle().target;
    assert_eq!(effort([target; 5]), Ok(5 * 2664), "just what was asked for");
}

#[test]
fn nonces_of_one_puzzle_do_not_solve_another() {
    let work = work_of(&[NONCES[1], NONCES[0], NONCES[2], NONCES[3], NONCES[4]]);
    assert_eq!(check(&puzzle(), &work), Err(Refusal::WorkInsufficient));
    let other = Puzzle::for_entry(&network(4000, 100, 5), &EntryId::from_bytes([9; 32]), 333);
    assert_eq!(check(&other, &work_of(&NONCES)), Err(Refusal::WorkInsufficient));
}

proptest! {
    #[test]
    fn one_prepared_block_hashes_as_sha256_does(seed: [u8; 32], index: u32, nonces: [u64; 3]) {
        let mut block = Block::new(&seed, index);
        let mut turned = Block::new(&seed, !index);
        turned.turn_to(index);
        for nonce in nonces {
            let digest = Sha256::new()
                .chain_update(seed)
                .chain_update(index.to_be_bytes())
                .chain_update(nonce.to_be_bytes())
                .finalize();
            prop_assert_eq!(&block.value(nonce).to_be_bytes(), &digest[..8]);
            prop_assert_eq!(turned.value(nonce), block.value(nonce));
        }
    }

    #[test]
    fn better_work_than_asked_for_is_accepted(price in 1_u64..4000, nonces: [u64; 5]) {
        let [easy, hard] = [price, 4000]
            .map(|price| Puzzle::for_entry(&network(price, 1, 5), &EntryId::from_bytes([0; 32]), 1));
        let [by_easy, by_hard] = [easy, hard].map(|puzzle| check(&puzzle, &work_of(&nonces)));
        prop_assert!(by_hard.is_err() || by_easy == by_hard);
    }
}
