//! The backend in use against the pure one: each must read what the other writes and refuse what the other refuses.

use proptest::prelude::*;
use rsa::signature::{RandomizedSigner, SignatureEncoding};
use sha2::Sha256;

use super::testing::{key, rng};

const LABEL: &[u8] = b"p2pdb content key v1";

/// Whether the backend in use accepts the signature; fails if the pure one disagrees.
fn both_verify(message: &[u8], signature: &[u8]) -> bool {
    let public = key(0).public_key();
    let (used, pure) = (public.verify(message, signature), public.pure().verify(message, signature));
    assert_eq!(used, pure, "the backends disagree on {signature:02x?}");
    used.is_ok()
}

/// What the backend in use decrypts; fails if the pure one disagrees.
fn both_decrypt(label: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
    let (used, pure) = (key(0).decrypt(label, ciphertext), key(0).pure().decrypt(label, ciphertext));
    assert_eq!(used, pure, "the backends disagree on {ciphertext:02x?}");
    used.ok().map(|plaintext| plaintext.to_vec())
}

/// `number` + the modulus, in as many bytes as the modulus: the same number to RSA, but not in range.
fn plus_modulus(number: &[u8]) -> Option<Vec<u8>> {
    use rsa::traits::PublicKeyParts;
    let modulus = key(0).public_key().pure().0.n_bytes();
    let mut carry = 0;
    let mut sum: Vec<u8> = (number.iter().rev().zip(modulus.iter().rev()))
        .map(|(a, b)| {
            let digit = u16::from(*a) + u16::from(*b) + carry;
            carry = digit >> 8;
            digit.to_le_bytes()[0]
        })
        .collect();
    sum.reverse();
    (carry == 0).then_some(sum)
}

#[test]
fn each_verifies_what_the_other_signs() {
    for message in [&b""[..], b"a", &[7; 1100]] {
        let by_pure = key(0).pure().sign(&mut rng(), message).unwrap();
        let by_used = key(0).sign(&mut rng(), message).unwrap();
        assert_eq!((by_pure.len(), by_used.len()), (256, 256));
        assert!(both_verify(message, &by_pure));
        assert!(both_verify(message, &by_used));
        assert!(!both_verify(b"another message", &by_used));
        assert!(key(1).public_key().verify(message, &by_used).is_err());
    }
}

#[test]
fn signatures_of_a_wrong_length_are_refused() {
    let signature = key(0).sign(&mut rng(), b"m").unwrap();
    assert!(!both_verify(b"m", &[]));
    assert!(!both_verify(b"m", &signature[..255]));
    assert!(!both_verify(b"m", &[signature.as_slice(), &[0]].concat()));
    assert!(!both_verify(b"m", &[&[0], signature.as_slice()].concat()));
    assert!(!both_verify(b"m", &[0; 256]));
    assert!(!both_verify(b"m", &[0xff; 256]));
}

#[test]
fn a_signature_beyond_the_modulus_is_refused() {
    // Salted, so one soon comes that has room for the modulus to be added.
    let (signature, beyond) = (0..1000)
        .find_map(|_| {
            let signature = key(0).sign(&mut rng(), b"m").unwrap();
            plus_modulus(&signature).map(|beyond| (signature, beyond))
        })
        .unwrap();
    assert!(both_verify(b"m", &signature));
    assert!(!both_verify(b"m", &beyond));
}

#[test]
fn a_salt_of_another_length_is_refused() {
    for length in [0, 20, 31, 33, 64] {
        let signer = rsa::pss::SigningKey::<Sha256>::new_with_salt_len(key(0).pure().0.clone(), length);
        let signature = signer.sign_with_rng(&mut rng(), b"m").to_vec();
        assert!(!both_verify(b"m", &signature), "a salt of {length} bytes was accepted");
    }
    let signer = rsa::pss::SigningKey::<Sha256>::new_with_salt_len(key(0).pure().0.clone(), 32);
    assert!(both_verify(b"m", &signer.sign_with_rng(&mut rng(), b"m").to_vec()));
}

#[test]
fn each_decrypts_what_was_encrypted_with_the_same_label() {
    for data in [&b""[..], &[9; 32], &[1; 190]] {
        let ciphertext = key(0).public_key().encrypt(&mut rng(), LABEL, data).unwrap();
        assert_eq!(ciphertext.len(), 256);
        assert_eq!(both_decrypt(LABEL, &ciphertext).as_deref(), Some(data));
        assert_eq!(both_decrypt(b"another label", &ciphertext), None);
        assert_eq!(both_decrypt(b"", &ciphertext), None);
        assert!(key(1).decrypt(LABEL, &ciphertext).is_err());
    }
    let unlabelled = key(0).public_key().encrypt(&mut rng(), b"", b"data").unwrap();
    assert_eq!(both_decrypt(b"", &unlabelled).as_deref(), Some(&b"data"[..]));
}

#[test]
fn too_much_to_encrypt_is_refused() {
    use crate::keys::OperationError;
    let refused = key(0).public_key().encrypt(&mut rng(), LABEL, &[0; 191]).unwrap_err();
    assert_eq!(refused, OperationError::TooLong { max: 190, got: 191 });
}

#[test]
fn malformed_ciphertexts_are_refused() {
    let ciphertext = key(0).public_key().encrypt(&mut rng(), LABEL, &[9; 32]).unwrap();
    assert_eq!(both_decrypt(LABEL, &[]), None);
    assert_eq!(both_decrypt(LABEL, &ciphertext[..255]), None);
    assert_eq!(both_decrypt(LABEL, &[ciphertext.as_slice(), &[0]].concat()), None);
    assert_eq!(both_decrypt(LABEL, &[&[0], ciphertext.as_slice()].concat()), None);
    assert_eq!(both_decrypt(LABEL, &[0; 256]), None);
    assert_eq!(both_decrypt(LABEL, &[0xff; 256]), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_altered_bit_is_refused(byte in 0..256_usize, bit in 0..8) {
        let mut signature = key(0).sign(&mut rng(), b"m").unwrap();
        signature[byte] ^= 1_u8 << bit;
        prop_assert!(!both_verify(b"m", &signature));
        let mut ciphertext = key(0).public_key().encrypt(&mut rng(), LABEL, &[9; 32]).unwrap();
        ciphertext[byte] ^= 1_u8 << bit;
        prop_assert_eq!(both_decrypt(LABEL, &ciphertext), None);
    }
}
