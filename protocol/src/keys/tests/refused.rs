//! Encodings that are not those of SPEC 3.1.

use rsa::traits::PublicKeyParts;

use super::{KeyError, PublicKey, testing};

const RSA_ENCRYPTION: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSASSA_PSS: &[u8] = &[0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const NULL: &[u8] = &[5, 0];
const F4: &[u8] = &[1, 0, 1];

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let header = match length {
        0..0x80 => vec![tag, u8::try_from(length).unwrap()],
        0x80..0x100 => vec![tag, 0x81, u8::try_from(length).unwrap()],
        _ => [&[tag, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [&header, value].concat()
}

fn spki(algorithm: &[&[u8]], modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let sign = if modulus[0] >= 0x80 { &[0][..] } else { &[] };
    let modulus = tlv(2, &[sign, modulus].concat());
    let key = tlv(0x30, &[modulus, tlv(2, exponent)].concat());
    let algorithm = tlv(0x30, &algorithm.concat());
    tlv(0x30, &[algorithm, tlv(3, &[&[0], key.as_slice()].concat())].concat())
}

fn modulus() -> Vec<u8> {
    testing::key(0).public_key().pure().0.n_bytes().to_vec()
}

fn refused(der: &[u8]) -> KeyError {
    PublicKey::from_der(der).unwrap_err()
}

#[test]
fn the_builder_of_these_tests_makes_good_keys() {
    let der = spki(&[RSA_ENCRYPTION, NULL], &modulus(), F4);
    assert_eq!(PublicKey::from_der(&der).unwrap(), *testing::key(0).public_key());
}

#[test]
fn wrong_sizes_are_named() {
    let sized = |bytes: usize, leading: u8| {
        let mut modulus = vec![0x55; bytes];
        modulus[0] = leading;
        spki(&[RSA_ENCRYPTION, NULL], &modulus, F4)
    };
    for (bytes, leading, bits) in [
        (64, 0xff, 512),
        (128, 0xff, 1024),
        (256, 0x7f, 2047),
        (257, 1, 2049),
        (513, 0xff, 4104),
        (1024, 0xff, 8192),
    ] {
        assert_eq!(refused(&sized(bytes, leading)), KeyError::WrongSize { got: bits });
    }
    assert!(PublicKey::from_der(&sized(512, 0x80)).is_ok(), "4096 bits are permitted");
}

#[test]
fn wrong_exponents_are_named() {
    for (exponent, hex) in [(&[3][..], "03"), (&[1, 0, 3], "010003"), (&[1, 0, 0, 0, 1], "0100000001")] {
        let refused = refused(&spki(&[RSA_ENCRYPTION, NULL], &modulus(), exponent));
        assert_eq!(refused, KeyError::WrongExponent { got: hex.to_owned() });
    }
}

#[test]
fn other_algorithms_and_parameters_are_refused() {
    for algorithm in
        [&[RSASSA_PSS, NULL][..], &[RSASSA_PSS], &[RSA_ENCRYPTION], &[RSA_ENCRYPTION, NULL, NULL], &[NULL]]
    {
        assert!(matches!(refused(&spki(algorithm, &modulus(), F4)), KeyError::NotAKey { .. }));
    }
}

#[test]
fn an_even_modulus_is_refused() {
    let mut even = modulus();
    even[255] &= 0xfe;
    assert!(matches!(refused(&spki(&[RSA_ENCRYPTION, NULL], &even, F4)), KeyError::Broken { .. }));
}

#[test]
fn other_encodings_of_the_same_key_are_refused() {
    let der = testing::key(0).public_key().der().to_vec();
    let padded_modulus = spki(&[RSA_ENCRYPTION, NULL], &[&[0, 0], modulus().as_slice()].concat(), F4);
    let padded_exponent = spki(&[RSA_ENCRYPTION, NULL], &modulus(), &[0, 1, 0, 1]);
    let trailing = [der.as_slice(), &[0]].concat();
    let long_length = [&[0x30, 0x83, 0][..], &der[2..]].concat();
    let indefinite = [&[0x30, 0x80][..], &der[4..], &[0, 0]].concat();
    let pkcs1 = der[24..].to_vec();
    assert_eq!(pkcs1[0], 0x30, "a bare RSAPublicKey");
    for (name, der) in [
        ("padded modulus", padded_modulus),
        ("padded exponent", padded_exponent),
        ("trailing byte", trailing),
        ("long length", long_length),
        ("indefinite length", indefinite),
        ("PKCS#1", pkcs1),
        ("nothing", vec![]),
    ] {
        let refused = refused(&der);
        assert!(matches!(refused, KeyError::NotAKey { .. } | KeyError::NonCanonical), "{name}: {refused:?}");
    }
}

#[test]
fn every_truncation_is_refused() {
    let der = testing::key(0).public_key().der();
    for length in 0..der.len() {
        refused(&der[..length]);
    }
}
