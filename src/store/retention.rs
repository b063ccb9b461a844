//! What a node drops: the expired, what lies beyond the horizon, and under pressure on the disk the entries
//! with the least effort per byte (SPEC 6.4).

use std::{cmp::Reverse, collections::BinaryHeap};

use redb::{Error, ReadableTable};

use super::{
    Settings,
    batch::Batch,
    charge,
    keys::{Found, FoundBy},
    schema::DropReason,
};

/// Entries dropped in one transaction, at most: puts wait no longer than that takes.
pub(super) const STEP: usize = 1000;

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

/// Does one bounded step of everything that is due; nothing is due any more when it drops nothing.
pub(super) fn sweep(batch: &mut Batch<'_>) -> Result<Swept, Error> {
    let expired = expired(batch)?;
    batch.remove(&expired, Some(DropReason::Expired))?;
    let beyond = beyond_horizon(batch, STEP - expired.len())?;
    // The gate refuses what is beyond the horizon, and no index lists it: it need not be remembered.
    batch.remove(&beyond, None)?;
    let tables: Vec<_> = batch.table_ids()?.into_iter().map(|(table_no, _)| table_no).collect();
    let evicted = evict(batch, &tables, STEP - expired.len() - beyond.len())?;
    Ok(Swept {
        expired: expired.len() as u64,
        beyond_horizon: beyond.len() as u64,
        evicted: evicted.len() as u64,
        forgotten: batch.forget(STEP as u64)?,
    })
}

/// Evicts what must go so that each of `tables`, and all together, keep to their limits; at most `most` entries.
///
/// Gives the arrival numbers of what was evicted.
pub(super) fn evict(batch: &mut Batch<'_>, tables: &[u32], most: usize) -> Result<Vec<u64>, Error> {
    let settings = batch.settings();
    let mut evicted = Vec::new();
    for table_no in tables {
        let Some((id, charge)) = batch.table_charge(*table_no)? else { continue };
        if let Some(excess) = excess(charge, settings.table_budget(&id), 0) {
            let victims = worst(batch, &[*table_no], excess, most - evicted.len())?;
            batch.remove(&victims, Some(DropReason::Evicted))?;
            evicted.extend(victims.into_iter().map(|victim| victim.arrival));
        }
    }
    if let Some(excess) = excess(batch.charge(), settings.budget, charge::DROPPED) {
        let all: Vec<_> = batch.table_ids()?.into_iter().map(|(table_no, _)| table_no).collect();
        let victims = worst(batch, &all, excess, most - evicted.len())?;
        batch.remove(&victims, Some(DropReason::Evicted))?;
        evicted.extend(victims.into_iter().map(|victim| victim.arrival));
    }
    Ok(evicted)
}

/// How much must go, as (bytes, bytes that each eviction costs), if the limit is passed.
fn excess(charge: u64, budget: Option<u64>, cost: u64) -> Option<(u64, u64)> {
    let budget = budget.filter(|budget| charge > *budget)?;
    // A little more than needed, so that a full store does not evict with every single put.
    Some((charge - budget + budget / 128, cost))
}

/// The entries of `tables` with the least effort per byte, until they make up the excess.
fn worst(
    batch: &Batch<'_>,
    tables: &[u32],
    (excess, cost): (u64, u64),
    most: usize,
) -> Result<Vec<Found>, Error> {
    let mut ranges = Vec::with_capacity(tables.len());
    let mut heap = BinaryHeap::new();
    for table_no in tables {
        let mut range = batch.by_score.range((*table_no, 0, 0)..=(*table_no, u64::MAX, u64::MAX))?;
        if let Some(row) = range.next() {
            let (key, charge) = row?;
            let (table_no, score, arrival) = key.value();
            heap.push(Reverse((score, arrival, table_no, charge.value(), ranges.len())));
            ranges.push(range);
        }
    }
    let (mut victims, mut freed) = (Vec::new(), 0);
    while freed < excess && victims.len() < most {
        let Some(Reverse((score, arrival, table_no, charge, index))) = heap.pop() else { break };
        victims.push(Found { arrival, key: FoundBy::Score(table_no, score, charge) });
        freed += charge.saturating_sub(cost);
        if let Some(row) = ranges.get_mut(index).and_then(Iterator::next) {
            let (key, charge) = row?;
            let (table_no, score, arrival) = key.value();
            heap.push(Reverse((score, arrival, table_no, charge.value(), index)));
        }
    }
    Ok(victims)
}

fn expired(batch: &Batch<'_>) -> Result<Vec<Found>, Error> {
    let due = batch.by_expiry.range(..=(batch.now(), u64::MAX))?.take(STEP);
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
            let (_, epoch, arrival) = row?.0.value();
            found.push(Found { arrival, key: FoundBy::Epoch(table_no, epoch) });
        }
    }
    Ok(found)
}
