//! Hands entries to a node (SPEC 8.4).

use serde::{Deserialize, Serialize};

use crate::{
    codec::bounded::{Blob, List},
    limits,
    message::Operation,
};

/// An encoded entry inside a message; admission decodes it.
pub type EntryBytes = Blob<{ limits::MAX_ENTRY_BYTES }>;
/// A table's public key inside a message, as DER SPKI.
pub type KeyBytes = Blob<{ limits::MAX_SPKI_BYTES }>;

/// The put operation.
#[derive(Debug, Clone, Copy)]
pub struct Put;

impl Operation for Put {
    const NAME: &'static str = "put";
    const MAX_REQUEST: usize = limits::PUT_REQUEST_BYTES;
    const MAX_RESPONSE: usize = limits::PUT_RESPONSE_BYTES;
    type Request = PutRequest;
    type Response = PutResponse;
}

/// Entries to be stored, with the keys of their tables as far as the node may lack them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutRequest {
    /// 1 to [`limits::MAX_PUT_ENTRIES`] encoded entries.
    pub entries: List<EntryBytes, { limits::MAX_PUT_ENTRIES }>,
    /// Public keys of the entries' tables.
    #[serde(default)]
    pub keys: List<KeyBytes, { limits::MAX_PUT_KEYS }>,
}

/// What became of each entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutResponse {
    /// A code of SPEC 6.2 for each entry, in the order of the request.
    pub outcomes: List<u64, { limits::MAX_PUT_ENTRIES }>,
}
