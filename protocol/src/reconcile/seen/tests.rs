#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::{
    bucket::{self, BucketSummary},
    id::EntryId,
    reconcile::listing::Listing,
};

fn entry(bucket: u16, number: u32) -> EntryId {
    let mut bytes = [0; 32];
    let [high, low] = (bucket << 4).to_be_bytes();
    bytes[0] = high;
    bytes[1] = low;
    bytes[2..6].copy_from_slice(&number.to_be_bytes());
    EntryId::from_bytes(bytes)
}

/// The proof for a bucket whose only id has this number, by the only way there is: a finished list.
fn known(table: u8, bucket: u16, number: u32) -> KnownBucket {
    let ids = [entry(bucket, number)];
    let mut listing = Listing::new(BucketSummary { bucket, count: 1, digest: bucket::digest(ids.iter()) });
    listing.take_page(&ids, false, 12).unwrap();
    listing.settle(1);
    listing.close(TableId::from_bytes([table; 32])).known.unwrap()
}

fn holds(seen: &Seen, known: &KnownBucket) -> bool {
    seen.contains(&known.table(), known.bucket(), &known.digest())
}

#[test]
fn a_bucket_keeps_the_newest_digests() {
    let mut seen = Seen::new();
    let last = MAX_SEEN_DIGESTS as u32 + 2;
    for number in 0..=last {
        seen.remember(&known(1, 7, number));
    }
    assert_eq!(seen.len(), MAX_SEEN_DIGESTS);
    assert!(!holds(&seen, &known(1, 7, 2)));
    assert!(holds(&seen, &known(1, 7, 3)));
    assert!(holds(&seen, &known(1, 7, last)));
}

#[test]
fn a_digest_counts_for_its_table_and_bucket_only_and_once() {
    let mut seen = Seen::new();
    let known = known(1, 7, 1);
    seen.remember(&known);
    seen.remember(&known);
    assert_eq!(seen.len(), 1);
    assert!(holds(&seen, &known));
    assert!(!seen.contains(&TableId::from_bytes([2; 32]), 7, &known.digest()));
    assert!(!seen.contains(&known.table(), 8, &known.digest()));
}

#[test]
fn a_flood_in_one_table_leaves_the_others_alone() {
    let mut seen = Seen { max_total: 50, ..Seen::default() };
    let other: Vec<_> = (0..10).map(|bucket| known(2, bucket, 0)).collect();
    other.iter().for_each(|known| seen.remember(known));
    for number in 0..500 {
        seen.remember(&known(1, (number % 97) as u16, number));
        assert!(seen.len() <= 50);
    }
    assert!(other.iter().all(|known| holds(&seen, known)));
    assert_eq!(seen.len(), 50);
    assert!(!holds(&seen, &known(1, (459 % 97) as u16, 459)), "the oldest goes first");
    assert!(holds(&seen, &known(1, (460 % 97) as u16, 460)));
}

#[test]
fn places_that_a_bucket_gave_up_do_not_pile_up() {
    let cap = MAX_SEEN_DIGESTS * 2;
    let mut seen = Seen { max_total: cap, ..Seen::default() };
    for number in 0..(cap as u32 * 3) {
        seen.remember(&known(1, 7, number));
        assert!(seen.total <= cap);
    }
    assert_eq!(seen.len(), MAX_SEEN_DIGESTS);
    let order = seen.tables.values().map(|table| table.order.len()).sum::<usize>();
    assert_eq!(order, seen.total);
}

#[test]
fn a_forgotten_table_is_gone() {
    let mut seen = Seen::new();
    let (kept, gone) = (known(1, 7, 1), known(2, 7, 1));
    seen.remember(&kept);
    seen.remember(&gone);
    seen.forget(&gone.table());
    assert!(holds(&seen, &kept) && !holds(&seen, &gone));
    seen.forget(&kept.table());
    assert!(seen.is_empty());
}
