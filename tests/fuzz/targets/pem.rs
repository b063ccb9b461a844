//! Key files: a key that is read obeys SPEC 3.1 and has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use p2pdb_protocol::{
    keys::{PrivateKey, PublicKey},
    limits::{MAX_SPKI_BYTES, RSA_BITS},
};

fn check(key: &PublicKey) {
    assert!(RSA_BITS.contains(&key.bits()) && key.bits() % 8 == 0);
    assert!(key.der().len() <= MAX_SPKI_BYTES);
    assert_eq!(PublicKey::from_der(key.der()).expect("its own encoding").table_id(), key.table_id());
    let text = key.to_pem().expect("a key can be written");
    assert_eq!(PublicKey::from_pem(&text).expect("what is written can be read").der(), key.der());
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(key) = PublicKey::from_der(bytes) {
        assert_eq!(key.der(), bytes);
        check(&key);
    }
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(key) = PublicKey::from_pem(text) {
        check(&key);
    }
    if let Ok(key) = PrivateKey::from_pem(text, None) {
        check(key.public_key());
        let text = key.to_pem().expect("a key can be written");
        let again = PrivateKey::from_pem(&text, None).expect("what is written can be read");
        assert_eq!(again.public_key().der(), key.public_key().der());
        assert_eq!(*again.to_pem().expect("as before"), *text);
    }
    // A passphrase must not be tried on what is not encrypted, nor make the work unbounded.
    let _ = PrivateKey::from_pem(text, Some("passphrase"));
});
