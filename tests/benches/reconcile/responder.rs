//! The responder: a store as a node has it, with everything merged, as it is at rest.

use anyhow::{Context as _, Result, ensure};
use p2pdb::{
    clock::Clock,
    node::store_file,
    protocol::{
        codec::bounded::Blob,
        entry::{self, Entry, Header, WrappedKey},
        id::{RecipientId, TableId},
        message::sync::{Groups, Question, SyncRequest, SyncResponse, word_bytes},
        network::Network,
        reconcile::roots,
    },
    store::{NewEntry, Store, StoreOptions},
};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::sets::{HOUR, Item, SPAN};
use crate::support::{
    data::{network, table_key, target_directory},
    random::Random,
};

/// Entries of a commit.
const BATCH: usize = 1_000;
/// Entries of the last hour, at most: as many as the responder has for itself when the differences are the most and recent.
const RECENT: usize = 50_000;

/// A store of entries of one table, of 52 weeks.
pub(super) struct Responder {
    pub(super) network: Network,
    pub(super) table: TableId,
    /// Ascending.
    pub(super) items: Vec<Item>,
    /// How many of them were created in the last hour.
    pub(super) recent: usize,
    runtime: Runtime,
    store: Store,
    _directory: TempDir,
}

impl Responder {
    pub(super) fn new(count: usize) -> Result<Self> {
        let directory = TempDir::new_in(target_directory())?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let network = network().network;
        let key = table_key(2048)?.public_key().clone();
        let table = key.table_id();
        let options = StoreOptions::default();
        let entered = runtime.enter();
        let store =
            Store::open(&store_file(directory.path()), network.clone(), options, Clock::manual(SPAN))?;
        drop(entered);
        let recent = (count / 8).min(RECENT);
        let (mut random, mut items) = (Random::new(1), Vec::with_capacity(count));
        while items.len() < count {
            let batch = (items.len()..count.min(items.len() + BATCH)).map(|number| {
                let span = if number < recent { HOUR } else { SPAN };
                let created = SPAN - 1 - random.range(0..span);
                let entry = made_up(&network, table, created, number as u64)?;
                items.push((entry.id(), created));
                Ok(NewEntry { entry, key: key.clone() })
            });
            let batch = batch.collect::<Result<Vec<_>>>()?;
            runtime.block_on(store.commit(batch))?;
        }
        runtime.block_on(store.merge())?;
        items.sort_unstable();
        ensure!(runtime.block_on(store.stats())?.entries == count as u64, "an entry was not stored");
        Ok(Self { network, table, items, recent, runtime, store, _directory: directory })
    }

    /// The answer of a node (SPEC 8.7).
    pub(super) fn answer(&self, request: SyncRequest) -> Result<SyncResponse> {
        let since = self.store.scope_for(request.since);
        match request.question().context("no question")? {
            Question::Tables(tables) => {
                let mut own = Vec::with_capacity(tables.len());
                for (table, candidates) in tables {
                    own.push((candidates, self.runtime.block_on(self.store.summary(table, since))?.0));
                }
                Ok(roots::answer_for_each(since, &own))
            }
            Question::Groups(asked) => {
                let groups = self.store.groups(asked.table, since, asked.level, Some(asked.groups));
                let sketched = self.runtime.block_on(groups)?;
                let ranges =
                    sketched.groups.iter().filter_map(|group| group.syndromes().get(asked.syndromes.clone()));
                let syndromes = Blob::try_from(word_bytes(ranges.flatten().copied()))?;
                let (n, root) = (sketched.tally.len(), sketched.tally.root());
                let groups = Some(Groups { n, root, syndromes });
                Ok(SyncResponse { since, groups, ..SyncResponse::default() })
            }
            Question::All(_) => anyhow::bail!("there is one table only"),
        }
    }
}

/// As small as an entry can be; the store does not verify signatures.
fn made_up(network: &Network, table: TableId, created: u64, number: u64) -> Result<Entry> {
    let body = number.to_be_bytes();
    let header = Header {
        table,
        created,
        expires: None,
        recipients: vec![WrappedKey { recipient: RecipientId::from_bytes([1; 32]), wrapped: vec![0; 256] }],
        body_hash: Sha256::digest(body).into(),
        body_length: body.len() as u64,
    };
    let encoded = entry::encode(&header.encode(), &body, &[0; 256], &[0; 8]);
    Ok(Entry::from_trusted(encoded, network)?)
}
