//! The body: the padded content under a content key of its own (SPEC 4.5, 4.6).

use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce, aead::AeadInOut};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::id::TableId;

/// Length of a content key, in bytes.
const KEY_BYTES: usize = 32;

/// The key of one body. It is made for that body and consumed by encrypting it, since the nonce is constant.
pub(super) struct ContentKey(Zeroizing<[u8; KEY_BYTES]>);

impl ContentKey {
    pub(super) fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        rng.fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// The key with these bytes, if they are as many as a key has.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        if bytes.len() != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Encrypts a padded content in place and appends the tag; `None` if it is too long for the cipher (256 GiB).
    pub(super) fn encrypt(self, table: &TableId, buffer: &mut Vec<u8>) -> Option<()> {
        self.cipher().encrypt_in_place(&Nonce::default(), &associated_data(table), buffer).ok()
    }

    /// Decrypts a body in place; `None` if it is not authentic.
    pub(super) fn decrypt(self, table: &TableId, buffer: &mut Vec<u8>) -> Option<()> {
        self.cipher().decrypt_in_place(&Nonce::default(), &associated_data(table), buffer).ok()
    }

    fn cipher(&self) -> ChaCha20Poly1305 {
        ChaCha20Poly1305::new((&*self.0).into())
    }
}

/// Binds a body to its table: else a co-author of another table could post it there as it is.
fn associated_data(table: &TableId) -> Vec<u8> {
    [b"p2pdb body v1", &table.as_bytes()[..]].concat()
}
