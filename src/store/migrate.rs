//! Numbered migrations: how a file of an older schema becomes one of the current.

mod first;

use redb::Error;

use super::{
    error::StoreError,
    file::StoreFile,
    log::Log,
    options::Settings,
    schema::{META, SCHEMA_VERSION},
};

/// What a step works on.
pub(super) struct Migrating<'m> {
    pub(super) file: &'m StoreFile,
    pub(super) log: &'m Log,
    pub(super) settings: &'m Settings,
}

/// Brings the tables from one version to the next, in as many transactions as it takes to keep each bounded.
///
/// It may be killed between any two of them and is run again then. The file has its new version from before the first,
/// so that no older program touches it meanwhile.
pub(super) type Step = fn(&Migrating<'_>) -> Result<(), StoreError>;

/// Step `i` leads from version `i + 1` to `i + 2`; so the number of steps is [`SCHEMA_VERSION`] - 1.
pub(super) const STEPS: &[Step] = &[first::to_2];

const _: () = assert!(STEPS.len() + 1 == SCHEMA_VERSION as usize);

/// The name under which the version is kept that a step under way leads to.
const MIGRATING: &str = "migrating";

/// Refuses a file that no step is for.
pub(super) fn check(file: &StoreFile, version: u32, steps: &[Step]) -> Result<(), StoreError> {
    let newest = u32::try_from(steps.len()).map_or(u32::MAX, |steps| steps.saturating_add(1));
    if version > newest {
        return Err(StoreError::NewerSchema { path: file.path().to_owned(), newest, got: version });
    }
    if version == 0 {
        let reason = "its schema version is 0".to_owned();
        return Err(StoreError::Damaged { path: file.path().to_owned(), reason });
    }
    Ok(())
}

/// Runs the steps that the file, being of version `from`, still lacks.
pub(super) fn run(migrating: &Migrating<'_>, from: u32, steps: &[Step]) -> Result<(), StoreError> {
    let file = migrating.file;
    let unfinished = file.read(|txn| Ok(txn.open_table(META)?.get(MIGRATING)?.is_some()))?;
    let from = if unfinished { from - 1 } else { from };
    for (version, step) in (1..).zip(steps).skip_while(|(version, _)| *version < from) {
        let next: u32 = version + 1;
        let note = |is_done: bool| {
            file.write(|txn| {
                let mut meta = txn.open_table(META)?;
                meta.insert("schema", next.to_be_bytes().as_slice())?;
                if is_done {
                    meta.remove(MIGRATING)?;
                } else {
                    meta.insert(MIGRATING, next.to_be_bytes().as_slice())?;
                }
                Ok::<_, Error>(((), true))
            })
        };
        tracing::info!(from = version, to = next, "migrating the store");
        note(false)?;
        step(migrating)?;
        note(true)?;
        tracing::info!(from = version, to = next, "the store was migrated");
    }
    Ok(())
}
