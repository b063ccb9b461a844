//! A network file that is read is within the bounds, and reads back as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::network::NetworkFile;

fuzz_target!(|text: &str| {
    let Ok(file) = NetworkFile::parse(text) else { return };
    assert_eq!(file.network.check(), Ok(()));
    let again = NetworkFile::parse(&file.to_toml()).expect("what is written can be read");
    assert_eq!(again.network.id(), file.network.id());
    assert_eq!(again.bootstrap, file.bootstrap);
});
