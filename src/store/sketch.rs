//! The sketches of the store's cells, by which nodes reconcile (SPEC 10.6).
//!
//! A cell is a table's entries of one epoch. Every cell has its summary in memory and in the index file; those of
//! [`LARGE`] ids have their 4,096 groups in the file, too. They change in the transaction that changes the cell's
//! rows, from the ids alone. The groups of smaller cells are computed from their ids when somebody asks, and what is in the
//! delta is added to both.

use std::collections::{BTreeMap, BTreeSet};

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::{
        Held,
        sketch::{Element, Group, MAX_LEVEL, Sid, Summary, Tally},
    },
};
use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

use super::{
    StoreError,
    file::StoreFile,
    schema::{self, Place},
    view::View,
};

/// Ids of a cell from which on its groups are kept; they go when there are half as many.
pub(super) const LARGE: u64 = if cfg!(test) { 64 } else { 32_768 };
/// Ids looked at for one sid; more can only be there by design, and are found by listing the bucket.
const IDS_OF_SID: usize = 64;
/// Ids that are gone over between two writes while sketches are made anew.
const REBUILT: u64 = 1 << 20;

/// A table number and an epoch.
pub(super) type Cell = (u32, u64);

/// Groups of a table, of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketched {
    /// Count and sum of the whole table.
    pub tally: Tally,
    /// The groups asked for, in order.
    pub groups: Vec<Group>,
}

/// What changes in cells.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<Cell, Vec<(EntryId, bool)>>);

impl Changes {
    pub(super) fn insert(&mut self, cell: Cell, id: EntryId) {
        self.0.entry(cell).or_default().push((id, true));
    }

    pub(super) fn remove(&mut self, cell: Cell, id: EntryId) {
        self.0.entry(cell).or_default().push((id, false));
    }

    /// Brings the sketches up to date with the rows of the cells, which are written already.
    pub(super) fn write(self, txn: &WriteTransaction) -> Result<(), Error> {
        let mut summaries = txn.open_table(schema::SUMMARIES)?;
        let mut groups = txn.open_table(schema::GROUPS)?;
        for (cell, changes) in self.0 {
            let mut summary = read_summary(&summaries, cell)?;
            let has_groups = groups.range(all_groups(cell))?.next().is_some();
            let mut touched = BTreeMap::new();
            for (id, is_new) in changes {
                let element = Element::of(&id);
                if is_new {
                    summary.insert(&element);
                } else {
                    summary.remove(&element);
                }
                if has_groups {
                    let number = Sid::of(&id).group(MAX_LEVEL);
                    let group = match touched.remove(&number) {
                        Some(group) => group,
                        None => read_group(&groups, cell, number)?,
                    };
                    let group: &mut Group = touched.entry(number).or_insert(group);
                    if is_new {
                        group.insert(&element);
                    } else {
                        group.remove(&element);
                    }
                }
            }
            write_summary(&mut summaries, cell, &summary)?;
            if has_groups && summary.len() < LARGE / 2 {
                groups.retain_in(all_groups(cell), |_, _| false)?;
            } else if has_groups {
                write_groups(&mut groups, cell, touched)?;
            } else if summary.len() >= LARGE {
                let rows = txn.open_table(schema::BY_EPOCH)?;
                let mut made = BTreeMap::new();
                for row in rows.range(ids_of(cell))? {
                    add_to_group(&mut made, &EntryId::from_bytes(*row?.1.value()));
                }
                write_groups(&mut groups, cell, made)?;
            }
        }
        Ok(())
    }
}

fn add_to_group(groups: &mut BTreeMap<u16, Group>, id: &EntryId) {
    groups.entry(Sid::of(id).group(MAX_LEVEL)).or_default().insert(&Element::of(id));
}

pub(super) fn all_groups((table_no, epoch): Cell) -> std::ops::RangeInclusive<(u32, u64, u16)> {
    (table_no, epoch, 0)..=(table_no, epoch, u16::MAX)
}

fn ids_of((table_no, epoch): Cell) -> std::ops::RangeInclusive<(u32, u64, u64)> {
    (table_no, epoch, 0)..=(table_no, epoch, u64::MAX)
}

