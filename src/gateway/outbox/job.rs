//! A job: one entry on its way from acceptance to the nodes.

use p2pdb_protocol::{id::EntryId, keys::PublicKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far a job is. Each state leads to later ones only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::gateway) enum JobState {
    /// Accepted: its proof of work waits for its turn, or is being done.
    Queued,
    /// Its work is done; nodes are tried until one takes it.
    Sending,
    /// A node holds it durably. Others may be tried a few times more.
    Stored,
    /// It expired before any node took it, or what the disk has of it is damaged.
    Failed,
    /// Withdrawn before any node was given it.
    Cancelled,
    /// Given up: no node said that it holds it, but one that was given it may.
    Abandoned,
}

impl JobState {
    /// Whether the job is over for whoever waits for it.
    pub(in crate::gateway) const fn is_settled(self) -> bool {
        matches!(self, Self::Stored | Self::Failed | Self::Cancelled | Self::Abandoned)
    }
}

/// What one node answered when it was last given the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(in crate::gateway) struct NodeAnswer {
    /// Its peer id.
    pub(in crate::gateway) node: String,
    /// The outcome's name (`stored`, `known`, a refusal of SPEC 6.2), or why there is none.
    pub(in crate::gateway) outcome: String,
}

/// A job as it is on disk, without the entry itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::gateway) struct Job {
    /// The id of the entry, which is fixed at acceptance: whatever is done twice, it is one entry.
    pub(in crate::gateway) id: EntryId,
    /// The space it was put to.
    pub(in crate::gateway) space: String,
    /// The app that put it; empty: the owner.
    pub(in crate::gateway) app: String,
    pub(in crate::gateway) state: JobState,
    /// When it was accepted, in unix seconds.
    pub(in crate::gateway) accepted: u64,
    /// When the entry expires, in unix seconds.
    pub(in crate::gateway) expires: Option<u64>,
    /// The SPKI DER of the table's key, in base64.
    pub(in crate::gateway) table_key: String,
    /// Whether a node was given it, or may have been: from then on it cannot be taken back.
    pub(in crate::gateway) handed_out: bool,
    /// The nodes that hold it durably.
    pub(in crate::gateway) holders: Vec<String>,
    /// What each node of the last try answered.
    pub(in crate::gateway) answers: Vec<NodeAnswer>,
    /// Tries to send it.
    pub(in crate::gateway) tries: u32,
    /// When it is tried again, in unix seconds; nothing: no more.
    pub(in crate::gateway) next_try: Option<u64>,
    /// Why the last try found no node, or why the job failed.
    pub(in crate::gateway) error: Option<String>,
    /// When it was settled, in unix seconds.
    pub(in crate::gateway) settled: Option<u64>,
    /// The table's id and the idempotency key it was put with.
    pub(in crate::gateway) idempotency: Option<String>,
}

impl Job {
    /// Whether it is for the table with this key.
    pub(in crate::gateway) fn is_for(&self, table: &PublicKey) -> bool {
        self.table_key == data_encoding::BASE64.encode(table.der())
    }
}
