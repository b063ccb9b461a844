//! The file stays within `max_disk`, whatever the entries are like.

use super::*;

const MIB: u64 = 1 << 20;

/// Puts three times as much as fits and looks at the file after every request.
async fn fill(max_disk: u64, length: usize, recipients: &[u8], part: u64) {
    let fixture = Fixture::new(StoreOptions { max_disk: Some(max_disk), ..StoreOptions::default() });
    let each =
        Draft { length, recipients: recipients.to_vec(), ..Draft::default() }.entry().encoded().len() as u64;
    let (mut most, mut charged, mut seed) = (0, 0, 0);
    let fitting = charge::budget(max_disk) / charge::of_entry(each as usize, recipients.len());
    while seed < 3 * fitting {
        let drafts = (seed..seed + part).map(|seed| Draft {
            length,
            recipients: recipients.to_vec(),
            seed,
            ..Draft::default()
        });
        fixture.store.commit(drafts.map(|draft| draft.new_entry()).collect()).await.unwrap();
        seed += part;
        let stats = fixture.store.stats().await.unwrap();
        most = most.max(stats.disk_bytes);
        charged = charged.max(stats.charged_bytes);
        assert!(stats.disk_bytes <= max_disk, "{} bytes on the disk, {stats:?}", stats.disk_bytes);
    }
    let stats = fixture.store.stats().await.unwrap();
    assert!(stats.dropped > 0 && charged <= charge::budget(max_disk));
    assert!(most > max_disk / 2, "{most}: the limit leaves too much unused");
    verified(&fixture.store).await;
}

#[tokio::test]
async fn small_entries() {
    fill(32 * MIB, 16, &[1], 500).await;
}

#[tokio::test]
async fn middle_entries_with_many_recipients() {
    fill(48 * MIB, 1100, &[0, 1, 2, 3, 4, 5, 6, 7], 300).await;
}

#[tokio::test]
async fn entries_just_over_a_power_of_two() {
    fill(48 * MIB, 16_300, &[1], 40).await;
}

#[tokio::test]
async fn the_largest_entries_one_by_one() {
    fill(32 * MIB, 260_000, &[1], 1).await;
}
