//! The first message when two nodes meet: who they are and whom they know (SPEC 8.3).

use serde::{Deserialize, Serialize};

use crate::{
    codec::bounded::{Blob, List},
    id::TableId,
    limits,
    message::Operation,
};

/// A signed node record, still encoded; `record::SignedRecord` verifies it (SPEC 7).
pub type RecordBytes = Blob<{ limits::MAX_RECORD_BYTES }>;

/// The hello operation.
#[derive(Debug, Clone, Copy)]
pub struct Hello;

impl Operation for Hello {
    const NAME: &'static str = "hello";
    const MAX_REQUEST: usize = limits::HELLO_REQUEST_BYTES;
    const MAX_RESPONSE: usize = limits::HELLO_RESPONSE_BYTES;
    type Request = HelloRequest;
    type Response = HelloResponse;
}

/// Introduces the requester and asks for nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloRequest {
    /// The requester's own record; none if it is a client that serves nothing.
    #[serde(default)]
    pub record: Option<RecordBytes>,
    /// Asks for nodes that mirror one of these tables; none: any node.
    #[serde(default)]
    pub tables: Option<List<TableId, { limits::MAX_TABLES }>>,
}

/// Introduces the responder and passes on records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloResponse {
    /// The responder's own record.
    pub record: RecordBytes,
    /// Records of other nodes, each signed by its own node.
    #[serde(default)]
    pub records: List<RecordBytes, { limits::MAX_HELLO_RECORDS }>,
}
