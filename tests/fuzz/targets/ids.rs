//! An id that is read is written the same: there is one text for it, but for the case.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::id::{EntryId, NetworkId, RecipientId, TableId};

fn check<T: std::str::FromStr + std::fmt::Display>(text: &str) -> bool {
    let id = text.parse::<T>();
    if let Ok(id) = &id {
        assert_eq!(id.to_string(), text.trim().to_lowercase());
    }
    id.is_ok()
}

fuzz_target!(|text: &str| {
    let types = [
        check::<EntryId>(text),
        check::<TableId>(text),
        check::<RecipientId>(text),
        check::<NetworkId>(text),
    ];
    assert!(types.iter().filter(|is_one| **is_one).count() <= 1, "an id of two types");
});
