//! The groups of the store's cells: which are kept, and how a question for some is answered.
//!
//! A cell of at least [`LEAST`] ids has its groups in the file, of an even level with [`FEWEST`] to four times as many ids
//! in a group, or of the highest. A question for that level or a coarser one adds them up, one for a finer one computes
//! those asked for from the cell's ids. When a cell outgrows its level, its groups are made anew from its ids: that is once
//! for each time it grows fourfold, so that an id is gone over less than twice in all. A level is left for a lower one
//! only after the cell has lost three quarters of what it is kept for.

use std::collections::BTreeMap;

use p2pdb_protocol::{
    id::{EntryId, TableId},
    reconcile::sketch::{Element, Group, MAX_LEVEL, Sid, Summary, Tally},
};
use redb::{Error, ReadableTable, Table, WriteTransaction};

use super::{Cell, ids_of};
use crate::store::{schema, view::View};

/// Ids of a cell from which on its groups are kept: those of fewer are computed in less than a millisecond.
const LEAST: u64 = 4 * FEWEST;
/// Ids in one of the groups kept, on average, at least: with fewer a row of 552 bytes is too much for them.
const FEWEST: u64 = 16;
/// To compute an id's share of a group takes as long as to read so many rows.
const ELEMENT: u64 = 16;

type Rows<'t> = Table<'t, (u32, u64, u16), &'static [u8; Group::ROW_BYTES]>;

/// A level, and groups of it by their number.
pub(in crate::store) type Kept = (u8, BTreeMap<u16, Group>);

/// Groups of a table, of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sketched {
    /// Count and sum of the whole table.
    pub tally: Tally,
    /// The groups asked for, in order.
    pub groups: Vec<Group>,
    /// The newest arrival number in them.
    pub newest: u64,
}

/// The level of the groups to keep of so many ids, if those of `kept` are kept now.
pub(in crate::store) fn level_for(ids: u64, kept: Option<u8>) -> Option<u8> {
    let level = |ids: u64| {
        // Of 64 bits, so it fits.
        (ids >= LEAST).then(|| ((ids / FEWEST).ilog2() as u8 & !1).min(MAX_LEVEL))
    };
    kept.clamp(level(ids), level(ids.saturating_mul(4)))
}

/// The number of a kept group in its row's key: how far its level is from the highest, in the upper 4 bits.
const fn row_number(level: u8, group: u16) -> u16 {
    ((MAX_LEVEL - level) as u16) << MAX_LEVEL | group
}

/// The level and number of a kept group.
const fn parse_number(number: u16) -> (u8, u16) {
    let below = (number >> MAX_LEVEL) as u8;
    (MAX_LEVEL.saturating_sub(below), number & ((1 << MAX_LEVEL) - 1))
}

fn all_of((table_no, epoch): Cell) -> std::ops::RangeInclusive<(u32, u64, u16)> {
    (table_no, epoch, 0)..=(table_no, epoch, u16::MAX)
}

/// The level of the groups that are kept of a cell.
pub(super) fn kept_level(
    rows: &impl ReadableTable<(u32, u64, u16), &'static [u8; Group::ROW_BYTES]>,
    cell: Cell,
) -> Result<Option<u8>, Error> {
    let first = rows.range(all_of(cell))?.next().transpose()?;
    Ok(first.map(|(key, _)| parse_number(key.value().2).0))
}

/// The groups that are kept of a cell, and their level.
pub(in crate::store) fn kept(
    rows: &impl ReadableTable<(u32, u64, u16), &'static [u8; Group::ROW_BYTES]>,
    cell: Cell,
) -> Result<Option<Kept>, Error> {
    let Some(level) = kept_level(rows, cell)? else { return Ok(None) };
    let mut groups = BTreeMap::new();
    for row in rows.range(all_of(cell))? {
        let (key, row) = row?;
        groups.insert(parse_number(key.value().2).1, Group::from_bytes(row.value()));
    }
    Ok(Some((level, groups)))
}

