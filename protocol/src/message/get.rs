//! Asks a node for entries (SPEC 8.5).

use serde::{Deserialize, Serialize};

use crate::{
    codec::bounded::{Blob, List},
    filter::Cursor,
    id::{EntryId, RecipientId, TableId},
    limits,
    message::{
        Operation,
        put::{EntryBytes, KeyBytes},
    },
};

/// The get operation.
#[derive(Debug, Clone, Copy)]
pub struct Get;

impl Operation for Get {
    const NAME: &'static str = "get";
    const MAX_REQUEST: usize = limits::GET_REQUEST_BYTES;
    const MAX_RESPONSE: usize = limits::GET_RESPONSE_BYTES;
    type Request = GetRequest;
    type Response = GetResponse;
}

/// The filters as they stand on the wire; [`crate::filter::Filter`] is what they mean.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetRequest {
    /// Entries with one of these ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<List<EntryId, { limits::MAX_GET_IDS }>>,
    /// Entries whose ids begin with one of these numbers of 8 bytes; only with one table, and nothing else but `limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sids: Option<Blob<{ 8 * limits::MAX_GET_SIDS }>>,
    /// Entries of one of these tables.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tables: Option<List<TableId, { limits::MAX_GET_TABLES }>>,
    /// Entries that one of these recipients can read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<List<RecipientId, { limits::MAX_GET_RECIPIENTS }>>,
    /// Entries of this bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// Entries that arrived at the node at most so many seconds ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_since: Option<u64>,
    /// Entries created at this time or later, in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_from: Option<u64>,
    /// Entries created before this time, in unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_until: Option<u64>,
    /// Entries that arrived at the node after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// Most entries wanted; [`limits::DEFAULT_GET_ENTRIES`] if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// A page of entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GetResponse {
    /// Arrival number at the node and encoded entry, by ascending arrival.
    pub entries: List<(u64, EntryBytes), { limits::MAX_GET_ENTRIES }>,
    /// The public key of each of the entries' tables, once.
    #[serde(default)]
    pub keys: List<KeyBytes, { limits::MAX_GET_TABLES }>,
    /// Continues behind everything looked at for this page.
    pub next: Cursor,
    /// Whether a further page exists already.
    pub more: bool,
}
