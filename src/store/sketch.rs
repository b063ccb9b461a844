//! Sketches of what is stored (SPEC 10.6), computed from the ids of a table and kept as long as nothing changes.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use lru::LruCache;
use p2pdb_protocol::{
    filter::{BySids, Cursor, Filter},
    id::{EntryId, TableId},
    reconcile::{
        Held,
        sketch::{Element, Group, MAX_LEVEL, Sid, Summary, Tally},
    },
};
use redb::{Error, ReadTransaction, ReadableTable};

use super::{
    Core, Page, Store, StoreError,
    index::number_of,
    schema::{self, Place, State, parse_table},
};

/// Summaries kept, of some 300 bytes each.
const SUMMARIES: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not 0");
/// Ids looked at for one sid; more can only be there by design, and are found by listing the bucket.
const IDS_OF_SID: usize = 64;

/// The summaries of tables since some time, each with the [`State::change`] that it is of.
pub(super) struct Sketches(Mutex<LruCache<(u32, u64), (u64, Summary)>>);

impl Default for Sketches {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(SUMMARIES)))
    }
}

/// Groups of a table, of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketched {
    /// Count and sum of the whole table.
    pub tally: Tally,
    /// The groups asked for, in order.
    pub groups: Vec<Group>,
}

impl Store {
    /// The start of the scope that answers for `since`: the first epoch that begins then or later and lies within the
    /// horizon, in unix seconds (SPEC 8.6, 8.7).
    #[must_use]
    pub fn scope_for(&self, since: u64) -> u64 {
        self.scope(since)
    }

    /// The summary of the table's entries created at `since` or later.
    ///
    /// # Errors
    /// As those of [`Store::index`].
    pub async fn summary(&self, table: TableId, since: u64) -> Result<Summary, StoreError> {
        self.in_turn(move |txn, core, most| match number_of(txn, &table)? {
            Some(table_no) => summary_of(txn, core, table_no, since, most),
            None => Ok(Some(Summary::default())),
        })
        .await
    }

    /// The summaries of all tables that have entries created at `since` or later, ascending.
    ///
    /// # Errors
    /// As those of [`Store::index`].
    pub async fn summaries(&self, since: u64) -> Result<Vec<(TableId, Summary)>, StoreError> {
        self.in_turn(move |txn, core, most| {
            let mut summaries = Vec::new();
            for row in txn.open_table(schema::TABLES)?.iter()? {
                let (table_no, row) = row?;
                let Some(summary) = summary_of(txn, core, table_no.value(), since, most)? else {
                    return Ok(None);
                };
                if !summary.is_empty() {
                    summaries.push((parse_table(row.value())?.0, summary));
                }
            }
            summaries.sort_unstable_by_key(|(table, _)| *table);
            Ok(Some(summaries))
        })
        .await
    }

    /// The groups of a level, all of them or some, of the table's entries created at `since` or later.
    ///
    /// A group that does not exist is empty; the level counts as [`MAX_LEVEL`] if it is greater.
    ///
    /// # Errors
    /// As those of [`Store::index`].
    pub async fn groups(
        &self,
        table: TableId,
        since: u64,
        level: u8,
        which: Option<Vec<u16>>,
    ) -> Result<Sketched, StoreError> {
        let level = level.min(MAX_LEVEL);
        let (tally, all) = self
            .in_turn(move |txn, _, most| {
                let mut groups = vec![Group::default(); 1 << level];
                let mut tally = Tally::default();
                let Some(table_no) = number_of(txn, &table)? else { return Ok(Some((tally, groups))) };
                let whole = each_id(txn, table_no, since, most, |id| {
                    tally.insert(id);
                    if let Some(group) = groups.get_mut(usize::from(Sid::of(id).group(level))) {
                        group.insert(&Element::of(id));
                    }
                })?;
                Ok(whole.then_some((tally, groups)))
            })
            .await?;
        let groups = match which {
            None => all,
            Some(which) => {
                which.iter().map(|group| all.get(usize::from(*group)).cloned().unwrap_or_default()).collect()
            }
        };
        Ok(Sketched { tally, groups })
    }

    /// The ids of a table with these sids that are Known (SPEC 6.3).
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn held(&self, table: TableId, sids: Vec<Sid>) -> Result<Vec<Held>, StoreError> {
        self.read(move |txn, _| held(txn, &table, &sids)).await
    }

    /// The entries of a table with some sids (SPEC 8.5), as far as they fit into `most_bytes`, but at least one.
    ///
    /// # Errors
    /// If the file could not be read.
    pub async fn by_sids(&self, asked: BySids, most_bytes: usize) -> Result<Page, StoreError> {
        let BySids { table, sids, limit } = asked;
        let held = self.held(table, sids).await?;
        let mut ids: Vec<EntryId> = held.iter().filter(|held| held.stored).map(|held| held.id).collect();
        let cut = ids.len() > limit;
        ids.truncate(limit);
        if ids.is_empty() {
            let next = Cursor { store: self.id(), arrival: 0 };
            return Ok(Page { entries: Vec::new(), keys: Vec::new(), next, more: false });
        }
        let filter = Filter { limit, ..Filter::ids(ids).with_table(table) };
        let mut page = self.get(filter, None, most_bytes).await?;
        page.more |= cut;
        Ok(page)
    }
}

/// The summary of a table; nothing if it takes to look at more than `most` ids.
fn summary_of(
    txn: &ReadTransaction,
    core: &Core,
    table_no: u32,
    since: u64,
    most: u64,
) -> Result<Option<Summary>, Error> {
    let change = State::read(&txn.open_table(schema::STATE)?)?.change;
    let lock = || core.sketches.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, summary)) = lock().get(&(table_no, since)).filter(|(of, _)| *of == change) {
        return Ok(Some(summary.clone()));
    }
    let mut summary = Summary::default();
    if !each_id(txn, table_no, since, most, |id| summary.insert(&Element::of(id)))? {
        return Ok(None);
    }
    lock().put((table_no, since), (change, summary.clone()));
    Ok(Some(summary))
}

/// Calls for each id stored of a table and created at `since` or later; whether it looked at all of them, which are at most
/// `most`.
fn each_id(
    txn: &ReadTransaction,
    table_no: u32,
    since: u64,
    most: u64,
    mut call: impl FnMut(&EntryId),
) -> Result<bool, Error> {
    let ids = txn.open_table(schema::BY_ID)?;
    let mut looked_at = 0;
    for row in ids.range((table_no, &[0; 32])..=(table_no, &[0xff; 32]))? {
        let (key, place) = row?;
        looked_at += 1;
        if looked_at > most {
            return Ok(false);
        }
        if let Place::Stored { created, .. } = Place::from_row(place.value())?
            && created >= since
        {
            call(&EntryId::from_bytes(*key.value().1));
        }
    }
    Ok(true)
}

fn held(txn: &ReadTransaction, table: &TableId, sids: &[Sid]) -> Result<Vec<Held>, Error> {
    let Some(table_no) = number_of(txn, table)? else { return Ok(Vec::new()) };
    let ids = txn.open_table(schema::BY_ID)?;
    let mut held = Vec::new();
    for sid in sids {
        let (first, last) = sid.range();
        let rows = ids.range((table_no, first.as_bytes())..=(table_no, last.as_bytes()))?;
        for row in rows.take(IDS_OF_SID) {
            let (key, place) = row?;
            let stored = matches!(Place::from_row(place.value())?, Place::Stored { .. });
            held.push(Held { id: EntryId::from_bytes(*key.value().1), stored });
        }
    }
    Ok(held)
}