/// Makes the groups of a level from all ids of a cell, instead of those that are kept.
pub(super) fn make(
    txn: &WriteTransaction,
    rows: &mut Rows<'_>,
    cell: Cell,
    level: Option<u8>,
) -> Result<(), Error> {
    rows.retain_in(all_of(cell), |_, _| false)?;
    let Some(level) = level else { return Ok(()) };
    let mut made = Touched::new(cell, level);
    for row in txn.open_table(schema::BY_EPOCH)?.range(ids_of(cell))? {
        let id = EntryId::from_bytes(*row?.1.value());
        made.groups.entry(Sid::of(&id).group(level)).or_default().insert(&Element::of(&id));
    }
    made.write(rows)
}

/// Groups of a cell that are to be written.
#[derive(Debug)]
pub(super) struct Touched {
    cell: Cell,
    level: u8,
    groups: BTreeMap<u16, Group>,
}

impl Touched {
    pub(super) const fn new(cell: Cell, level: u8) -> Self {
        Self { cell, level, groups: BTreeMap::new() }
    }

    /// Those of a level, from all those of the highest.
    pub(super) fn folded(cell: Cell, level: u8, finest: &BTreeMap<u16, Group>) -> Self {
        Self { cell, level, groups: fold(finest, MAX_LEVEL - level) }
    }

    /// Lets an id come or go; `rows` has what its group was.
    pub(super) fn change(
        &mut self,
        rows: &Rows<'_>,
        id: &EntryId,
        element: &Element,
        is_new: bool,
    ) -> Result<(), Error> {
        let number = Sid::of(id).group(self.level);
        let mut group = match self.groups.remove(&number) {
            Some(group) => group,
            None => {
                let row = rows.get((self.cell.0, self.cell.1, row_number(self.level, number)))?;
                row.map(|row| Group::from_bytes(row.value())).unwrap_or_default()
            }
        };
        if is_new {
            group.insert(element);
        } else {
            group.remove(element);
        }
        self.groups.insert(number, group);
        Ok(())
    }

    pub(super) fn write(self, rows: &mut Rows<'_>) -> Result<(), Error> {
        for (number, group) in self.groups {
            let key = (self.cell.0, self.cell.1, row_number(self.level, number));
            if group.is_empty() {
                rows.remove(key)?;
            } else {
                rows.insert(key, &group.to_bytes())?;
            }
        }
        Ok(())
    }
}

/// Groups of a level that is lower by `steps`.
pub(in crate::store) fn fold(groups: &BTreeMap<u16, Group>, steps: u8) -> BTreeMap<u16, Group> {
    let mut folded = BTreeMap::<u16, Group>::new();
    groups.iter().for_each(|(number, group)| folded.entry(number >> steps).or_default().merge(group));
    folded
}

/// What it takes to answer for so many groups of a level out of a cell, or of the delta, of so many ids, in rows read.
pub(in crate::store) const fn work(ids: u64, kept: Option<u8>, level: u8, groups: u64) -> u64 {
    match kept {
        Some(kept) if kept >= level => groups << (kept - level),
        _ => ids + (ids.saturating_mul(groups) >> level).saturating_mul(ELEMENT),
    }
}

/// The groups `numbers` of a level, of the table's ids from the epoch `from` on; nothing, and then no id was looked at, if
/// that takes more work than `most`.
pub(in crate::store) fn answer(
    view: &View<'_>,
    table: &TableId,
    from: u64,
    level: u8,
    numbers: &[u16],
    most: u64,
) -> Result<Option<Sketched>, Error> {
    let level = level.min(MAX_LEVEL);
    let mut question = Question::new(level, numbers);
    let table_no = view.live().number_of(table);
    let Some(table_no) = table_no else { return Ok(Some(question.answer(view, numbers))) };
    let rows = view.txn.open_table(schema::GROUPS)?;
    let asked = numbers.len() as u64;
    let fresh: usize = view.delta().map(|generation| generation.entries.len()).sum();
    let (mut cells, mut sum) = (Vec::new(), work(fresh as u64, None, level, asked));
    for row in view.txn.open_table(schema::SUMMARIES)?.range((table_no, from)..=(table_no, u64::MAX))? {
        let (cell, row) = row?;
        let (cell, summary) = (cell.value(), Summary::from_bytes(row.value()));
        question.tally.merge(summary.tally());
        let kept = kept_level(&rows, cell)?;
        sum += 1 + work(summary.len(), kept, level, asked);
        cells.push((cell, kept));
    }
    if sum > most {
        return Ok(None);
    }
    let ids = view.txn.open_table(schema::BY_EPOCH)?;
    for (cell, kept) in cells {
        match kept {
            Some(kept) if kept >= level => question.add_rows(&rows, cell, kept)?,
            _ => {
                for row in ids.range(ids_of(cell))? {
                    question.insert(&EntryId::from_bytes(*row?.1.value()));
                }
            }
        }
    }
    // Entries only come in the delta; they go with merges.
    for (id, _, created) in view.fresh(table_no) {
        if view.settings().network.epoch(created) >= from {
            question.tally.insert(&id);
            question.insert(&id);
        }
    }
    Ok(Some(question.answer(view, numbers)))
}

