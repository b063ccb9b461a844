//! Whether the sketches are those of the ids.

use std::{collections::BTreeMap, ops::Bound};

use p2pdb_protocol::{
    id::EntryId,
    reconcile::sketch::{Element, Group, Sid, Summary},
};
use redb::Error;

use super::{PAGE, Run};
use crate::store::{
    StoreError,
    schema::{self, State},
    sketch,
};

impl Run<'_> {
    /// Computes the sketches of every cell anew.
    pub(super) fn sketches(&mut self) -> Result<(), StoreError> {
        let (kept, change) = self
            .file
            .read(|txn| Ok((sketch::load(txn)?, State::read(&txn.open_table(schema::STATE)?)?.change)))?;
        let mut found = BTreeMap::<_, Summary>::new();
        let (mut last, mut cell, mut groups) = (None, None, BTreeMap::<u16, Group>::new());
        loop {
            let mut ids = Vec::new();
            self.file.read_once(|txn| {
                let start = last.map_or(Bound::Unbounded, Bound::Excluded);
                let rows = txn.open_table(schema::BY_EPOCH)?;
                for row in rows.range::<(u32, u64, u64)>((start, Bound::Unbounded))?.take(PAGE as usize) {
                    let (key, id) = row?;
                    ids.push((key.value(), EntryId::from_bytes(*id.value())));
                }
                Ok(())
            })?;
            for (key, id) in &ids {
                if cell.is_some_and(|cell| cell != (key.0, key.1)) {
                    self.groups(cell, &std::mem::take(&mut groups), change)?;
                }
                cell = Some((key.0, key.1));
                let element = Element::of(id);
                found.entry((key.0, key.1)).or_default().insert(&element);
                groups.entry(Sid::of(id).group(12)).or_default().insert(&element);
                last = Some(*key);
            }
            if (ids.len() as u64) < PAGE {
                break;
            }
        }
        self.groups(cell, &groups, change)?;
        if self.is_unchanged(change)? {
            self.report.check(found == kept, || {
                let differing = kept.iter().find(|(cell, summary)| found.get(cell) != Some(summary));
                let (table_no, epoch) = differing.map_or((0, 0), |(cell, _)| *cell);
                format!("a summary is not that of its ids: table number {table_no}, epoch {epoch}, or one that is missing")
            });
        }
        Ok(())
    }

    /// Compares the groups of a cell with those that are kept, if they are.
    fn groups(
        &mut self,
        cell: Option<sketch::Cell>,
        found: &BTreeMap<u16, Group>,
        change: u64,
    ) -> Result<(), StoreError> {
        let Some(cell) = cell else { return Ok(()) };
        let kept = self.file.read(|txn| {
            let rows = txn.open_table(schema::GROUPS)?;
            rows.range(sketch::all_groups(cell))?
                .map(|row| {
                    let (key, row) = row?;
                    Ok((key.value().2, Group::from_bytes(row.value())))
                })
                .collect::<Result<BTreeMap<_, _>, Error>>()
        })?;
        let count: u64 = found.values().map(Group::len).sum();
        if (!kept.is_empty() || count >= sketch::LARGE) && self.is_unchanged(change)? {
            self.report.check(kept == *found, || {
                format!("a group of table number {}, epoch {} is not that of its ids", cell.0, cell.1)
            });
        }
        Ok(())
    }

    fn is_unchanged(&self, change: u64) -> Result<bool, StoreError> {
        self.file.read(|txn| Ok(State::read(&txn.open_table(schema::STATE)?)?.change == change))
    }
}
