//! Reading and writing key files: DER in PEM, as openssl does (SPEC 3.1).

use rand_core::CryptoRng;
use rsa::{
    pkcs1::{self, RsaPublicKey as Pkcs1Public},
    pkcs8::{
        self, EncryptedPrivateKeyInfoRef, LineEnding, PrivateKeyInfoRef, SecretDocument,
        SubjectPublicKeyInfoRef,
        der::{
            Document,
            asn1::{AnyRef, UintRef},
        },
        spki::AlgorithmIdentifierRef,
    },
};
use zeroize::Zeroizing;

use super::{KeyError, PUBLIC_EXPONENT};
use crate::limits::RSA_BITS;

pub(super) const PUBLIC: &str = "PUBLIC KEY";
pub(super) const PRIVATE: &str = "PRIVATE KEY";
pub(super) const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";

fn not_a_key(expected: &'static str, reason: impl ToString) -> KeyError {
    KeyError::NotAKey { expected, reason: reason.to_string() }
}

fn unencodable(reason: impl ToString) -> KeyError {
    KeyError::Encode { reason: reason.to_string() }
}

fn wrong_type(expected: &'static str, got: &str) -> KeyError {
    let advice = match got {
        PRIVATE | ENCRYPTED => "this is the private key, its public key is wanted (`openssl pkey -pubout`)",
        PUBLIC => "this is the public key, its private key is wanted",
        "RSA PRIVATE KEY" => "convert it with `openssl pkcs8 -topk8`",
        "RSA PUBLIC KEY" => "convert it with `openssl rsa -RSAPublicKey_in -pubout`",
        _ => "only RSA keys in this form are used here",
    };
    KeyError::WrongType { expected, got: got.to_owned(), advice }
}

/// The DER of a public key's PEM file.
pub(super) fn read_public(text: &str) -> Result<Vec<u8>, KeyError> {
    // The label first: a private key is not to be decoded into memory that nobody wipes.
    let label = pkcs8::der::pem::decode_label(text.as_bytes()).map_err(|e| not_a_key(PUBLIC, e))?;
    if label != PUBLIC {
        return Err(wrong_type(PUBLIC, label));
    }
    let (_, document) = Document::from_pem(text).map_err(|e| not_a_key(PUBLIC, e))?;
    Ok(document.into_vec())
}

pub(super) fn write_public(document: &Document) -> Result<String, KeyError> {
    document.to_pem(PUBLIC, LineEnding::LF).map_err(unencodable)
}

/// The PKCS#8 DER of a private key's PEM file, decrypted if need be.
pub(super) fn read_private(text: &str, passphrase: Option<&str>) -> Result<SecretDocument, KeyError> {
    let (label, document) = SecretDocument::from_pem(text).map_err(|e| not_a_key(PRIVATE, e))?;
    match label {
        PRIVATE => Ok(document),
        ENCRYPTED => decrypt(&document, passphrase.ok_or(KeyError::NeedsPassphrase)?),
        other => Err(wrong_type(PRIVATE, other)),
    }
}

fn decrypt(document: &SecretDocument, passphrase: &str) -> Result<SecretDocument, KeyError> {
    let encrypted =
        document.decode_msg::<EncryptedPrivateKeyInfoRef<'_>>().map_err(|e| not_a_key(ENCRYPTED, e))?;
    encrypted.decrypt(passphrase).map_err(|error| match error {
        // CBC has no tag: with one in 256 wrong passphrases the padding looks right, and the DER is garbage.
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_) => {
            KeyError::WrongPassphrase
        }
        other => KeyError::UnsupportedEncryption { reason: other.to_string() },
    })
}

pub(super) fn write_private(document: &SecretDocument) -> Result<Zeroizing<String>, KeyError> {
    document.to_pem(PRIVATE, LineEnding::LF).map_err(unencodable)
}

/// The PEM of a private key encrypted by PBES2 with scrypt and AES-256-CBC.
pub(super) fn write_encrypted(
    rng: &mut impl CryptoRng,
    document: &SecretDocument,
    passphrase: &str,
) -> Result<Zeroizing<String>, KeyError> {
    let info = document.decode_msg::<PrivateKeyInfoRef<'_>>().map_err(unencodable)?;
    let encrypted = info.encrypt_with_rng(rng, passphrase).map_err(unencodable)?;
    encrypted.to_pem(ENCRYPTED, LineEnding::LF).map_err(unencodable)
}

/// Checks what SPEC 3.1 demands of an SPKI before any arithmetic is done with its numbers.
pub(super) fn check_public(der: &[u8]) -> Result<SubjectPublicKeyInfoRef<'_>, KeyError> {
    let spki = SubjectPublicKeyInfoRef::try_from(der).map_err(|e| not_a_key(PUBLIC, e))?;
    check_algorithm(PUBLIC, &spki.algorithm)?;
    let bits = spki.subject_public_key.as_bytes().ok_or_else(|| not_a_key(PUBLIC, "bits left over"))?;
    let key = Pkcs1Public::<UintRef<'_>>::try_from(bits).map_err(|e| not_a_key(PUBLIC, e))?;
    check_numbers(key.modulus.as_bytes(), key.public_exponent.as_bytes())?;
    Ok(spki)
}

/// The same for PKCS#8.
pub(super) fn check_private(document: &SecretDocument) -> Result<PrivateKeyInfoRef<'_>, KeyError> {
    let info = document.decode_msg::<PrivateKeyInfoRef<'_>>().map_err(|e| not_a_key(PRIVATE, e))?;
    check_algorithm(PRIVATE, &info.algorithm)?;
    let key =
        pkcs1::RsaPrivateKeyRef::try_from(info.private_key.as_bytes()).map_err(|e| not_a_key(PRIVATE, e))?;
    check_numbers(key.modulus.as_bytes(), key.public_exponent.as_bytes())?;
    Ok(info)
}

fn check_algorithm(expected: &'static str, algorithm: &AlgorithmIdentifierRef<'_>) -> Result<(), KeyError> {
    if algorithm.oid != pkcs1::ALGORITHM_OID {
        return Err(not_a_key(expected, format_args!("its algorithm is {}, not RSA", algorithm.oid)));
    }
    if algorithm.parameters != Some(AnyRef::NULL) {
        return Err(not_a_key(expected, "its parameters are not NULL"));
    }
    Ok(())
}

fn check_numbers(modulus: &[u8], exponent: &[u8]) -> Result<(), KeyError> {
    let leading = modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = modulus.len() * 8 - leading;
    check_bits(bits)?;
    let wanted = PUBLIC_EXPONENT.to_be_bytes();
    if !exponent.iter().eq(wanted.iter().skip_while(|byte| **byte == 0)) {
        let got = exponent.iter().map(|byte| format!("{byte:02x}")).collect();
        return Err(KeyError::WrongExponent { got });
    }
    Ok(())
}

pub(super) fn check_bits(bits: usize) -> Result<(), KeyError> {
    if RSA_BITS.contains(&bits) && bits.is_multiple_of(8) {
        Ok(())
    } else {
        Err(KeyError::WrongSize { got: bits })
    }
}
