//! What an operator can set, and what follows from it.

use std::{collections::BTreeMap, sync::Arc};

use p2pdb_protocol::{id::TableId, network::Network};

use super::{
    StoreError, charge,
    log::{Disk, LocalDisk},
    query::Bounds,
    schema::DropReason,
};

/// For how long an id stays known after the entry expired, in seconds: peers may list it a while longer.
const REMEMBER_EXPIRED: u64 = 7 * 86_400;
/// For how long an id stays known after the entry was evicted, in seconds: else whoever floods a store for a
/// moment would keep the honest entries out for ever.
const REMEMBER_EVICTED: u64 = 7 * 86_400;

/// How much a store may keep and use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for pages of the index file, in bytes.
    pub cache_bytes: usize,
    /// Disk space of the index file and the log, in bytes; nothing: no limit. See the module for what is counted.
    pub max_disk: Option<u64>,
    /// Disk space of the entries of each table, in bytes; nothing: no limit.
    pub table_max_disk: Option<u64>,
    /// Disk space of the entries of these tables, in bytes, instead of `table_max_disk`.
    pub table_limits: BTreeMap<TableId, u64>,
    /// For how long entries are kept after they were created, in seconds; nothing: for ever. At least
    /// an epoch of the network; what is older is dropped in whole epochs, so that it lasts up to one longer.
    pub horizon: Option<u64>,
    /// Ids that are kept as dropped, at most; a sweep forgets those first that matter the least.
    pub max_dropped: u64,
    /// Bytes of the log at which they are merged into the indexes; less if the disk's limit leaves little room.
    pub delta_bytes: u64,
    /// Bytes of the log at which a segment of it ends; less if the disk's limit leaves little room.
    pub segment_bytes: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            max_disk: None,
            table_max_disk: None,
            table_limits: BTreeMap::new(),
            horizon: None,
            max_dropped: 1_000_000,
            delta_bytes: 64 << 20,
            // Few files, and little that is kept for want of a whole segment that can go.
            segment_bytes: 128 << 20,
        }
    }
}

impl StoreOptions {
    /// Whether a store of the network takes them.
    ///
    /// # Errors
    /// [`StoreError::LimitTooSmall`] and [`StoreError::HorizonTooShort`].
    pub fn check(&self, network: &Network) -> Result<(), StoreError> {
        if let Some(got) = self.max_disk.filter(|max_disk| *max_disk < charge::LEAST_LIMIT) {
            return Err(StoreError::LimitTooSmall { least: charge::LEAST_LIMIT, got });
        }
        let least = charge::LEAST_TABLE_LIMIT;
        let mut table_limits = self.table_limits.values().copied().chain(self.table_max_disk);
        if let Some(got) = table_limits.find(|limit| *limit < least) {
            return Err(StoreError::LimitTooSmall { least, got });
        }
        match self.horizon.filter(|horizon| *horizon < network.epoch_seconds) {
            Some(got) => Err(StoreError::HorizonTooShort { least: network.epoch_seconds, got }),
            None => Ok(()),
        }
    }
}

/// The options as the store works with them.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) network: Network,
    pub(super) store_id: [u8; 8],
    pub(super) horizon: Option<u64>,
    pub(super) max_dropped: u64,
    /// The charge up to which the store may fill.
    pub(super) budget: Option<u64>,
    /// Bytes of entries that one transaction takes, unless a single request has more.
    pub(super) batch_bytes: usize,
    pub(super) delta_bytes: u64,
    pub(super) segment_bytes: u64,
    pub(super) bounds: Bounds,
    pub(super) disk: Arc<dyn Disk>,
    table_max_disk: Option<u64>,
    table_limits: BTreeMap<TableId, u64>,
}

impl Settings {
    pub(super) fn new(network: Network, options: StoreOptions) -> Result<Self, StoreError> {
        options.check(&network)?;
        let StoreOptions {
            cache_bytes: _,
            max_disk,
            table_max_disk,
            table_limits,
            horizon,
            max_dropped,
            delta_bytes,
            segment_bytes,
        } = options;
        let budget = max_disk.map(charge::budget);
        Ok(Self {
            network,
            store_id: [0; 8],
            horizon,
            // The memory of what was dropped must not push out what is stored.
            max_dropped: budget.map_or(max_dropped, |budget| max_dropped.min(budget / 8 / charge::DROPPED)),
            budget,
            batch_bytes: charge::batch_bytes(max_disk),
            delta_bytes: charge::share(max_disk).min(delta_bytes),
            segment_bytes: charge::share(max_disk).min(segment_bytes),
            bounds: Bounds::default(),
            disk: Arc::new(LocalDisk),
            table_max_disk,
            table_limits,
        })
    }

    /// The charge up to which a table may fill.
    pub(super) fn table_budget(&self, table: &TableId) -> Option<u64> {
        self.table_limits.get(table).copied().or(self.table_max_disk)
    }

    /// The time from which on entries are kept: the start of the epoch that the horizon lies in, since what is
    /// older goes in whole epochs (SPEC 6.4).
    pub(super) fn horizon_start(&self, now: u64) -> u64 {
        let epoch = |horizon| self.network.epoch(now.saturating_sub(horizon));
        self.horizon.map_or(0, |horizon| epoch(horizon).saturating_mul(self.network.epoch_seconds))
    }

    /// The time from which on this node lists what it has: the first epoch that lies within the horizon as a
    /// whole, since the one before is about to be dropped (SPEC 8.6).
    pub(super) fn scope_start(&self, now: u64) -> u64 {
        self.horizon.map_or(0, |horizon| self.network.epoch_start_at_or_after(now.saturating_sub(horizon)))
    }

    /// Until when the id of an entry dropped `now` stays known: no longer than until the gate's clock refuses it
    /// anyway, and no longer than a week if it had to give way, since what there is more of by then may be less.
    pub(super) fn forget_at(&self, created: u64, expires: Option<u64>, reason: DropReason, now: u64) -> u64 {
        let expired = expires.map(|expires| expires.saturating_add(REMEMBER_EXPIRED));
        let beyond = self.horizon.map(|horizon| {
            let next_epoch = self.network.epoch(created).saturating_add(1);
            next_epoch.saturating_mul(self.network.epoch_seconds).saturating_add(horizon)
        });
        let again = (reason == DropReason::Evicted).then(|| now.saturating_add(REMEMBER_EVICTED));
        expired.into_iter().chain(beyond).chain(again).min().unwrap_or(u64::MAX)
    }
}
