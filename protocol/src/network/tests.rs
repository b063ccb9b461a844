#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn file() -> NetworkFile {
    NetworkFile { network: Network::default(), bootstrap: vec!["/ip4/192.0.2.1/tcp/4001".to_owned()] }
}

#[test]
fn the_file_survives_writing_and_reading() {
    assert_eq!(NetworkFile::parse(&file().to_toml()), Ok(file()));
}

#[test]
fn errors_name_the_key() {
    for (from, to, expected) in [
        ("work_price = 536870912", "work_price = 0", "`work_price` is 0, expected 1 to 281474976710656"),
        ("work_price", "work_prize", "work_prize"),
        ("bucket_bits = 12", "bucket_bits = 13", "`bucket_bits` is 13, expected 0 to 12"),
        ("epoch_seconds = 604800\n", "", "missing field `epoch_seconds`"),
        ("p2pdb-main", "Main Net", "`name` is \"Main Net\""),
        ("\"/ip4", "\"ip4", "`bootstrap` holds \"ip4/192.0.2.1/tcp/4001\""),
        ("bucket_bits = 12", "bucket_bits = \"12\"", "bucket_bits"),
    ] {
        let text = file().to_toml();
        assert!(text.contains(from), "{from} in {text}");
        let message = NetworkFile::parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn bootstrap_is_not_part_of_the_id_and_every_parameter_is() {
    let default = Network::default();
    let changed = [
        Network { name: "x".to_owned(), ..default.clone() },
        Network { bucket_bits: 11, ..default.clone() },
        Network { work_price: 1, ..default.clone() },
        Network { work_base_bytes: 1, ..default.clone() },
        Network { work_puzzles: 1, ..default.clone() },
        Network { max_entry_bytes: 4096, ..default.clone() },
        Network { max_clock_ahead: 1, ..default.clone() },
        Network { epoch_seconds: 60, ..default.clone() },
    ];
    let ids: std::collections::BTreeSet<_> =
        changed.iter().chain([&default]).map(|network| network.id()).collect();
    assert_eq!(ids.len(), 9);
    assert!(changed.iter().all(|network| network.check().is_ok()));
    let id = default.id().as_bytes().map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(id.get(..16), Some(&default.label()[..]));
}

proptest! {
    #[test]
    fn epochs_start_where_they_are_rounded_to(time in 0..u64::MAX / 2, epoch_seconds in 60u64..31_536_000) {
        let network = Network { epoch_seconds, ..Network::default() };
        let start = network.epoch_start_at_or_after(time);
        prop_assert!(start >= time && start - time < epoch_seconds);
        prop_assert_eq!(network.epoch(start) * epoch_seconds, start);
    }

    #[test]
    fn a_time_at_the_end_of_the_range_does_not_overflow(time: u64) {
        let _ = Network::default().epoch_start_at_or_after(time);
    }
}
