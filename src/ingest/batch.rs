//! One batch on its way through the steps of admission.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use p2pdb_protocol::{
    entry::UnverifiedEntry,
    id::{EntryId, TableId},
    refusal::{Outcome, Refusal},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, broadcast, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{Admitted, Judgement, Way, checks::Checks, claims::Claimed, store_failed};
use crate::store::{Committed, NewEntry, Presence};

/// Some entries that came together.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) way: Way,
    pub(super) entries: Vec<Bytes>,
    keys: Arc<[Bytes]>,
    /// Looks at the entries even if others have copies of them in work.
    insists: bool,
    answer: oneshot::Sender<Vec<Verdict>>,
}

impl Work {
    /// Entries with the keys that came along, and where their verdicts will be, in order.
    pub(super) fn new(
        way: Way,
        entries: Vec<Bytes>,
        keys: Arc<[Bytes]>,
        insists: bool,
    ) -> (Self, oneshot::Receiver<Vec<Verdict>>) {
        let (answer, answered) = oneshot::channel();
        (Self { way, entries, keys, insists, answer }, answered)
    }
}

/// What became of an entry in a batch.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// It was judged.
    Judged(Judgement),
    /// Another copy of it is in work, until then.
    InFlight(CancellationToken),
}

/// The place of an entry: that of its work in the batch, and its own in the work.
type Place = (usize, usize);

/// Work that is checked together.
pub(super) struct Batch {
    checks: Arc<Checks>,
    works: Vec<Work>,
    verdicts: Vec<Vec<Verdict>>,
    claimed: Claimed,
}

/// What is left of a batch to be committed.
pub(super) struct Verified {
    batch: Batch,
    entries: Vec<(Place, NewEntry)>,
    has_new_tables: bool,
}

impl Batch {
    pub(super) fn new(checks: Arc<Checks>, works: Vec<Work>) -> Self {
        let unjudged = |work: &Work| vec![Verdict::Judged(Judgement::busy()); work.entries.len()];
        let verdicts = works.iter().map(unjudged).collect();
        let claimed = checks.claims.begin();
        Self { checks, works, verdicts, claimed }
    }

    /// Steps 1 to 7. If nothing is left to be committed, it is answered at once.
    pub(super) fn check(mut self, runtime: &Handle) -> Option<Verified> {
        let timely = self.decode();
        let unknown = self.leave_known(timely, runtime);
        let mut has_new_tables = false;
        let mut entries = Vec::with_capacity(unknown.len());
        for (place, entry) in unknown {
            let table = entry.header().table;
            let keys = self.works.get(place.0).map(|work| Arc::clone(&work.keys)).unwrap_or_default();
            let checks = Arc::clone(&self.checks);
            // The key is looked for only when the work is done.
            let verified = checks.verify(entry, || runtime.block_on(checks.key_of(&table, &keys)));
            match verified {
                Ok((entry, is_new_table)) => {
                    has_new_tables |= is_new_table;
                    entries.push((place, entry));
                }
                Err(refusal) => self.settle(place, Outcome::Refused(refusal)),
            }
        }
        if entries.is_empty() {
            self.answer();
            return None;
        }
        Some(Verified { batch: self, entries, has_new_tables })
    }

    /// Steps 1 to 3, and the claims: what somebody else has in work is left to him.
    fn decode(&mut self) -> Vec<(Place, UnverifiedEntry)> {
        let mut timely = Vec::new();
        for number in 0..self.works.len() {
            let Some(work) = self.works.get_mut(number) else { continue };
            let insists = work.insists;
            for (index, encoded) in std::mem::take(&mut work.entries).into_iter().enumerate() {
                let place = (number, index);
                let entry = match self.checks.decode(encoded) {
                    Ok(entry) => entry,
                    Err(refusal) => {
                        self.settle(place, Outcome::Refused(refusal));
                        continue;
                    }
                };
                self.identify(place, entry.id());
                if let Err(refusal) = self.checks.check_clock(&entry) {
                    self.settle(place, Outcome::Refused(refusal));
                    continue;
                }
                match self.claimed.claim(entry.id()) {
                    Err(done) if !insists => self.put(place, Verdict::InFlight(done)),
                    _ => timely.push((place, entry)),
                }
            }
        }
        timely
    }

