//! What a store could be at its simplest: the least that durability costs, and the obvious schema.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use p2pdb::{
    protocol::{entry::Entry, id::EntryId},
    store::NewEntry,
};
use redb::{Database, ReadableDatabase as _, ReadableTableMetadata as _, TableDefinition};

use crate::support::data::network;

/// A file that entries are appended to; it has no index, and is read whole when it is opened.
pub(super) struct Append {
    file: File,
    ids: HashSet<EntryId>,
}

impl Append {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
        let (mut content, mut ids) = (Vec::new(), HashSet::new());
        file.read_to_end(&mut content)?;
        let mut rest = Bytes::from(content);
        while let Some((length, _)) = rest.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            rest = rest.slice(4..);
            ids.insert(Entry::from_trusted(rest.split_to(length), &network().network)?.id());
        }
        Ok(Self { file, ids })
    }

    pub(super) fn commit(&mut self, batch: &[NewEntry]) -> Result<()> {
        let mut bytes = Vec::new();
        for NewEntry { entry, .. } in batch {
            bytes.extend(u32::try_from(entry.encoded().len())?.to_le_bytes());
            bytes.extend_from_slice(entry.encoded());
            self.ids.insert(entry.id());
        }
        self.file.write_all(&bytes)?;
        Ok(self.file.sync_data()?)
    }

    pub(super) fn contains(&self, id: EntryId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn entries(&self) -> u64 {
        self.ids.len() as u64
    }
}

const ENTRIES: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("entries");
const BY_TABLE: TableDefinition<'_, (&[u8; 32], u64, &[u8; 32]), ()> = TableDefinition::new("by_table");
const BY_RECIPIENT: TableDefinition<'_, (&[u8; 32], u64, &[u8; 32]), ()> =
    TableDefinition::new("by_recipient");
const BY_CREATED: TableDefinition<'_, (u64, &[u8; 32]), ()> = TableDefinition::new("by_created");
const BY_EFFORT: TableDefinition<'_, (u64, &[u8; 32]), ()> = TableDefinition::new("by_effort");

/// redb with entries under their ids and an index for each question.
pub(super) struct Naive {
    database: Database,
    arrived: u64,
}

impl Naive {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let database = Database::builder().set_cache_size(64 << 20).create(path)?;
        Ok(Self { database, arrived: 0 })
    }

    pub(super) fn commit(&mut self, batch: &[NewEntry]) -> Result<()> {
        let transaction = self.database.begin_write()?;
        {
            let mut entries = transaction.open_table(ENTRIES)?;
            let mut by_table = transaction.open_table(BY_TABLE)?;
            let mut by_recipient = transaction.open_table(BY_RECIPIENT)?;
            let mut by_created = transaction.open_table(BY_CREATED)?;
            let mut by_effort = transaction.open_table(BY_EFFORT)?;
            for NewEntry { entry, .. } in batch {
                let (id, header) = (entry.id(), entry.header());
                let id = id.as_bytes();
                self.arrived += 1;
                entries.insert(id, entry.encoded().as_ref())?;
                by_table.insert((header.table.as_bytes(), self.arrived, id), ())?;
                for key in &header.recipients {
                    by_recipient.insert((key.recipient.as_bytes(), self.arrived, id), ())?;
                }
                by_created.insert((header.created, id), ())?;
                by_effort.insert((entry.effort() / entry.encoded().len().max(1) as u64, id), ())?;
            }
        }
        Ok(transaction.commit()?)
    }

    pub(super) fn contains(&self, id: EntryId) -> Result<bool> {
        Ok(self.database.begin_read()?.open_table(ENTRIES)?.get(id.as_bytes())?.is_some())
    }

    pub(super) fn entries(&self) -> Result<u64> {
        self.database.begin_read()?.open_table(ENTRIES)?.len().context("the number of entries")
    }
}
