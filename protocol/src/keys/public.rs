//! The public half of a key.

use std::{fmt, sync::Arc};

use rand_core::CryptoRng;
use rsa::{
    pkcs8::{EncodePublicKey, der::Document},
    traits::PublicKeyParts,
};
use sha2::{Digest, Sha256};

#[cfg(feature = "aws-lc")]
use super::aws;
use super::{KeyError, OperationError, SignatureError, pem, pure};
use crate::id::{RecipientId, TableId};

/// An RSA public key that obeys SPEC 3.1: of a table, a recipient or an author.
///
/// A clone is a reference to the same parsed key.
#[derive(Clone)]
pub struct PublicKey(Arc<Inner>);

struct Inner {
    document: Document,
    digest: [u8; 32],
    pure: pure::Public,
    #[cfg(feature = "aws-lc")]
    aws: aws::Public,
}

impl PublicKey {
    /// The key with this SubjectPublicKeyInfo, as it travels (SPEC 3.1).
    ///
    /// # Errors
    ///
    /// [`KeyError`] for anything but the one DER encoding of a permitted key.
    pub fn from_der(spki: &[u8]) -> Result<Self, KeyError> {
        let key = rsa::PublicKey::try_from(pem::check_public(spki)?).map_err(broken)?;
        let key = Self::from_rsa(key)?;
        // An id is the hash of the encoding: a second encoding would be a second table.
        if key.der() == spki { Ok(key) } else { Err(KeyError::NonCanonical) }
    }

    /// The key in this PEM file of type `PUBLIC KEY` (SPEC 3.1).
    ///
    /// # Errors
    ///
    /// [`KeyError`] if it is not one, or not of a permitted key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        Self::from_der(&pem::read_public(text)?)
    }

    /// The public half of a key whose size and exponent were checked.
    pub(super) fn from_rsa(key: rsa::PublicKey) -> Result<Self, KeyError> {
        let document = key.to_public_key_der().map_err(broken)?;
        let digest = Sha256::digest(document.as_bytes()).into();
        #[cfg(feature = "aws-lc")]
        let aws = aws::Public::new(document.as_bytes())?;
        Ok(Self(Arc::new(Inner {
            document,
            digest,
            pure: pure::Public(key),
            #[cfg(feature = "aws-lc")]
            aws,
        })))
    }

    /// The SubjectPublicKeyInfo in DER.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        self.0.document.as_bytes()
    }

    /// A PEM file of type `PUBLIC KEY`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encode`], which no valid key causes.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        pem::write_public(&self.0.document)
    }

    /// The length of the modulus, in bits.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.modulus_bytes() * 8
    }

    /// The length of the modulus, and of every signature and wrapped key, in bytes (SPEC 3.4, 4.7).
    #[must_use]
    pub fn modulus_bytes(&self) -> usize {
        self.0.pure.0.size()
    }

    /// The id of this key as a table's (SPEC 3.2).
    #[must_use]
    pub fn table_id(&self) -> TableId {
        TableId::from_bytes(self.0.digest)
    }

    /// The id of this key as a recipient's (SPEC 3.2).
    #[must_use]
    pub fn recipient_id(&self) -> RecipientId {
        RecipientId::from_bytes(self.0.digest)
    }

    /// Verifies an RSA-PSS signature (SPEC 3.4).
    ///
    /// # Errors
    ///
    /// [`SignatureError`], whatever is wrong with it.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.backend().verify(message, signature)
    }

    /// Encrypts a few bytes to the holder of the private key by RSA-OAEP with SHA-256 (SPEC 4.7).
    ///
    /// # Errors
    ///
    /// [`OperationError::TooLong`] beyond [`PublicKey::modulus_bytes`] less 66 bytes.
    pub fn encrypt(
        &self,
        rng: &mut impl CryptoRng,
        label: &[u8],
        data: &[u8],
    ) -> Result<Vec<u8>, OperationError> {
        self.pure().encrypt(rng, label, data)
    }

    pub(super) fn pure(&self) -> &pure::Public {
        &self.0.pure
    }

    #[cfg(feature = "aws-lc")]
    fn backend(&self) -> &aws::Public {
        &self.0.aws
    }

    #[cfg(not(feature = "aws-lc"))]
    fn backend(&self) -> &pure::Public {
        &self.0.pure
    }
}

pub(super) fn broken(error: impl ToString) -> KeyError {
    KeyError::Broken { reason: error.to_string() }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.digest == other.0.digest
    }
}

impl Eq for PublicKey {}

impl std::hash::Hash for PublicKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.digest.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublicKey").field("bits", &self.bits()).field("id", &self.recipient_id()).finish()
    }
}