/// The groups asked for, as far as they have come.
struct Question {
    level: u8,
    tally: Tally,
    groups: BTreeMap<u16, Group>,
}

impl Question {
    fn new(level: u8, numbers: &[u16]) -> Self {
        let groups = numbers.iter().map(|number| (*number, Group::default())).collect();
        Self { level, tally: Tally::default(), groups }
    }

    fn add_rows(
        &mut self,
        rows: &impl ReadableTable<(u32, u64, u16), &'static [u8; Group::ROW_BYTES]>,
        (table_no, epoch): Cell,
        kept: u8,
    ) -> Result<(), Error> {
        let steps = kept - self.level;
        for (number, group) in &mut self.groups {
            let (first, last) = (number << steps, number << steps | ((1 << steps) - 1));
            let (first, last) = (row_number(kept, first), row_number(kept, last));
            for row in rows.range((table_no, epoch, first)..=(table_no, epoch, last))? {
                group.merge(&Group::from_bytes(row?.1.value()));
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: &EntryId) {
        if let Some(group) = self.groups.get_mut(&Sid::of(id).group(self.level)) {
            group.insert(&Element::of(id));
        }
    }

    fn answer(&self, view: &View<'_>, numbers: &[u16]) -> Sketched {
        let group = |number| self.groups.get(number).cloned().unwrap_or_default();
        Sketched { tally: self.tally, groups: numbers.iter().map(group).collect(), newest: view.newest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_follow_the_size_and_change_late() {
        for (ids, level) in [
            (0, None),
            (63, None),
            (64, Some(2)),
            (255, Some(2)),
            (256, Some(4)),
            (19_231, Some(10)),
            (65_536, Some(12)),
            (u64::MAX, Some(12)),
        ] {
            assert_eq!(level_for(ids, None), level, "{ids} ids");
            assert_eq!(level_for(ids, level), level, "{ids} ids");
        }
        // Up when there are four times as many, down when three quarters are gone.
        assert_eq!([255, 256].map(|ids| level_for(ids, Some(2))), [Some(2), Some(4)]);
        assert_eq!([64, 63, 16, 15].map(|ids| level_for(ids, Some(4))), [Some(4), Some(2), Some(2), None]);
        assert_eq!([16_384, 16_383].map(|ids| level_for(ids, Some(12))), [Some(12), Some(10)]);
    }

    #[test]
    fn a_row_says_its_level_and_those_of_the_highest_are_as_they_were() {
        for level in 0..=MAX_LEVEL {
            let last = (1 << level) - 1;
            assert_eq!(parse_number(row_number(level, last)), (level, last));
        }
        assert_eq!(row_number(MAX_LEVEL, 4095), 4095);
    }

    #[test]
    fn work_is_what_is_looked_at() {
        assert_eq!(work(1_000_000, Some(12), 0, 1), 4096);
        assert_eq!(work(1_000_000, Some(12), 12, 3), 3);
        assert_eq!(work(19_000, Some(10), 11, 2048), 19_000 * 17);
        assert_eq!(work(4096, None, 12, 1), 4096 + 16);
    }
}
