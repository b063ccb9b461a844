//! RSA keys of tables, recipients and authors (SPEC 3).
//!
//! Generating, reading and writing keys is done by the `rsa` crate. With the feature `aws-lc` (on by default) the work in
//! bulk - verifying, signing, decrypting - goes through aws-lc, which is several times faster; without it the same
//! operations are pure Rust. Both accept and refuse the same inputs, and the tests hold one against the other.

mod pem;
mod private;
mod public;
mod pure;

#[cfg(feature = "aws-lc")]
mod aws;

pub use private::PrivateKey;
pub use public::PublicKey;

use crate::limits::RSA_BITS;

/// The only public exponent that is permitted (SPEC 3.1).
pub const PUBLIC_EXPONENT: u32 = 65537;

/// Why something is not a key that this protocol permits, and what to do about it (SPEC 3.1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not PEM, not DER, or not an RSA key.
    #[error("not an RSA key: {reason}; expected a file that begins with -----BEGIN {expected}-----")]
    NotAKey {
        /// The PEM type that was expected.
        expected: &'static str,
        /// What the decoder found.
        reason: String,
    },
    /// PEM of another type.
    #[error("expected a PEM file of type {expected}, got {got}: {advice}")]
    WrongType {
        /// The PEM type that was expected.
        expected: &'static str,
        /// The PEM type that was found.
        got: String,
        /// How to come by the expected type.
        advice: &'static str,
    },
    /// An encrypted key, and no passphrase was given.
    #[error("the private key is encrypted: give its passphrase")]
    NeedsPassphrase,
    /// The passphrase does not decrypt the key.
    #[error("wrong passphrase for this private key: try again")]
    WrongPassphrase,
    /// Encrypted in a way that is not supported.
    #[error(
        "cannot read this kind of encryption ({reason}): \
         convert the key with `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256`"
    )]
    UnsupportedEncryption {
        /// What is not supported.
        reason: String,
    },
    /// The modulus is too small, too large, or not a whole number of bytes.
    #[error(
        "expected an RSA key of {} to {} bits, a multiple of 8, got {got} bits: make a new one, best of 3072 bits",
        RSA_BITS.start(), RSA_BITS.end()
    )]
    WrongSize {
        /// The length of the modulus, in bits.
        got: usize,
    },
    /// The public exponent is not [`PUBLIC_EXPONENT`].
    #[error("expected the public exponent {PUBLIC_EXPONENT}, got 0x{got}: make a new key")]
    WrongExponent {
        /// The exponent found, in hexadecimal.
        got: String,
    },
    /// Not the one encoding that a key has.
    #[error("the key is not in canonical DER: write it again with `openssl pkey -pubin -pubout`")]
    NonCanonical,
    /// The numbers do not make up a working key.
    #[error("the key is broken: {reason}; take it from a backup or make a new one")]
    Broken {
        /// What does not fit.
        reason: String,
    },
    /// A key could not be written or encrypted.
    #[error("cannot encode the key: {reason}")]
    Encode {
        /// What the encoder reported.
        reason: String,
    },
}

/// The signature was not made by this key over this message (SPEC 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature was not made by this key over this message")]
pub struct SignatureError;

/// An RSA operation that could not be done (SPEC 3.4, 4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OperationError {
    /// The backend could not sign: out of memory, or it found its own result wrong.
    #[error("signing failed")]
    Sign,
    /// More than fits.
    #[error("expected at most {max} bytes to encrypt, got {got}")]
    TooLong {
        /// The largest number of bytes that this key can encrypt.
        max: usize,
        /// The number of bytes given.
        got: usize,
    },
    /// The backend could not encrypt.
    #[error("encryption failed")]
    Encrypt,
    /// Encrypted to another key or under another label, or altered. Which of them is not told, and nobody over a
    /// network may be told even this (SPEC 13.5).
    #[error("not encrypted to this key, or altered")]
    Decrypt,
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
