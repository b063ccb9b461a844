//! Export files: reading ends, holds the bounds, and a file that is read to its end is written the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{
    export::{Item, Reader, Writer},
    limits::{MAX_ENTRY_BYTES, MAX_SPKI_BYTES},
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(reader) = Reader::new(bytes) else { return };
    let mut writer = Writer::new(Vec::new()).expect("memory takes everything");
    for item in reader {
        match item {
            Ok(Item::TableKey(key)) => {
                assert!(key.len() <= MAX_SPKI_BYTES);
                writer.table_key(&key).expect("memory takes everything");
            }
            Ok(Item::Entry(entry)) => {
                assert!(entry.len() <= MAX_ENTRY_BYTES);
                writer.entry(&entry).expect("memory takes everything");
            }
            Err(_) => return,
        }
    }
    assert_eq!(writer.finish().expect("memory takes everything"), bytes);
});
