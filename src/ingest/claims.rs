//! Who verifies which entry: one batch at a time, so that an entry that comes from several peers at once costs one
//! verification.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use p2pdb_protocol::id::EntryId;
use tokio_util::sync::CancellationToken;

/// The ids of the entries between decoding and their commit. As many as may wait at the gate.
#[derive(Debug, Clone, Default)]
pub(super) struct Claims(Arc<Mutex<HashMap<EntryId, CancellationToken>>>);

impl Claims {
    /// The claims of one batch, still empty.
    pub(super) fn begin(&self) -> Claimed {
        Claimed { claims: self.clone(), ids: Vec::new(), done: CancellationToken::new() }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntryId, CancellationToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ids that a batch has claimed, until it is dropped.
#[derive(Debug)]
pub(super) struct Claimed {
    claims: Claims,
    ids: Vec<EntryId>,
    done: CancellationToken,
}

impl Claimed {
    /// Claims an id.
    ///
    /// # Errors
    /// If somebody has claimed it: what says when he is done. It may be this batch, if it has two copies.
    pub(super) fn claim(&mut self, id: EntryId) -> Result<(), CancellationToken> {
        match self.claims.lock().entry(id) {
            Entry::Occupied(other) => Err(other.get().clone()),
            Entry::Vacant(free) => {
                free.insert(self.done.clone());
                self.ids.push(id);
                Ok(())
            }
        }
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        let mut claims = self.claims.lock();
        for id in &self.ids {
            claims.remove(id);
        }
        drop(claims);
        self.done.cancel();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn an_id_has_one_owner_at_a_time() {
        let claims = Claims::default();
        let id = EntryId::from_bytes([1; 32]);
        let (mut one, mut other) = (claims.begin(), claims.begin());
        one.claim(id).unwrap();
        let done = other.claim(id).unwrap_err();
        assert!(one.claim(id).is_err(), "of two copies in a batch one is looked at");
        assert!(!done.is_cancelled());
        drop(one);
        assert!(done.is_cancelled());
        other.claim(id).unwrap();
        drop(other);
        assert!(claims.lock().is_empty());
    }
}
