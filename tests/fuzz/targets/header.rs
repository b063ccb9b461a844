//! A header has one encoding: what is decoded encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{entry::Header, limits::MAX_RECIPIENTS};

fuzz_target!(|bytes: &[u8]| {
    let Ok(header) = Header::decode(bytes) else { return };
    assert_eq!(header.encode(), bytes);
    assert!((1..=MAX_RECIPIENTS).contains(&header.recipients.len()));
    assert!(header.recipients.is_sorted_by(|a, b| a.recipient < b.recipient));
    assert!(header.expires.is_none_or(|expires| expires > header.created));
});
