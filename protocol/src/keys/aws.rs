//! RSA operations through aws-lc, several times as fast as [`super::pure`].

use aws_lc_rs::{
    rand::SystemRandom,
    rsa::{KeyPair, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey},
    signature::{ParsedPublicKey, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256},
};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::{KeyError, OperationError, SignatureError};

fn refused(error: impl ToString) -> KeyError {
    KeyError::Broken { reason: error.to_string() }
}

/// A public key parsed once: parsing costs as much as verifying.
pub(super) struct Public(ParsedPublicKey);

impl Public {
    pub(super) fn new(spki: &[u8]) -> Result<Self, KeyError> {
        ParsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, spki).map(Self).map_err(refused)
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        self.0.verify_sig(message, signature).map_err(|_| SignatureError)
    }
}

pub(super) struct Private {
    signing: KeyPair,
    decrypting: OaepPrivateDecryptingKey,
}

impl Private {
    pub(super) fn new(pkcs8: &[u8]) -> Result<Self, KeyError> {
        let signing = KeyPair::from_pkcs8(pkcs8).map_err(refused)?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(refused)?;
        let decrypting = OaepPrivateDecryptingKey::new(decrypting).map_err(refused)?;
        Ok(Self { signing, decrypting })
    }

    /// Signs; the salt comes from aws-lc's own generator, which cannot be replaced by `_rng`.
    pub(super) fn sign(&self, _rng: &mut impl CryptoRng, message: &[u8]) -> Result<Vec<u8>, OperationError> {
        let mut signature = vec![0; self.signing.public_modulus_len()];
        self.signing
            .sign(&RSA_PSS_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| OperationError::Sign)?;
        Ok(signature)
    }

    pub(super) fn decrypt(
        &self,
        label: &[u8],
        ciphertext: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OperationError> {
        let mut plaintext = Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let length = self
            .decrypting
            .decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut plaintext, Some(label))
            .map_err(|_| OperationError::Decrypt)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }
}
