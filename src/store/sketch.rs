//! The sketches of the store's cells, by which nodes reconcile (SPEC 10.6).
//!
//! A cell is a table's entries of one epoch. Every cell has its summary in memory and in the index file, and all but
//! the smallest have groups in the file, too, of a level that goes by their size. They change in the transaction that
//! changes the cell's rows, from the ids alone; what is in the delta is added to both when somebody asks.

mod groups;

use std::collections::{BTreeMap, BTreeSet};

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::{
        Held,
        sketch::{Element, Group, MAX_LEVEL, Sid, Summary},
    },
};
use redb::{Error, ReadTransaction, ReadableTable, Table, WriteTransaction};

pub use self::groups::Sketched;
use self::groups::Touched;
pub(super) use self::groups::{answer, fold, kept, level_for, work};
use super::{
    StoreError,
    file::StoreFile,
    schema::{self, Place},
    view::View,
};

/// Ids looked at for one sid; more can only be there by design, and are found by listing the bucket.
const IDS_OF_SID: usize = 64;
/// Ids that are gone over between two writes while sketches are made anew.
const REBUILT: u64 = 1 << 20;

/// A table number and an epoch.
pub(super) type Cell = (u32, u64);

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
        let mut rows = txn.open_table(schema::GROUPS)?;
        for (cell, changes) in self.0 {
            let mut summary = read_summary(&summaries, cell)?;
            let came = changes.iter().filter(|(_, is_new)| *is_new).count() as u64;
            let ids = (summary.len() + came).saturating_sub(changes.len() as u64 - came);
            let kept = groups::kept_level(&rows, cell)?;
            let level = groups::level_for(ids, kept);
            // Groups of another level are made from all ids.
            let mut touched =
                (kept == level).then_some(level).flatten().map(|level| Touched::new(cell, level));
            for (id, is_new) in changes {
                let element = Element::of(&id);
                if is_new {
                    summary.insert(&element);
                } else {
                    summary.remove(&element);
                }
                if let Some(touched) = &mut touched {
                    touched.change(&rows, &id, &element, is_new)?;
                }
            }
            write_summary(&mut summaries, cell, &summary)?;
            match (touched, level) {
                (Some(touched), _) => touched.write(&mut rows)?,
                (None, None) if kept.is_none() => {}
                (None, level) => groups::make(txn, &mut rows, cell, level)?,
            }
        }
        Ok(())
    }
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
                let (mut summary, mut finest) = (Summary::default(), BTreeMap::<u16, Group>::new());
                for row in rows.range(ids_of((table_no, epoch)))? {
                    let id = EntryId::from_bytes(*row?.1.value());
                    let element = Element::of(&id);
                    summary.insert(&element);
                    finest.entry(Sid::of(&id).group(MAX_LEVEL)).or_default().insert(&element);
                }
                looked_at += summary.len();
                let cell = (table_no, epoch);
                let level = groups::level_for(summary.len(), None);
                let kept = level.map(|level| Touched::folded(cell, level, &finest));
                sketches.insert(cell, (summary, kept));
                let Some(following) = epoch.checked_add(1) else { break };
                from = (table_no, following);
            }
            Ok((sketches, None))
        })?;
        file.write(|txn| {
            let mut summaries = txn.open_table(schema::SUMMARIES)?;
            let mut rows = txn.open_table(schema::GROUPS)?;
            for (cell, (summary, kept)) in sketches {
                write_summary(&mut summaries, cell, &summary)?;
                kept.map_or(Ok(()), |kept| kept.write(&mut rows))?;
            }
            Ok(((), true))
        })?;
        next = after;
    }
    Ok(())
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
                let arrival = match place {
                    Place::Stored { arrival, .. } => Some(arrival),
                    Place::Dropped { .. } => None,
                };
                held.push(Held { id, arrival });
            }
        }
    }
    Ok(held)
}
