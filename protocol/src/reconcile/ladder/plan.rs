//! How many groups, and how many syndromes of each, to ask for (SPEC 10.8).

use crate::reconcile::sketch::{GROUP_SYNDROMES, MAX_LEVEL};

/// Estimated differences beyond which groups are too full to be decoded: then the buckets are listed. With as many, a group
/// holds 37 of the 63 that can be decoded, and 100,000 are seldom taken for more.
pub const MAX_DECODED: u64 = 150_000;
/// Differences of a group that are aimed at, at most.
const FILLING: u64 = 28;
/// Fewest syndromes asked for; the claim had one less.
const LEAST_SYNDROMES: usize = 17;

/// Level of the groups and number of their syndromes, for so many differences as the estimator says: for those of a group and a
/// standard deviation more.
pub(super) fn plan(distance: u64) -> (u8, usize) {
    let expected = distance.min(MAX_DECODED);
    let filling = |level: u8| expected.div_ceil(1 << level);
    let level = (0..MAX_LEVEL).find(|level| filling(*level) <= FILLING).unwrap_or(MAX_LEVEL);
    let filling = filling(level);
    let capacity = (filling + filling.isqrt()) as usize + 3;
    (level, capacity.clamp(LEAST_SYNDROMES, GROUP_SYNDROMES))
}

/// The number of syndromes with which all groups decode, but for one time in 64, after `failed` of them did not with
/// `capacity` and so many differences were found in the others.
///
/// Differences fall into groups as in Poisson's distribution, in which values of f + t or more have a share of
/// about exp(-t² / 2f): with t² = 2 ln 2 (level + 6) f, this is 1/64 of one of the 2^level groups.
pub(super) fn enough(level: u8, decoded: u64, failed: usize, capacity: usize) -> usize {
    // Those that failed hold a little more than they were asked for.
    let left = failed * (capacity + capacity.isqrt());
    let filling = (decoded + left as u64).div_ceil(1 << level);
    let more = (filling * (u64::from(level) + 6) * 7 / 5).isqrt();
    let enough = (filling + more) as usize + 3;
    enough.max(capacity + capacity / 4).min(GROUP_SYNDROMES)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use super::{super::MAX_ROUNDS, *};
    use crate::reconcile::random::Random;

    #[test]
    fn the_plan_follows_the_estimate() {
        assert_eq!(plan(1), (0, LEAST_SYNDROMES));
        assert_eq!(plan(28), (0, 28 + 5 + 3));
        assert_eq!(plan(30), (1, LEAST_SYNDROMES.max(15 + 3 + 3)));
        assert_eq!(plan(MAX_DECODED), (12, 37 + 6 + 3));
        assert_eq!(plan(u64::MAX), plan(MAX_DECODED));
        for distance in 1..MAX_DECODED {
            let (level, capacity) = plan(distance);
            assert!(level == 0 || distance > FILLING << (level - 1), "{distance}: level {level}");
            assert!((LEAST_SYNDROMES..=GROUP_SYNDROMES).contains(&capacity));
        }
    }

    #[test]
    fn a_second_answer_is_enough_and_they_end() {
        // 16 in each of 64 groups: 20 syndromes were too few for 12 of them.
        assert_eq!(enough(6, 52 * 14, 12, 20), 16 + 16 + 3);
        // The estimate was much too low.
        assert_eq!(enough(6, 0, 64, 20), 24 + 20 + 3);
        for level in 0..=MAX_LEVEL {
            let mut capacity = LEAST_SYNDROMES;
            for _ in 0..MAX_ROUNDS - 1 {
                capacity = enough(level, 0, 1, capacity);
            }
            assert_eq!(capacity, GROUP_SYNDROMES, "level {level}");
        }
    }

    /// How differences fall into groups, without the groups: what the answers weigh, and how many it takes.
    #[test]
    fn a_thousand_differences_take_two_answers_and_thirteen_bytes_each() {
        let mut random = Random::seeded("a_thousand_differences", 31);
        for (differences, most, mean) in [(100_usize, 20, 14), (1000, 17, 14), (10_000, 17, 14)] {
            let (mut total, trials) = (0, 60);
            for _ in 0..trials {
                let walk = |random: &mut Random| {
                    (0..differences).map(|_| if random.chance(0.5) { 1 } else { -1 }).sum::<i64>().pow(2)
                };
                let squares: i64 = (0..64).map(|_| walk(&mut random)).sum();
                let (level, mut capacity) = plan(squares.unsigned_abs().div_ceil(64));
                let mut groups = vec![0; 1 << level];
                (0..differences).for_each(|_| groups[random.below(1 << level)] += 1);
                let (mut words, mut answers, mut have) = (0, 0, 0);
                let mut open = groups.len();
                while open > 0 {
                    words += open * (capacity - have);
                    answers += 1;
                    have = capacity;
                    let full = |count: &&usize| **count >= have;
                    let decoded: usize = groups.iter().filter(|count| !full(count)).sum();
                    open = groups.iter().filter(full).count();
                    capacity = enough(level, decoded as u64, open, capacity);
                }
                assert!(answers <= 2, "{answers} answers for {differences}");
                assert!(words * 8 <= most * differences, "{} bytes for {differences}", words * 8);
                total += words * 8;
            }
            assert!(total <= mean * differences * trials, "{total} bytes for {differences}");
        }
    }
}
