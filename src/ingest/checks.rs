//! The steps of admission, one by one (SPEC 6.1).

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lru::LruCache;
use p2pdb_protocol::{
    entry::UnverifiedEntry, id::TableId, keys::PublicKey, network::Network, refusal::Refusal,
};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::{Mirror, claims::Claims, store_failed};
use crate::{
    clock::Clock,
    store::{NewEntry, Store, StoreError},
};

/// Parsed keys of stored tables that are kept.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// Parsed keys of other tables that are kept: anybody can send some.
const MAX_SENT_KEYS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Steps 1 to 8.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) store: Store,
    pub(super) mirror: Mirror,
    pub(super) claims: Claims,
    network: Network,
    max_tables: usize,
    clock: Clock,
    stored_keys: Mutex<LruCache<TableId, PublicKey>>,
    sent_keys: Mutex<LruCache<TableId, PublicKey>>,
    /// Held while tables are counted and a new one is committed.
    new_tables: Arc<tokio::sync::Mutex<()>>,
    verifications: AtomicU64,
}

/// A table's key.
pub(super) struct TableKey {
    key: PublicKey,
    /// Whether the table is not stored yet.
    is_new: bool,
}

/// The tables that there are and may be.
pub(super) struct Room {
    tables: BTreeSet<TableId>,
    most: usize,
}

impl Checks {
    pub(super) fn new(
        store: Store,
        network: Network,
        mirror: Mirror,
        max_tables: usize,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            mirror,
            claims: Claims::default(),
            network,
            max_tables,
            clock,
            stored_keys: Mutex::new(LruCache::new(MAX_KEYS)),
            sent_keys: Mutex::new(LruCache::new(MAX_SENT_KEYS)),
            new_tables: Arc::default(),
            verifications: AtomicU64::new(0),
        }
    }

    /// Signatures that were verified so far.
    pub(super) fn verifications(&self) -> u64 {
        self.verifications.load(Ordering::Relaxed)
    }

    /// Steps 1 and 2: size, encoding.
    pub(super) fn decode(&self, encoded: Bytes) -> Result<UnverifiedEntry, Refusal> {
        UnverifiedEntry::decode(encoded, &self.network)
    }

    /// Step 3.
    pub(super) fn check_clock(&self, entry: &UnverifiedEntry) -> Result<(), Refusal> {
        entry.check_clock(&self.network, self.clock.now(), self.store.horizon_start())
    }

    /// Steps 5 to 7: work, table, signature. Says too whether the table is new here.
    pub(super) fn verify(
        &self,
        entry: UnverifiedEntry,
        key: impl FnOnce() -> Result<TableKey, Refusal>,
    ) -> Result<(NewEntry, bool), Refusal> {
        let table = entry.header().table;
        let entry = entry.check_work(&self.network)?;
        if !self.mirror.takes(&table) {
            return Err(Refusal::TableNotMirrored);
        }
        let TableKey { key, is_new } = key()?;
        self.verifications.fetch_add(1, Ordering::Relaxed);
        Ok((NewEntry { entry: entry.verify(&key)?, key }, is_new))
    }

    /// The key of a table: the stored one, or else of those that were sent along.
    pub(super) async fn key_of(&self, table: &TableId, sent: &[Bytes]) -> Result<TableKey, Refusal> {
        if let Some(key) = lock(&self.stored_keys).get(table) {
            return Ok(TableKey { key: key.clone(), is_new: false });
        }
        let stored = self.store.table_key(*table).await.inspect_err(store_failed).ok().flatten();
        if let Some(key) = stored.and_then(|der| PublicKey::from_der(&der).ok()) {
            lock(&self.stored_keys).put(*table, key.clone());
            return Ok(TableKey { key, is_new: false });
        }
        let mut otherwise = Refusal::TableKeyMissing;
        for der in sent {
            if Sha256::digest(der)[..] != table.as_bytes()[..] {
                // The key of another table is none of this one's concern, but what is no key at all is said.
                if PublicKey::from_der(der).is_err() {
                    otherwise = Refusal::TableKeyInvalid;
                }
                continue;
            }
            if let Some(key) = lock(&self.sent_keys).get(table) {
                return Ok(TableKey { key: key.clone(), is_new: true });
            }
            match PublicKey::from_der(der) {
                Ok(key) => {
                    lock(&self.sent_keys).put(*table, key.clone());
                    return Ok(TableKey { key, is_new: true });
                }
                Err(_) => otherwise = Refusal::TableKeyInvalid,
            }
        }
        Err(otherwise)
    }

    /// How many tables more there may be: tables are free to make, so that their number is a quota of the node. The
    /// room is kept until the guard is dropped.
    pub(super) async fn room_for_tables(&self) -> (Result<Room, StoreError>, OwnedMutexGuard<()>) {
        let guard = Arc::clone(&self.new_tables).lock_owned().await;
        let tables = self.store.tables().await.map(|tables| {
            let held = tables.into_iter().filter(|summary| summary.entries > 0);
            Room { tables: held.map(|summary| summary.table).collect(), most: self.max_tables }
        });
        (tables, guard)
    }
}

impl Room {
    /// Whether a table is one of those that there are, or there is room for it, which it takes.
    pub(super) fn take(&mut self, table: TableId) -> bool {
        self.tables.contains(&table) || (self.tables.len() < self.most && self.tables.insert(table))
    }
}

fn lock(keys: &Mutex<LruCache<TableId, PublicKey>>) -> MutexGuard<'_, LruCache<TableId, PublicKey>> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}
