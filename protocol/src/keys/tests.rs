#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod backends;
mod files;
mod refused;

use super::{KeyError, PrivateKey, PublicKey, testing};
use crate::id::{RecipientId, TableId};

#[test]
fn ids_are_the_hash_of_the_encoding() {
    use sha2::{Digest, Sha256};
    let public = testing::key(0).public_key();
    let digest: [u8; 32] = Sha256::digest(public.der()).into();
    assert_eq!(public.table_id(), TableId::from_bytes(digest));
    assert_eq!(public.recipient_id(), RecipientId::from_bytes(digest));
    assert_eq!((public.bits(), public.modulus_bytes()), (2048, 256));
}

#[test]
fn a_key_has_one_encoding_and_survives_it() {
    let public = testing::key(0).public_key();
    let again = PublicKey::from_der(public.der()).unwrap();
    assert_eq!(&again, public);
    assert_eq!(again.der(), public.der());
    assert_ne!(&again, testing::key(1).public_key());
}

#[test]
fn nothing_private_is_shown() {
    let key = testing::key(0);
    let id = key.public_key().recipient_id();
    let expected = format!("PrivateKey {{ public: PublicKey {{ bits: 2048, id: {id} }}, .. }}");
    assert_eq!(format!("{key:?}"), expected);
}

#[test]
fn keys_are_made_in_permitted_sizes_only() {
    for bits in [0, 1024, 2040, 2049, 3071, 4104, 8192] {
        let refused = PrivateKey::generate(&mut testing::rng(), bits).unwrap_err();
        assert_eq!(refused, KeyError::WrongSize { got: bits });
    }
    // The least common size that is permitted works in both backends too.
    let odd = PrivateKey::generate(&mut testing::rng(), 2056).unwrap();
    let signature = odd.sign(&mut testing::rng(), b"m").unwrap();
    assert_eq!(signature.len(), 257);
    odd.public_key().verify(b"m", &signature).unwrap();
    odd.public_key().pure().verify(b"m", &signature).unwrap();
    assert_eq!(PublicKey::from_der(odd.public_key().der()).unwrap().bits(), 2056);
}
