//! Which tables a node keeps.

use std::{collections::BTreeSet, sync::Arc};

use p2pdb_protocol::id::TableId;

/// The tables that a node stores, serves, reconciles, provides and listens to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// Every table that comes along.
    All,
    /// These tables and no others.
    Only(Arc<BTreeSet<TableId>>),
}

impl Mirror {
    /// Whether entries of this table are taken.
    #[must_use]
    pub fn takes(&self, table: &TableId) -> bool {
        match self {
            Mirror::All => true,
            Mirror::Only(tables) => tables.contains(table),
        }
    }

    /// The tables by name, unless it is all of them.
    #[must_use]
    pub fn tables(&self) -> Option<Arc<BTreeSet<TableId>>> {
        match self {
            Mirror::All => None,
            Mirror::Only(tables) => Some(Arc::clone(tables)),
        }
    }
}
