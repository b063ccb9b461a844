//! What a node drops: the expired, what lies beyond the horizon, and under pressure on the disk the entries
//! with the least effort per byte (SPEC 6.4).

use std::{cmp::Reverse, collections::BinaryHeap};

use p2pdb_protocol::id::EntryId;
use redb::{Error, Range, ReadableTable};

use super::{
    Core, Settings,
    batch::Batch,
    charge,
    keys::{Found, FoundBy},
    schema::{self, DropReason},
    view::View,
};

/// Entries that go in one transaction because they are due, at most: merges wait for as long as that takes, and it takes some 0.6 kB of
/// memory for each. Fewer would cost more, since each transaction writes about every page of the indexes that are touched all over.
pub(super) const DUE: usize = 65_536;
/// Entries that are evicted in one transaction, besides as many as came in, at most: a put waits for that.
pub(super) const EVICTED: usize = 16_384;

/// What a sweep dropped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Entries whose `expires` had passed.
    pub expired: u64,
    /// Entries older than the horizon.
    pub beyond_horizon: u64,
    /// Entries that gave way to entries with more effort per byte.
    pub evicted: u64,
    /// Ids of dropped entries that need not be known any longer.
    pub forgotten: u64,
}

impl Swept {
    /// Everything dropped or forgotten.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.expired + self.beyond_horizon + self.evicted + self.forgotten
    }

    pub(super) const fn add(&mut self, other: Self) {
        self.expired += other.expired;
        self.beyond_horizon += other.beyond_horizon;
        self.evicted += other.evicted;
        self.forgotten += other.forgotten;
    }
}

/// Drops what is expired or beyond the horizon and forgets ids that need not be known, at most `most` each.
pub(super) fn retire(batch: &mut Batch<'_>, most: usize) -> Result<Swept, Error> {
    let expired = expired(batch, most)?;
    batch.remove(&expired, Some(DropReason::Expired))?;
    let beyond = beyond_horizon(batch, most - expired.len())?;
    // The gate refuses what is beyond the horizon, and no index lists it: it need not be remembered.
    batch.remove(&beyond, None)?;
    Ok(Swept {
        expired: expired.len() as u64,
        beyond_horizon: beyond.len() as u64,
        evicted: 0,
        forgotten: batch.forget(most as u64)?,
    })
}

impl Core {
    /// What merges dropped since somebody asked.
    pub(super) fn take_swept(&self) -> Swept {
        std::mem::take(&mut self.live_mut().swept)
    }

    /// Whether something has to be merged so that it can be dropped, or something else for it.
    pub(super) fn is_due_in_delta(&self) -> bool {
        let now = self.clock.now();
        self.delta.is_due(now, self.settings.horizon_start(now)) || {
            let live = self.live();
            let tables: Vec<_> = live.tables.keys().copied().collect();
            live.is_over_limit(&self.settings, &tables)
        }
    }
}

/// Whether a sweep would find anything in the indexes.
pub(super) fn is_due(view: &View<'_>) -> Result<bool, Error> {
    let (txn, settings, now) = (view.txn, view.settings(), view.core.clock.now());
    if txn.open_table(schema::BY_EXPIRY)?.first()?.is_some_and(|(key, _)| key.value().0 <= now)
        || txn.open_table(schema::DROPPED)?.first()?.is_some_and(|(key, _)| key.value().0 <= now)
        || view.live().state.dropped > settings.max_dropped
    {
        return Ok(true);
    }
    let horizon_epoch = settings.network.epoch(settings.horizon_start(now));
    let tables: Vec<_> = view.live().tables.keys().copied().collect();
    let cells = txn.open_table(schema::SUMMARIES)?;
    let is_beyond = |table_no| cells.range((table_no, 0)..(table_no, horizon_epoch))?.next().transpose();
    let first = tables.into_iter().map(is_beyond).find_map(Result::transpose).transpose()?;
    Ok(first.is_some())
}

/// Does one bounded step of everything that is due; nothing is due any more when it drops nothing.
pub(super) fn sweep(batch: &mut Batch<'_>) -> Result<Swept, Error> {
    let swept = retire(batch, DUE)?;
    let tables: Vec<_> = batch.table_ids()?.into_iter().map(|(table_no, _)| table_no).collect();
    let evicted = evict(batch, &tables, EVICTED)?.len() as u64;
    Ok(Swept { evicted, ..swept })
}

