//! Entries: what the posters of a table sign and nodes keep (SPEC 4, 6.1).
//!
//! An entry goes through three types, so that a step of admission can be neither skipped nor taken too early:
//! [`UnverifiedEntry`] decoded, [`WorkedEntry`] paid for by its proof of work, [`Entry`] signed by its table.

mod admission;
mod header;

pub use admission::{Entry, UnverifiedEntry, WorkedEntry};
use bytes::Bytes;
pub use header::{Header, WrappedKey};
use md5::Md5;
use sha2::{Digest as _, Sha256};

use crate::{codec::strict::Writer, id::EntryId};

/// The id of the entry with this encoded header and this body (SPEC 4.3).
#[must_use]
pub fn entry_id(header: &[u8], body: &[u8]) -> EntryId {
    let bucket = Md5::digest(body);
    let rest = Sha256::new().chain_update(b"p2pdb entry v1").chain_update(header).finalize();
    let mut id = [0; 32];
    for (to, from) in id.iter_mut().zip(bucket.iter().take(2).chain(&rest)) {
        *to = *from;
    }
    EntryId::from_bytes(id)
}

/// Encodes an entry of its four parts (SPEC 4.1). Nothing is checked.
#[must_use]
pub fn encode(header: &[u8], body: &[u8], signature: &[u8], work: &[u8]) -> Bytes {
    Writer::new().array(4).bytes(header).bytes(body).bytes(signature).bytes(work).take().into()
}

/// What the table's key signs of the entry with this id (SPEC 4.8).
#[must_use]
pub fn signed_message(id: &EntryId) -> Vec<u8> {
    [b"p2pdb signature v1", &id.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests;
