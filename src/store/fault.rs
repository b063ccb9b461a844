//! Points at which tests let a write fail or the process die; nothing in the program itself.

/// Does nothing.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "tests fail here")]
pub(super) const fn point(_store: &std::path::Path, _name: &str) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(super) use armed::{arm, disarm, point};

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod armed {
    use std::{
        io,
        path::{Path, PathBuf},
        sync::{
            Mutex,
            atomic::{AtomicU64, Ordering},
        },
    };

    /// Stores whose writes fail at a point, as on a full disk.
    static FULL: Mutex<Vec<(PathBuf, &str)>> = Mutex::new(Vec::new());
    /// Points that this process has passed.
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Lets every write of the store at `path` fail at this point.
    pub(in crate::store) fn arm(path: &Path, name: &'static str) {
        FULL.lock().unwrap().push((path.to_owned(), name));
    }

    pub(in crate::store) fn disarm(path: &Path) {
        FULL.lock().unwrap().retain(|(full, _)| full != path);
    }

    /// Fails if it was armed; ends the process, as a kill would, if the environment says so: `P2PDB_TEST_DIE` is a
    /// name and how often that point is passed before.
    pub(in crate::store) fn point(store: &Path, name: &str) -> io::Result<()> {
        if let Ok(die) = std::env::var("P2PDB_TEST_DIE")
            && let Some((at, times)) = die.split_once(' ')
            && (at == name || at == "any")
            && PASSED.fetch_add(1, Ordering::SeqCst) == times.parse::<u64>().unwrap()
        {
            std::process::abort();
        }
        match FULL.lock().unwrap().iter().any(|(full, at)| store.starts_with(full) && *at == name) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}
