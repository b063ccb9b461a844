//! What the daemon remembers besides entries and jobs: apps' tokens, and how far it has read each node.

use std::{path::Path, sync::Arc};

use libp2p::PeerId;
use p2pdb_protocol::{filter::Cursor, id::TableId};
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::gateway::tokens::AppToken;

type TableAndPeer<'a> = (&'a [u8; 32], &'a [u8]);

/// Memory for pages of the file, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// Key: the app's name. Value: its [`AppToken`] as JSON.
const TOKENS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("tokens");
/// Key: table id and peer id. Value: the store that the node had, and the arrival number up to which it was read.
const CURSORS: TableDefinition<'_, TableAndPeer<'_>, (u64, u64)> = TableDefinition::new("cursors");

/// Key: nothing. Value: the id of the mirror that the cursors belong to.
const MIRROR: TableDefinition<'_, (), u64> = TableDefinition::new("mirror");

/// The state file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the daemon's state cannot be read or written")]
pub struct StateError(#[source] Box<redb::Error>);

impl<E: Into<redb::Error>> From<E> for StateError {
    fn from(error: E) -> Self {
        Self(Box::new(error.into()))
    }
}

/// The daemon's state on disk. Its operations block.
#[derive(Debug, Clone)]
pub(super) struct State(Arc<Database>);

impl State {
    /// Opens the file, or makes it. How far nodes were read counts for the mirror with this id alone.
    pub(super) fn open(path: &Path, mirror: [u8; 8]) -> Result<Self, StateError> {
        let mirror = u64::from_be_bytes(mirror);
        let database = redb::Builder::new().set_cache_size(CACHE_BYTES).create(path)?;
        let txn = database.begin_write()?;
        txn.open_table(TOKENS)?;
        let before = txn.open_table(MIRROR)?.insert((), mirror)?.map(|row| row.value());
        if before.is_some_and(|before| before != mirror) {
            txn.delete_table(CURSORS)?;
        }
        txn.open_table(CURSORS)?;
        txn.commit()?;
        Ok(Self(Arc::new(database)))
    }

    /// The tokens of all apps; one that does not decode is of a later version, and left alone.
    pub(super) fn tokens(&self) -> Result<Vec<AppToken>, StateError> {
        let mut tokens = Vec::new();
        for row in self.0.begin_read()?.open_table(TOKENS)?.iter()? {
            let (name, row) = row?;
            match serde_json::from_slice(row.value()) {
                Ok(token) => tokens.push(token),
                Err(error) => tracing::warn!(name = name.value(), %error, "an app's token is not understood"),
            }
        }
        Ok(tokens)
    }

    pub(super) fn keep_token(&self, token: &AppToken) -> Result<(), StateError> {
        // Strings, sets and numbers always have a JSON form.
        let row = serde_json::to_vec(token).unwrap_or_default();
        let txn = self.0.begin_write()?;
        txn.open_table(TOKENS)?.insert(token.name.as_str(), row.as_slice())?;
        Ok(txn.commit()?)
    }

    pub(super) fn remove_token(&self, name: &str) -> Result<(), StateError> {
        let txn = self.0.begin_write()?;
        txn.open_table(TOKENS)?.remove(name)?;
        Ok(txn.commit()?)
    }

    /// How far a table was read at a node.
    pub(super) fn cursor(&self, table: &TableId, node: &PeerId) -> Result<Option<Cursor>, StateError> {
        let row = self.0.begin_read()?.open_table(CURSORS)?.get((table.as_bytes(), &node.to_bytes()[..]))?;
        Ok(row.map(|row| {
            let (store, arrival) = row.value();
            Cursor { store: store.to_be_bytes(), arrival }
        }))
    }

    pub(super) fn keep_cursor(
        &self,
        table: &TableId,
        node: &PeerId,
        cursor: Cursor,
    ) -> Result<(), StateError> {
        let txn = self.0.begin_write()?;
        let row = (u64::from_be_bytes(cursor.store), cursor.arrival);
        txn.open_table(CURSORS)?.insert((table.as_bytes(), &node.to_bytes()[..]), row)?;
        Ok(txn.commit()?)
    }
}