    /// Step 4.
    fn leave_known(
        &mut self,
        entries: Vec<(Place, UnverifiedEntry)>,
        runtime: &Handle,
    ) -> Vec<(Place, UnverifiedEntry)> {
        let mut by_table: BTreeMap<TableId, Vec<(Place, UnverifiedEntry)>> = BTreeMap::new();
        for (place, entry) in entries {
            by_table.entry(entry.header().table).or_default().push((place, entry));
        }
        let mut unknown = Vec::new();
        for (table, entries) in by_table {
            let ids = entries.iter().map(|(_, entry)| entry.id()).collect();
            match runtime.block_on(self.checks.store.known(table, ids)) {
                Ok(presences) => {
                    for ((place, entry), presence) in entries.into_iter().zip(presences) {
                        match presence {
                            Presence::Unknown => unknown.push((place, entry)),
                            Presence::Stored => self.settle(place, Outcome::Known),
                            Presence::Dropped => self.settle(place, Outcome::Refused(Refusal::Dropped)),
                        }
                    }
                }
                Err(error) => {
                    store_failed(&error);
                    for (place, _) in entries {
                        self.settle(place, Outcome::Refused(Refusal::StoreFailed));
                    }
                }
            }
        }
        unknown
    }

    fn identify(&mut self, place: Place, id: EntryId) {
        if let Some(Verdict::Judged(judgement)) = self.slot(place) {
            judgement.id = Some(id);
        }
    }

    fn settle(&mut self, place: Place, outcome: Outcome) {
        if let Some(Verdict::Judged(judgement)) = self.slot(place) {
            judgement.outcome = outcome;
        }
    }

    fn put(&mut self, place: Place, verdict: Verdict) {
        if let Some(slot) = self.slot(place) {
            *slot = verdict;
        }
    }

    fn slot(&mut self, (work, index): Place) -> Option<&mut Verdict> {
        self.verdicts.get_mut(work)?.get_mut(index)
    }

    /// Gives up the claims and tells who waits.
    fn answer(self) {
        drop(self.claimed);
        for (work, verdicts) in self.works.into_iter().zip(self.verdicts) {
            // Whoever asked may have gone away meanwhile.
            let _ = work.answer.send(verdicts);
        }
    }
}

impl Verified {
    /// Steps 8 and 9: the quota of tables, and the durable commit.
    pub(super) async fn commit(mut self, admitted: broadcast::Sender<Admitted>) {
        // Held until what it permits is committed.
        let _new_tables = self.leave_over_quota().await;
        let Self { mut batch, entries, .. } = self;
        let (places, entries): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        let news: Vec<_> = entries.iter().map(|new: &NewEntry| Self::news(&new.entry)).collect();
        let committed =
            if entries.is_empty() { Ok(Vec::new()) } else { batch.checks.store.commit(entries).await };
        let mut stored = Vec::with_capacity(news.len());
        match committed {
            Ok(committed) => {
                for ((place, committed), (table, id, created)) in places.into_iter().zip(committed).zip(news)
                {
                    let outcome = match committed {
                        Committed::Stored { arrival } => {
                            let way = batch.works.get(place.0).map_or(Way::Sync, |work| work.way);
                            stored.push(Admitted { table, id, arrival, created, way });
                            Outcome::Stored
                        }
                        Committed::Known => Outcome::Known,
                        Committed::Dropped => Outcome::Refused(Refusal::Dropped),
                    };
                    batch.settle(place, outcome);
                }
            }
            Err(error) => {
                store_failed(&error);
                for place in places {
                    batch.settle(place, Outcome::Refused(Refusal::StoreFailed));
                }
            }
        }
        batch.answer();
        for news in stored {
            // Nobody may be listening.
            let _ = admitted.send(news);
        }
    }

    fn news(entry: &p2pdb_protocol::entry::Entry) -> (TableId, EntryId, u64) {
        let header = entry.header();
        (header.table, entry.id(), header.created)
    }

    /// Step 8: leaves those whose tables are here already, and of new ones as many as there is room for.
    async fn leave_over_quota(&mut self) -> Option<OwnedMutexGuard<()>> {
        if !self.has_new_tables {
            return None;
        }
        let (room, guard) = self.batch.checks.room_for_tables().await;
        let mut room = room.map_err(|error| {
            store_failed(&error);
            Refusal::StoreFailed
        });
        let entries = std::mem::take(&mut self.entries);
        for (place, new) in entries {
            let table = new.entry.header().table;
            let taken = match &mut room {
                Ok(room) => room.take(table).then_some(()).ok_or(Refusal::QuotaExceeded),
                Err(refusal) => Err(*refusal),
            };
            match taken {
                Ok(()) => self.entries.push((place, new)),
                Err(refusal) => self.batch.settle(place, Outcome::Refused(refusal)),
            }
        }
        Some(guard)
    }
}
