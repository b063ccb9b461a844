//! The steps of admission, one by one (SPEC 6.1).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use lru::LruCache;
use p2pdb_protocol::{
    entry::UnverifiedEntry,
    id::TableId,
    keys::PublicKey,
    network::Network,
    refusal::{Outcome, Refusal},
};
use tokio::sync::OwnedMutexGuard;

use super::{Judgement, Mirror, Numbered, settle, store_failed};
use crate::{
    clock::Clock,
    store::{NewEntry, Presence, Store},
};

/// Parsed table keys that are kept.
const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Steps 1 to 8.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) store: Store,
    pub(super) mirror: Mirror,
    network: Network,
    max_tables: usize,
    clock: Clock,
    keys: Mutex<LruCache<TableId, PublicKey>>,
    /// Held while tables are counted and a new one is committed.
    new_tables: Arc<tokio::sync::Mutex<()>>,
}

/// What step 6 needs: the keys of tables that are stored, and those that were sent along.
#[derive(Debug)]
pub(super) struct Keys {
    stored: HashMap<TableId, PublicKey>,
    sent: HashMap<TableId, PublicKey>,
    /// Why a table's key is not among those sent.
    otherwise: Refusal,
}

impl Checks {
    pub(super) fn new(
        store: Store,
        network: Network,
        mirror: Mirror,
        max_tables: usize,
        clock: Clock,
    ) -> Self {
        let keys = Mutex::new(LruCache::new(MAX_KEYS));
        Self { store, mirror, network, max_tables, clock, keys, new_tables: Arc::default() }
    }

    /// Steps 1 and 2: size, encoding.
    pub(super) fn decode(&self, encoded: Bytes) -> Result<UnverifiedEntry, Refusal> {
        UnverifiedEntry::decode(encoded, &self.network)
    }

    /// Step 3: those whose times are right.
    pub(super) fn leave_untimely(
        &self,
        entries: Vec<Numbered<UnverifiedEntry>>,
        judgements: &mut [Judgement],
    ) -> Vec<Numbered<UnverifiedEntry>> {
        let (now, horizon_start) = (self.clock.now(), self.store.horizon_start());
        let mut timely = entries;
        timely.retain(|(place, entry)| match entry.check_clock(&self.network, now, horizon_start) {
            Ok(()) => true,
            Err(refusal) => {
                settle(judgements, *place, Outcome::Refused(refusal));
                false
            }
        });
        timely
    }

    /// Step 4: those that are not Known.
    pub(super) async fn leave_known(
        &self,
        entries: Vec<Numbered<UnverifiedEntry>>,
        judgements: &mut [Judgement],
    ) -> Vec<Numbered<UnverifiedEntry>> {
        let mut by_table: BTreeMap<TableId, Vec<Numbered<UnverifiedEntry>>> = BTreeMap::new();
        for (place, entry) in entries {
            by_table.entry(entry.header().table).or_default().push((place, entry));
        }
        let mut unknown = Vec::new();
        for (table, entries) in by_table {
            let ids = entries.iter().map(|(_, entry)| entry.id()).collect();
            let presences = match self.store.known(table, ids).await {
                Ok(presences) => presences,
                Err(error) => {
                    store_failed(&error);
                    for (place, _) in entries {
                        settle(judgements, place, Outcome::Refused(Refusal::StoreFailed));
                    }
                    continue;
                }
            };
            for ((place, entry), presence) in entries.into_iter().zip(presences) {
                match presence {
                    Presence::Unknown => unknown.push((place, entry)),
                    Presence::Stored => settle(judgements, place, Outcome::Known),
                    Presence::Dropped => settle(judgements, place, Outcome::Refused(Refusal::Dropped)),
                }
            }
        }
        unknown
    }

    pub(super) async fn keys_for(&self, entries: &[Numbered<UnverifiedEntry>], sent: Vec<Bytes>) -> Keys {
        let tables: BTreeSet<TableId> = entries.iter().map(|(_, entry)| entry.header().table).collect();
        let otherwise = Refusal::TableKeyMissing;
        let mut keys = Keys { stored: HashMap::new(), sent: HashMap::new(), otherwise };
        let mut all_stored = true;
        for table in tables {
            match self.stored_key(&table).await {
                Some(key) => {
                    keys.stored.insert(table, key);
                }
                None => all_stored = false,
            }
        }
        if !all_stored {
            for der in sent {
                match PublicKey::from_der(&der) {
                    Ok(key) => {
                        keys.sent.insert(key.table_id(), key);
                    }
                    Err(_) => keys.otherwise = Refusal::TableKeyInvalid,
                }
            }
        }
        keys
    }

    async fn stored_key(&self, table: &TableId) -> Option<PublicKey> {
        if let Some(key) = self.lock_keys().get(table) {
            return Some(key.clone());
        }
        let der = self.store.table_key(*table).await.inspect_err(store_failed).ok()??;
        let key = PublicKey::from_der(&der).ok()?;
        self.lock_keys().put(*table, key.clone());
        Some(key)
    }

    /// Steps 5 to 7: work, table, signature.
    pub(super) fn verify(&self, entry: UnverifiedEntry, keys: &Keys) -> Result<NewEntry, Refusal> {
        let table = entry.header().table;
        let entry = entry.check_work(&self.network)?;
        if !self.mirror.takes(&table) {
            return Err(Refusal::TableNotMirrored);
        }
        let key = match keys.stored.get(&table) {
            Some(key) => key.clone(),
            None => keys.sent.get(&table).ok_or(keys.otherwise)?.clone(),
        };
        Ok(NewEntry { entry: entry.verify(&key)?, key })
    }

    /// Step 8: those whose tables are here already, and of new ones as many as there is room for. Tables are free
    /// to make: how many there may be is a quota of the node. The room is kept until the guard is dropped.
    pub(super) async fn leave_over_quota(
        &self,
        mut verified: Vec<Numbered<NewEntry>>,
        keys: &Keys,
        judgements: &mut [Judgement],
    ) -> (Vec<Numbered<NewEntry>>, Option<OwnedMutexGuard<()>>) {
        let is_new = |entry: &NewEntry| !keys.stored.contains_key(&entry.entry.header().table);
        if !verified.iter().any(|(_, entry)| is_new(entry)) {
            return (verified, None);
        }
        let guard = Arc::clone(&self.new_tables).lock_owned().await;
        let (mut tables, most, refusal) = match self.store.tables().await {
            Ok(tables) => {
                let tables: BTreeSet<_> = tables.into_iter().map(|summary| summary.table).collect();
                (tables, self.max_tables, Refusal::QuotaExceeded)
            }
            Err(error) => {
                store_failed(&error);
                (BTreeSet::new(), 0, Refusal::StoreFailed)
            }
        };
        verified.retain(|(place, entry)| {
            let table = entry.entry.header().table;
            let is_within =
                !is_new(entry) || tables.contains(&table) || (tables.len() < most && tables.insert(table));
            if !is_within {
                settle(judgements, *place, Outcome::Refused(refusal));
            }
            is_within
        });
        (verified, Some(guard))
    }

    fn lock_keys(&self) -> MutexGuard<'_, LruCache<TableId, PublicKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
