//! Gossip about fresh entries of a table: their ids, nothing else (SPEC 9).

use sha2::{Digest as _, Sha256};

use crate::{
    codec::{bounded::List, lenient},
    id::{EntryId, TableId},
    limits,
    network::Network,
};

/// The ids of fresh entries.
pub type Announce = List<EntryId, { limits::MAX_ANNOUNCE_IDS }>;

/// Longest encoding of an announce, in bytes.
pub const MAX_BYTES: usize = 3 + limits::MAX_ANNOUNCE_IDS * 34;

/// The gossip topic of a table (SPEC 9.1).
#[must_use]
pub fn topic(network: &Network, table: &TableId) -> String {
    format!("/p2pdb/{}/announce/1.0.0/{table}", network.label())
}

/// The gossip message id: the same announce has the same id wherever it comes from (SPEC 9.1).
#[must_use]
pub fn message_id(topic: &str, data: &[u8]) -> [u8; 20] {
    let hash = Sha256::new().chain_update(topic).chain_update([0]).chain_update(data).finalize();
    let mut id = [0; 20];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// Decodes an announce.
///
/// # Errors
/// If it is not an array of 1 to [`limits::MAX_ANNOUNCE_IDS`] ids.
pub fn decode(data: &[u8]) -> Result<Announce, lenient::Error> {
    let ids: Announce = lenient::from_slice(data)?;
    if ids.is_empty() { Err(lenient::Error::Decode("an announce of no ids".to_owned())) } else { Ok(ids) }
}