/// Evicts what must go so that each of `tables`, and all together, keep to their limits; at most `most` entries.
///
/// Gives the arrival numbers of what was evicted.
pub(super) fn evict(batch: &mut Batch<'_>, tables: &[u32], most: usize) -> Result<Vec<u64>, Error> {
    let settings = batch.settings();
    let mut evicted = Vec::new();
    for table_no in tables {
        let Some((id, charge)) = batch.table_charge(*table_no)? else { continue };
        if let Some(excess) = excess(charge, settings.table_budget(&id)) {
            let victims = worst(batch, &[*table_no], excess, 0, most - evicted.len())?;
            batch.remove(&victims, Some(DropReason::Evicted))?;
            evicted.extend(victims.into_iter().map(|victim| victim.arrival));
        }
    }
    if let Some(excess) = excess(batch.charge(), settings.budget) {
        let all: Vec<_> = batch.table_ids()?.into_iter().map(|(table_no, _)| table_no).collect();
        // Of more ids than may be kept as dropped, those that go for them take their space along.
        let remembered = settings.max_dropped.saturating_sub(batch.remembered());
        let victims = worst(batch, &all, excess, remembered, most - evicted.len())?;
        batch.remove(&victims, Some(DropReason::Evicted))?;
        evicted.extend(victims.into_iter().map(|victim| victim.arrival));
    }
    Ok(evicted)
}

/// How many bytes must go, if the limit is passed.
fn excess(charge: u64, budget: Option<u64>) -> Option<u64> {
    let budget = budget.filter(|budget| charge > *budget)?;
    // A little more than needed, so that a full store does not evict with every single put.
    Some(charge - budget + budget / 64)
}

/// The oldest entries of the lowest classes of `tables`, until they make up the excess. So many of them cost the space that their ids take.
fn worst(
    batch: &Batch<'_>,
    tables: &[u32],
    excess: u64,
    remembered: u64,
    most: usize,
) -> Result<Vec<Found>, Error> {
    let mut ranges = Vec::with_capacity(tables.len());
    let mut heap = BinaryHeap::new();
    let next = |range: &mut Range<'_, (u32, u16, u64), ()>, index| {
        let row = range.next().transpose()?;
        Ok::<_, Error>(row.map(|row| {
            let (table_no, class, arrival) = row.0.value();
            Reverse((class, arrival, table_no, index))
        }))
    };
    for table_no in tables {
        let mut range = batch.by_class.range((*table_no, 0, 0)..=(*table_no, u16::MAX, u64::MAX))?;
        heap.extend(next(&mut range, ranges.len())?);
        ranges.push(range);
    }
    let (mut victims, mut freed) = (Vec::new(), 0);
    while freed < excess && victims.len() < most {
        let Some(Reverse((class, arrival, table_no, index))) = heap.pop() else { break };
        let cost = if (victims.len() as u64) < remembered { charge::DROPPED } else { 0 };
        victims.push(Found { arrival, key: FoundBy::Class(table_no, class) });
        freed += batch.charge_of(arrival)?.saturating_sub(cost);
        if let Some(range) = ranges.get_mut(index) {
            heap.extend(next(range, index)?);
        }
    }
    Ok(victims)
}

fn expired(batch: &Batch<'_>, most: usize) -> Result<Vec<Found>, Error> {
    let due = batch.by_expiry.range(..=(batch.now(), u64::MAX))?.take(most);
    due.map(|row| {
        let (expires, arrival) = row?.0.value();
        Ok(Found { arrival, key: FoundBy::Expiry(expires) })
    })
    .collect()
}

fn beyond_horizon(batch: &Batch<'_>, most: usize) -> Result<Vec<Found>, Error> {
    let settings: &Settings = batch.settings();
    let horizon_epoch = settings.network.epoch(settings.horizon_start(batch.now()));
    let mut found = Vec::new();
    if horizon_epoch == 0 {
        return Ok(found);
    }
    for (table_no, _) in batch.table_ids()? {
        let due = batch.by_epoch.range((table_no, 0, 0)..(table_no, horizon_epoch, 0))?;
        for row in due.take(most - found.len()) {
            let (key, id) = row?;
            let (_, epoch, arrival) = key.value();
            let key = FoundBy::Epoch(table_no, epoch, EntryId::from_bytes(*id.value()));
            found.push(Found { arrival, key });
        }
    }
    Ok(found)
}
