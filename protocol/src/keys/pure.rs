//! RSA operations in pure Rust: always compiled, used where `aws-lc` is not.

use rand_core::CryptoRng;
use rsa::{Oaep, traits::PublicKeyParts};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{OperationError, SignatureError};

/// What OAEP with SHA-256 adds to a message, in bytes (RFC 8017, 7.1.1).
const OAEP_OVERHEAD: usize = 2 * 32 + 2;

pub(super) struct Public(pub(super) rsa::PublicKey);

impl Public {
    /// Verifies an RSA-PSS signature with exactly the parameters of SPEC 3.4.
    #[cfg_attr(all(feature = "aws-lc", not(test)), expect(dead_code, reason = "aws-lc does it"))]
    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.0.pss_verify::<Sha256>(message, signature).map_err(|_| SignatureError)
    }

    pub(super) fn encrypt(
        &self,
        rng: &mut impl CryptoRng,
        label: &[u8],
        data: &[u8],
    ) -> Result<Vec<u8>, OperationError> {
        let max = self.0.size().saturating_sub(OAEP_OVERHEAD);
        if data.len() > max {
            return Err(OperationError::TooLong { max, got: data.len() });
        }
        let padding = Oaep::<Sha256>::new_with_label(label);
        self.0.encrypt(rng, padding, data).map_err(|_| OperationError::Encrypt)
    }
}

pub(super) struct Private(pub(super) rsa::PrivateKey);

#[cfg_attr(all(feature = "aws-lc", not(test)), expect(dead_code, reason = "aws-lc does it"))]
impl Private {
    pub(super) fn sign(&self, rng: &mut impl CryptoRng, message: &[u8]) -> Result<Vec<u8>, OperationError> {
        self.0.pss_sign_with_rng::<Sha256, _>(rng, message).map_err(|_| OperationError::Sign)
    }

    /// Decrypts, blinded with randomness of the operating system.
    pub(super) fn decrypt(
        &self,
        label: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OperationError> {
        let padding = Oaep::<Sha256>::new_with_label(label);
        self.0.decrypt(padding, ciphertext).map(Zeroizing::new).map_err(|_| OperationError::Decrypt)
    }
}
