//! The daemon's own copy of the tables of its spaces: sealed as the nodes have it, with the store's indexes.

use p2pdb_protocol::{
    entry::Entry,
    filter::{Cursor, Filter},
    keys::PublicKey,
};
use tokio::sync::watch;

use crate::store::{Committed, NewEntry, Page, Store, StoreError};

/// Bytes of entries in one page, at most.
const MAX_PAGE_BYTES: usize = 4 << 20;

/// A store, and word of what arrives in it.
#[derive(Debug)]
pub(super) struct Mirror {
    store: Store,
    changed: watch::Sender<()>,
}

impl Mirror {
    pub(super) fn new(store: Store) -> Self {
        Self { store, changed: watch::Sender::default() }
    }

    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// Says when entries have arrived.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Keeps verified entries of one table; how many of them are new.
    pub(super) async fn commit(&self, entries: Vec<Entry>, key: &PublicKey) -> Result<usize, StoreError> {
        if entries.is_empty() {
            return Ok(0);
        }
        let entries = entries.into_iter().map(|entry| NewEntry { entry, key: key.clone() }).collect();
        let committed = self.store.commit(entries).await?;
        let new = committed.iter().filter(|one| matches!(one, Committed::Stored { .. })).count();
        if new > 0 {
            self.changed.send_replace(());
        }
        Ok(new)
    }

    /// Takes back an own entry that never left the daemon.
    pub(super) async fn withdraw(&self, entry: &Entry) -> Result<(), StoreError> {
        self.store.withdraw(entry.header().table, vec![entry.id()]).await
    }

    /// A page of what passes the filter, in the order of arrival here.
    pub(super) async fn page(&self, filter: Filter) -> Result<Page, StoreError> {
        self.store.get(filter, None, MAX_PAGE_BYTES).await
    }

    /// The place in the order of arrivals behind all that is there of the table.
    pub(super) async fn newest(&self, filter: Filter) -> Result<Cursor, StoreError> {
        let arrival = self.store.stats().await?.newest_arrival;
        let filter = Filter { cursor: Some(Cursor { store: self.store.id(), arrival }), limit: 1, ..filter };
        Ok(self.page(filter).await?.next)
    }
}
