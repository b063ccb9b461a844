//! Gets announced entries, each once at a time.

use std::{
    collections::{BTreeSet, HashSet},
    sync::{MutexGuard, PoisonError},
};

use libp2p::PeerId;
use p2pdb_protocol::{
    codec::bounded::{Blob, List},
    filter::Filter,
    id::{EntryId, TableId},
    limits,
};

use super::{Relay, Unfit, judged};
use crate::{ingest::Way, store::Presence};

impl Relay {
    /// Gets those of the ids that are not Known from a peer that announced them.
    pub(super) async fn fetch_entries(
        &self,
        peer: PeerId,
        table: TableId,
        ids: &[EntryId],
    ) -> Result<(), Unfit> {
        loop {
            let done = self.fetched.notified();
            tokio::pin!(done);
            // What ends from here on is not missed.
            done.as_mut().enable();
            let unknown = self.unknown(table, ids).await?;
            if unknown.is_empty() {
                return Ok(());
            }
            let claim = self.claim(&unknown);
            if claim.ids.is_empty() {
                // Others are at it: one copy of each entry is enough.
                done.await;
            } else {
                // What others fetch meanwhile is looked at again; what is refused here stays unknown.
                let all_ours = claim.ids.len() == unknown.len();
                self.get(peer, table, claim).await?;
                if all_ours {
                    return Ok(());
                }
            }
        }
    }

    async fn get(&self, peer: PeerId, table: TableId, claim: Claim<'_>) -> Result<(), Unfit> {
        let mut filter = Filter::ids(claim.ids.clone()).with_table(table);
        filter.limit = limits::MAX_ANNOUNCE_IDS;
        let mut missing: BTreeSet<EntryId> = claim.ids.iter().copied().collect();
        while !missing.is_empty() {
            let answer = self.ask(peer, &filter).await?;
            let entries: Vec<_> = answer.entries.into_iter().map(|(_, entry)| entry.into_inner()).collect();
            if entries.is_empty() {
                break;
            }
            let keys = List::into_inner(answer.keys).into_iter().map(Blob::into_inner).collect();
            for judgement in self.context.gate.admit_patiently(Way::Announce, entries, keys).await {
                judged(&judgement)?;
                // Only what was asked for may come, and each once.
                if !judgement.id.is_some_and(|id| missing.remove(&id)) {
                    return Err(Unfit::Invalid);
                }
            }
            if !answer.more {
                break;
            }
            filter.cursor = Some(answer.next);
        }
        if missing.is_empty() { Ok(()) } else { Err(Unfit::Missing) }
    }

    async fn unknown(&self, table: TableId, ids: &[EntryId]) -> Result<Vec<EntryId>, Unfit> {
        let presences = self.context.store.known(table, ids.to_vec()).await.inspect_err(|error| {
            tracing::error!(error = error.with_causes(), "announced ids could not be looked up");
        });
        let presences = presences.map_err(|_| Unfit::Own)?;
        let unknown = ids.iter().zip(presences).filter(|(_, presence)| *presence == Presence::Unknown);
        Ok(unknown.map(|(id, _)| *id).collect())
    }

    fn claim(&self, ids: &[EntryId]) -> Claim<'_> {
        let mut fetching = self.lock_fetching();
        let ids = ids.iter().filter(|id| fetching.insert(**id)).copied().collect();
        Claim { relay: self, ids }
    }

    fn lock_fetching(&self) -> MutexGuard<'_, HashSet<EntryId>> {
        self.fetching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids that one fetch is about, until it ends in whatever way.
struct Claim<'a> {
    relay: &'a Relay,
    ids: Vec<EntryId>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut fetching = self.relay.lock_fetching();
        for id in &self.ids {
            fetching.remove(id);
        }
        drop(fetching);
        self.relay.fetched.notify_waiters();
    }
}
