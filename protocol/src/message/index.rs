//! Asks a node which entries it has, bucket by bucket (SPEC 8.6).

use serde::{Deserialize, Serialize};

use crate::{
    bucket::BucketSummary,
    codec::bounded::List,
    id::{EntryId, TableId},
    limits,
    message::Operation,
};

/// The index operation.
#[derive(Debug, Clone, Copy)]
pub struct Index;

impl Operation for Index {
    const NAME: &'static str = "index";
    const MAX_REQUEST: usize = limits::INDEX_REQUEST_BYTES;
    const MAX_RESPONSE: usize = limits::INDEX_RESPONSE_BYTES;
    type Request = IndexRequest;
    type Response = IndexResponse;
}

/// Asks for the buckets of a table, for the ids of one bucket, or for the tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexRequest {
    /// The table; none: which tables there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableId>,
    /// Only tables greater than this one, if tables are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after_table: Option<TableId>,
    /// Only entries created at this time or later, in unix seconds.
    #[serde(default)]
    pub since: u64,
    /// The bucket whose ids are wanted; none: the summaries of all buckets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bucket: Option<u64>,
    /// Only ids greater than this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<EntryId>,
    /// Most ids or tables wanted; [`limits::MAX_INDEX_IDS`] if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

/// Bucket summaries, the ids of one bucket, or tables.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexResponse {
    /// Start of the scope, in unix seconds: later than asked for if the node keeps less.
    pub since: u64,
    /// The non-empty buckets, ascending.
    #[serde(default)]
    pub buckets: List<BucketSummary, { limits::MAX_BUCKETS }>,
    /// Ids of the bucket asked for, ascending.
    #[serde(default)]
    pub ids: List<EntryId, { limits::MAX_INDEX_IDS }>,
    /// Tables that the node holds entries of, ascending.
    #[serde(default)]
    pub tables: List<TableId, { limits::MAX_INDEX_IDS }>,
    /// Whether there are further ids or tables.
    #[serde(default)]
    pub more: bool,
}
