//! The private half of a key.

use std::{fmt, sync::Arc};

use rand_core::CryptoRng;
use rsa::pkcs8::{EncodePrivateKey, SecretDocument};
use zeroize::Zeroizing;

#[cfg(feature = "aws-lc")]
use super::aws;
use super::{KeyError, OperationError, PublicKey, pem, public::broken, pure};

/// An RSA private key that obeys SPEC 3.1, together with its public key.
///
/// A clone is a reference to the same key. The key is wiped from memory when the last clone is dropped, but for what the `rsa`
/// crate worked out when it was loaded and does not wipe; it is never shown by `Debug`.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    public: PublicKey,
    pure: pure::Private,
    #[cfg(feature = "aws-lc")]
    aws: aws::Private,
}

impl PrivateKey {
    /// Makes a new key of this length, in bits.
    ///
    /// # Errors
    ///
    /// [`KeyError::WrongSize`] for a length that SPEC 3.1 does not permit.
    pub fn generate(rng: &mut impl CryptoRng, bits: usize) -> Result<Self, KeyError> {
        pem::check_bits(bits)?;
        Self::from_rsa(rsa::PrivateKey::new(rng, bits).map_err(broken)?)
    }

    /// The key in this PEM file of type `PRIVATE KEY` or `ENCRYPTED PRIVATE KEY` (SPEC 3.1).
    ///
    /// A passphrase for a key that is not encrypted is ignored.
    ///
    /// # Errors
    ///
    /// [`KeyError::NeedsPassphrase`] and [`KeyError::WrongPassphrase`] to ask the user, others if it is not a key
    /// that SPEC 3.1 permits.
    pub fn from_pem(text: &str, passphrase: Option<&str>) -> Result<Self, KeyError> {
        let document = pem::read_private(text, passphrase)?;
        Self::from_rsa(rsa::PrivateKey::try_from(pem::check_private(&document)?).map_err(broken)?)
    }

    fn from_rsa(key: rsa::PrivateKey) -> Result<Self, KeyError> {
        let public = PublicKey::from_rsa(key.to_public_key())?;
        #[cfg(feature = "aws-lc")]
        let aws = aws::Private::new(key.to_pkcs8_der().map_err(broken)?.as_bytes())?;
        Ok(Self(Arc::new(Inner {
            public,
            pure: pure::Private(key),
            #[cfg(feature = "aws-lc")]
            aws,
        })))
    }

    /// A PEM file of type `PRIVATE KEY`, not encrypted.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encode`], which no valid key causes.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        pem::write_private(&self.document()?)
    }

    /// A PEM file of type `ENCRYPTED PRIVATE KEY`: PBES2 with scrypt and AES-256-CBC, which openssl reads.
    ///
    /// # Errors
    ///
    /// [`KeyError::Encode`], which no valid key causes.
    pub fn to_encrypted_pem(
        &self,
        rng: &mut impl CryptoRng,
        passphrase: &str,
    ) -> Result<Zeroizing<String>, KeyError> {
        pem::write_encrypted(rng, &self.document()?, passphrase)
    }

    fn document(&self) -> Result<SecretDocument, KeyError> {
        self.0.pure.0.to_pkcs8_der().map_err(|e| KeyError::Encode { reason: e.to_string() })
    }

    /// The public half.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    /// Signs by RSA-PSS (SPEC 3.4). With the feature `aws-lc` the salt comes from that library's own generator and
    /// `rng` is not used.
    ///
    /// # Errors
    ///
    /// [`OperationError::Sign`] if the backend fails.
    pub fn sign(&self, rng: &mut impl CryptoRng, message: &[u8]) -> Result<Vec<u8>, OperationError> {
        self.backend().sign(rng, message)
    }

    /// Decrypts what [`PublicKey::encrypt`] made with the same label (SPEC 4.7).
    ///
    /// # Errors
    ///
    /// [`OperationError::Decrypt`], whatever is wrong; not to be told to a network peer (SPEC 13.5).
    pub fn decrypt(&self, label: &[u8], ciphertext: &[u8]) -> Result<Zeroizing<Vec<u8>>, OperationError> {
        self.backend().decrypt(label, ciphertext)
    }

    #[cfg(test)]
    pub(super) fn pure(&self) -> &pure::Private {
        &self.0.pure
    }

    #[cfg(feature = "aws-lc")]
    fn backend(&self) -> &aws::Private {
        &self.0.aws
    }

    #[cfg(not(feature = "aws-lc"))]
    fn backend(&self) -> &pure::Private {
        &self.0.pure
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.0.public).finish_non_exhaustive()
    }
}