pub(super) fn read_summary(
    rows: &impl ReadableTable<Cell, &'static [u8; Summary::ROW_BYTES]>,
    cell: Cell,
) -> Result<Summary, Error> {
    Ok(rows.get(cell)?.map(|row| Summary::from_bytes(row.value())).unwrap_or_default())
}

fn read_group(
    rows: &impl ReadableTable<(u32, u64, u16), &'static [u8; Group::ROW_BYTES]>,
    (table_no, epoch): Cell,
    number: u16,
) -> Result<Group, Error> {
    Ok(rows.get((table_no, epoch, number))?.map(|row| Group::from_bytes(row.value())).unwrap_or_default())
}

fn write_summary(
    rows: &mut Table<'_, Cell, &'static [u8; Summary::ROW_BYTES]>,
    cell: Cell,
    summary: &Summary,
) -> Result<(), Error> {
    if summary.is_empty() {
        rows.remove(cell)?;
    } else {
        rows.insert(cell, &summary.to_bytes())?;
    }
    Ok(())
}

fn write_groups(
    rows: &mut Table<'_, (u32, u64, u16), &'static [u8; Group::ROW_BYTES]>,
    (table_no, epoch): Cell,
    groups: BTreeMap<u16, Group>,
) -> Result<(), Error> {
    for (number, group) in groups {
        if group.is_empty() {
            rows.remove((table_no, epoch, number))?;
        } else {
            rows.insert((table_no, epoch, number), &group.to_bytes())?;
        }
    }
    Ok(())
}

/// The summaries of all cells.
pub(super) fn load(txn: &ReadTransaction) -> Result<BTreeMap<Cell, Summary>, Error> {
    let rows = txn.open_table(schema::SUMMARIES)?;
    rows.iter()?
        .map(|row| {
            let (cell, row) = row?;
            Ok((cell.value(), Summary::from_bytes(row.value())))
        })
        .collect()
}

/// Makes all sketches from the ids, in transactions of bounded size.
pub(super) fn rebuild(file: &StoreFile) -> Result<(), StoreError> {
    let mut next = Some((0, 0));
    while let Some(from) = next {
        let (sketches, after) = file.read_once(|txn| {
            let rows = txn.open_table(schema::BY_EPOCH)?;
            let (mut sketches, mut looked_at, mut from) = (BTreeMap::new(), 0, from);
            while let Some(row) = rows.range((from.0, from.1, 0)..)?.next() {
                let (table_no, epoch, _) = row?.0.value();
                if looked_at >= REBUILT {
                    return Ok((sketches, Some((table_no, epoch))));
                }
                let (mut summary, mut groups) = (Summary::default(), BTreeMap::new());
                for row in rows.range(ids_of((table_no, epoch)))? {
                    let id = EntryId::from_bytes(*row?.1.value());
                    summary.insert(&Element::of(&id));
                    add_to_group(&mut groups, &id);
                }
                looked_at += summary.len();
                groups.retain(|_, _| summary.len() >= LARGE);
                sketches.insert((table_no, epoch), (summary, groups));
                let Some(following) = epoch.checked_add(1) else { break };
                from = (table_no, following);
            }
            Ok((sketches, None))
        })?;
        file.write(|txn| {
            let mut summaries = txn.open_table(schema::SUMMARIES)?;
            let mut rows = txn.open_table(schema::GROUPS)?;
            for (cell, (summary, groups)) in sketches {
                write_summary(&mut summaries, cell, &summary)?;
                write_groups(&mut rows, cell, groups)?;
            }
            Ok(((), true))
        })?;
        next = after;
    }
    Ok(())
}

