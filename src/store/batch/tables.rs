//! How tables come and go within a transaction.

use p2pdb_protocol::id::TableId;
use redb::{Error, ReadableTable};

use super::{Batch, totals_of};
use crate::store::{delta::Generation, schema};

impl Batch<'_> {
    /// Keeps the tables of a generation, unless they are kept already.
    pub(super) fn keep_tables(&mut self, generation: &Generation) -> Result<(), Error> {
        let mut numbers = self.txn.open_table(schema::TABLE_NUMBERS)?;
        for (number, (table, spki)) in &generation.tables {
            if numbers.get(table.as_bytes())?.is_none() {
                numbers.insert(table.as_bytes(), number)?;
                self.tables.insert(number, [table.as_bytes().as_slice(), spki].concat().as_slice())?;
            }
            self.state.next_table = self.state.next_table.max(u64::from(*number) + 1);
        }
        Ok(())
    }

    /// Every table's number and id.
    pub(in crate::store) fn table_ids(&self) -> Result<Vec<(u32, TableId)>, Error> {
        let mut ids = Vec::new();
        for row in self.tables.iter()? {
            let (table_no, row) = row?;
            match schema::parse_table(row.value()) {
                Ok((table, _)) => ids.push((table_no.value(), table)),
                Err(error) => tracing::error!(%error, "a table is passed over"),
            }
        }
        Ok(ids)
    }

    /// The id of a table, if it can be read, and what its entries are charged as of now.
    pub(in crate::store) fn table_charge(&mut self, table_no: u32) -> Result<Option<(TableId, u64)>, Error> {
        let id = self.tables.get(table_no)?.and_then(|row| Some(schema::parse_table(row.value()).ok()?.0));
        match id {
            Some(id) => Ok(Some((id, totals_of(&mut self.totals, self.txn, table_no)?.charge))),
            None => {
                tracing::error!(table_no, "a table that entries name cannot be read");
                Ok(None)
            }
        }
    }

    /// Gives the place of tables that nothing is known of any longer to others.
    pub(super) fn remove_empty_tables(&mut self) -> Result<(), Error> {
        let mut numbers = self.txn.open_table(schema::TABLE_NUMBERS)?;
        let mut totals = self.txn.open_table(schema::TABLE_TOTALS)?;
        for table_no in std::mem::take(&mut self.thinned) {
            let ids = (table_no, &[0; 32])..=(table_no, &[0xff; 32]);
            if self.by_id.range(ids)?.next().is_some() {
                continue;
            }
            if let Some(row) = self.tables.remove(table_no)?
                && let Ok((table, _)) = schema::parse_table(row.value())
            {
                numbers.remove(table.as_bytes())?;
            }
            totals.remove(table_no)?;
            self.totals.remove(&table_no);
            if let Some(retired) = &mut self.retired {
                retired.tables.push(table_no);
            }
        }
        Ok(())
    }
}
