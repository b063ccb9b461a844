//! What can go wrong with a store, said so that the operator knows what to do.

use std::{io, path::PathBuf, sync::Arc};

use p2pdb_protocol::id::NetworkId;

/// Why the store could not do what it was asked.
///
/// Nothing that was acknowledged before is lost by any of these, unless the error says that the file is damaged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process, or another handle of this one, has the file open.
    #[error("{path} is in use: stop the other p2pdb that has it open, or ask that one")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{path} is not a p2pdb store and was left as it is: choose another path, or move that file away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file belongs to a node of another network.
    #[error(
        "{path} holds entries of network {got}, expected {expected}: use that network's file, or another path"
    )]
    OtherNetwork {
        /// The file.
        path: PathBuf,
        /// The network this node runs on.
        expected: NetworkId,
        /// The network of the file.
        got: NetworkId,
    },
    /// A later version of this program wrote the file.
    #[error("{path} has schema version {got}, this program knows versions up to {newest}: run a newer p2pdb")]
    NewerSchema {
        /// The file.
        path: PathBuf,
        /// The newest version known here.
        newest: u32,
        /// The version of the file.
        got: u32,
    },
    /// The file is a store, but its content contradicts itself.
    #[error(
        "{path} is damaged ({reason}): keep a copy of it, check the disk, then fetch or import the entries into a new store"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// No space is left on the disk.
    #[error("no space is left for {path}: free some, or lower max_disk; what was acknowledged is safe")]
    DiskFull {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// Reading or writing failed.
    #[error(
        "cannot read or write {path}: see that its disk is there, sound and not read-only, then try again"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: Arc<io::Error>,
    },
    /// A limit on disk space that leaves no room to work.
    #[error("a disk limit of {got} bytes is too small: the store needs at least {least}")]
    LimitTooSmall {
        /// The smallest possible, in bytes.
        least: u64,
        /// The limit in the options, in bytes.
        got: u64,
    },
    /// A horizon shorter than the epochs in which entries are dropped.
    #[error("a horizon of {got} seconds is too short: an epoch of this network takes {least}")]
    HorizonTooShort {
        /// The smallest possible, in seconds.
        least: u64,
        /// The horizon in the options, in seconds.
        got: u64,
    },
    /// An answer would take long, and enough others wait for such answers.
    #[error("the store is busy with long answers: ask again in a while")]
    Busy,
    /// The store was closed, or its writer ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// The error as a log takes it, with its causes: without them nobody learns that a disk is read-only, say.
    #[must_use]
    pub fn with_causes(&self) -> &(dyn std::error::Error + 'static) {
        self
    }
}
