//! Numbered migrations: how a file of an older schema becomes one of the current.

use redb::{Error, WriteTransaction};

use super::{
    error::StoreError,
    file::StoreFile,
    schema::{META, SCHEMA_VERSION},
};

/// Brings the tables from one version to the next, in one transaction with the new version number.
///
/// A step that has to rewrite every entry must be split so that its transaction stays bounded.
pub(super) type Step = fn(&WriteTransaction) -> Result<(), Error>;

/// Step `i` leads from version `i + 1` to `i + 2`; so the number of steps is [`SCHEMA_VERSION`] - 1.
pub(super) const STEPS: &[Step] = &[];

const _: () = assert!(STEPS.len() + 1 == SCHEMA_VERSION as usize);

/// Runs the steps that the file, being of version `from`, still lacks.
pub(super) fn run(file: &StoreFile, from: u32, steps: &[Step]) -> Result<(), StoreError> {
    let newest = u32::try_from(steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1));
    if from > newest {
        return Err(StoreError::NewerSchema { path: file.path().to_owned(), newest, got: from });
    }
    if from == 0 {
        let reason = "its schema version is 0".to_owned();
        return Err(StoreError::Damaged { path: file.path().to_owned(), reason });
    }
    for (version, step) in (1..newest).zip(steps).skip_while(|(version, _)| *version < from) {
        file.write(|txn| {
            step(txn)?;
            txn.open_table(META)?.insert("schema", (version + 1).to_be_bytes().as_slice())?;
            Ok(((), true))
        })?;
        tracing::info!(from = version, to = version + 1, "the store was migrated");
    }
    Ok(())
}
