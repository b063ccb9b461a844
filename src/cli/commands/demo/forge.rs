//! Entries as cheats would make them, from the parts of honest ones.

use anyhow::{Result, ensure};
use p2pdb_protocol::{
    codec::strict::Reader,
    entry::{self, Entry, signed_message},
    keys::PrivateKey,
    limits::MAX_ENTRY_BYTES,
    network::Network,
    pow::Solver,
    seal::SealedEntry,
};

use crate::cli::context::rng;

/// The entry as a cheat makes it who has everything but the table's key, the work included: signed with his own key.
pub(super) fn forged(entry: &Entry, key: &PrivateKey, network: &Network) -> Result<Entry> {
    let mut reader = Reader::new(entry.encoded());
    reader.tuple(4)?;
    let header = reader.bytes(MAX_ENTRY_BYTES)?;
    let body = reader.bytes(MAX_ENTRY_BYTES)?;
    let signature = reader.bytes(MAX_ENTRY_BYTES)?;
    let work = reader.bytes(MAX_ENTRY_BYTES)?;
    let own = key.sign(&mut rng(), &signed_message(&entry.id()))?;
    ensure!(own != signature, "the forged signature is the genuine one");
    // Nobody checks a signature on the way out.
    Ok(Entry::from_trusted(entry::encode(header, body, &own, work), network)?)
}

/// The entry with work of the right form that cost only one part in `parts` of the price.
pub(super) fn cheap(sealed: &SealedEntry, network: &Network, parts: u64) -> Result<Entry> {
    let cheaper = Network { work_price: network.work_price / parts, ..network.clone() };
    let solver = Solver::new(sealed.puzzle(&cheaper));
    let work = solver.solve(std::num::NonZeroUsize::MIN, &Default::default(), &|_| {})?;
    // By the rules of its own network it is in order.
    Ok(sealed.finish(&work, &cheaper)?)
}