/// The sketches of the groups `numbers` of a level, of the table's ids from the epoch `from` on; nothing if it takes to look
/// at more than `most` ids.
pub(super) fn groups(
    view: &View<'_>,
    table: &TableId,
    from: u64,
    level: u8,
    numbers: &[u16],
    most: u64,
) -> Result<Option<Sketched>, Error> {
    let level = level.min(MAX_LEVEL);
    let mut tally = Tally::default();
    let mut wanted: BTreeMap<u16, Group> = numbers.iter().map(|number| (*number, Group::default())).collect();
    let table_no = view.live().number_of(table);
    let Some(table_no) = table_no else { return Ok(Some(answer(tally, &wanted, numbers))) };
    let (summaries, rows) = (view.txn.open_table(schema::SUMMARIES)?, view.txn.open_table(schema::GROUPS)?);
    let ids = view.txn.open_table(schema::BY_EPOCH)?;
    let mut looked_at = 0;
    for row in summaries.range((table_no, from)..=(table_no, u64::MAX))? {
        let (cell, row) = row?;
        let (cell, summary) = (cell.value(), Summary::from_bytes(row.value()));
        tally.merge(summary.tally());
        if rows.range(all_groups(cell))?.next().is_some() {
            for (number, group) in &mut wanted {
                let first = *number << (MAX_LEVEL - level);
                let last = first | ((1 << (MAX_LEVEL - level)) - 1);
                for row in rows.range((cell.0, cell.1, first)..=(cell.0, cell.1, last))? {
                    group.merge(&Group::from_bytes(row?.1.value()));
                }
            }
            continue;
        }
        looked_at += summary.len();
        if looked_at > most {
            return Ok(None);
        }
        for row in ids.range(ids_of(cell))? {
            let id = EntryId::from_bytes(*row?.1.value());
            if let Some(group) = wanted.get_mut(&Sid::of(&id).group(level)) {
                group.insert(&Element::of(&id));
            }
        }
    }
    for (id, change) in changed(view, table_no)? {
        if view.settings().network.epoch(change.created()) < from {
            continue;
        }
        let group = wanted.get_mut(&Sid::of(&id).group(level));
        match change {
            Change::Came(_) => {
                tally.insert(&id);
                group.into_iter().for_each(|group| group.insert(&Element::of(&id)));
            }
            Change::Went(_) => {
                tally.remove(&id);
                group.into_iter().for_each(|group| group.remove(&Element::of(&id)));
            }
        }
    }
    Ok(Some(answer(tally, &wanted, numbers)))
}

fn answer(tally: Tally, groups: &BTreeMap<u16, Group>, numbers: &[u16]) -> Sketched {
    let groups = numbers.iter().map(|number| groups.get(number).cloned().unwrap_or_default()).collect();
    Sketched { tally, groups }
}

/// What the delta changes about an id, with its `created`.
enum Change {
    Came(u64),
    Went(u64),
}

impl Change {
    const fn created(&self) -> u64 {
        match self {
            Self::Came(created) | Self::Went(created) => *created,
        }
    }
}

/// What the delta changes in the snapshot's ids of a table.
fn changed(view: &View<'_>, table_no: u32) -> Result<Vec<(EntryId, Change)>, Error> {
    let all = EntryId::from_bytes([0; 32])..=EntryId::from_bytes([0xff; 32]);
    let mut changes = Vec::new();
    for (id, place) in view.fresh_places(table_no, all) {
        match (place, view.merged_place(table_no, &id)?) {
            (Place::Stored { created, .. }, _) => changes.push((id, Change::Came(created))),
            (_, Some(Place::Stored { created, .. })) => changes.push((id, Change::Went(created))),
            _ => {}
        }
    }
    Ok(changes)
}

/// The Known ids with these sids.
pub(super) fn held(view: &View<'_>, table: &TableId, sids: &[Sid]) -> Result<Vec<Held>, Error> {
    let table_no = view.live().number_of(table);
    let Some(table_no) = table_no else { return Ok(Vec::new()) };
    let mut held = Vec::new();
    for sid in sids {
        let (first, last) = sid.range();
        let fresh = view.delta().flat_map(|generation| {
            generation.places(table_no, first..=last).map(|(id, _)| id).collect::<Vec<_>>()
        });
        let mut ids: BTreeSet<_> = fresh.take(IDS_OF_SID).collect();
        ids.extend(view.merged_ids(table_no, first..=last, IDS_OF_SID)?);
        for id in ids {
            if let Some(place) = view.place(table_no, id)? {
                held.push(Held { id, stored: matches!(place, Place::Stored { .. }) });
            }
        }
    }
    Ok(held)
}
