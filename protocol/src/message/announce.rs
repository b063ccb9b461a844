//! Gossip: the ids of fresh entries of a table, and the ids of new tables (SPEC 9).

use sha2::{Digest as _, Sha256};

use crate::{
    codec::{bounded::List, lenient},
    id::{EntryId, TableId},
    limits,
    network::Network,
};

/// The ids of fresh entries.
pub type Announce = List<EntryId, { limits::MAX_ANNOUNCE_IDS }>;

/// Tables in one announce of new tables (SPEC 9.3).
pub const MAX_NEW_TABLES: usize = 64;

/// The ids of tables that are new to whoever announces them.
pub type NewTables = List<TableId, MAX_NEW_TABLES>;

/// Longest encoding of an announce of either kind, in bytes.
pub const MAX_BYTES: usize = 3 + limits::MAX_ANNOUNCE_IDS * 34;

/// The gossip topic of a table (SPEC 9.1).
#[must_use]
pub fn topic(network: &Network, table: &TableId) -> String {
    format!("/p2pdb/{}/announce/1.0.0/{table}", network.label())
}

/// The gossip topic of new tables (SPEC 9.3).
#[must_use]
pub fn new_tables_topic(network: &Network) -> String {
    format!("/p2pdb/{}/tables/1.0.0", network.label())
}

/// The gossip message id: the same announce has the same id wherever it comes from (SPEC 9.1).
#[must_use]
pub fn message_id(topic: &str, data: &[u8]) -> [u8; 20] {
    let hash = Sha256::new().chain_update(topic).chain_update([0]).chain_update(data).finalize();
    let mut id = [0; 20];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// Decodes an announce of entries.
///
/// # Errors
/// If it is not an array of 1 to [`limits::MAX_ANNOUNCE_IDS`] ids.
pub fn decode(data: &[u8]) -> Result<Announce, lenient::Error> {
    some(lenient::from_slice(data)?)
}

/// Decodes an announce of new tables.
///
/// # Errors
/// If it is not an array of 1 to [`MAX_NEW_TABLES`] ids.
pub fn decode_new_tables(data: &[u8]) -> Result<NewTables, lenient::Error> {
    some(lenient::from_slice(data)?)
}

fn some<T, const MAX: usize>(ids: List<T, MAX>) -> Result<List<T, MAX>, lenient::Error> {
    if ids.is_empty() { Err(lenient::Error::Decode("an announce of no ids".to_owned())) } else { Ok(ids) }
}
