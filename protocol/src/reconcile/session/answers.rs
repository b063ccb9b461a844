//! What a session makes of the answers, and the checks of SPEC 10.2.

use std::collections::BTreeSet;

use super::{Phase, Session};
use crate::{
    bucket::{BucketSummary, bucket_of},
    id::EntryId,
    limits::MAX_INDEX_IDS,
    reconcile::{MAX_CLAIMED_IDS, Misbehaviour, Output, Seen, Served, listing::Listing},
    refusal::{Outcome, Refusal},
};

impl Session {
    /// Checks that the scope of an answer follows from the one asked for (SPEC 8.6).
    pub(super) fn check_scope(&self, asked: u64, got: u64) -> Result<(), Misbehaviour> {
        let epoch_seconds = self.setup.epoch_seconds;
        if got < asked || got.checked_rem(epoch_seconds) != Some(0) {
            return Err(Misbehaviour::WrongScope { asked, epoch_seconds, got });
        }
        Ok(())
    }

    pub(super) fn take_index(
        &mut self,
        since: u64,
        claims: Vec<BucketSummary>,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        self.check_scope(self.setup.since, since)?;
        let bits = self.setup.bucket_bits;
        let mut last = None;
        let mut total = 0_u64;
        for claim in &claims {
            if last.is_some_and(|last| claim.bucket <= last) {
                return Err(Misbehaviour::BucketsNotAscending);
            }
            if u32::from(claim.bucket) >> bits != 0 {
                return Err(Misbehaviour::NoSuchBucket { bits, got: claim.bucket });
            }
            if claim.count == 0 {
                return Err(Misbehaviour::EmptyBucket { bucket: claim.bucket });
            }
            last = Some(claim.bucket);
            total = total.saturating_add(claim.count);
        }
        if total > MAX_CLAIMED_IDS {
            return Err(Misbehaviour::TooManyIdsClaimed { limit: MAX_CLAIMED_IDS });
        }
        self.scope = since;
        self.report.buckets_compared = claims.len() as u64;
        self.phase = Phase::Comparing(claims);
        outputs.push(Output::OwnIndex { since });
        Ok(())
    }

    /// Decides which buckets to list (SPEC 10.2).
    pub(super) fn compare(&mut self, own: &[BucketSummary], seen: &Seen) {
        let Phase::Comparing(claims) = &mut self.phase else { return };
        let claims = std::mem::take(claims);
        self.phase = Phase::Listing;
        for claim in claims {
            let equal = own
                .binary_search_by_key(&claim.bucket, |own| own.bucket)
                .is_ok_and(|index| own.get(index) == Some(&claim));
            if equal {
                continue;
            }
            if seen.contains(&self.setup.table, claim.bucket, &claim.digest) {
                self.report.buckets_seen += 1;
            } else {
                self.todo.push_back(claim);
            }
        }
        self.report.buckets_differing = self.todo.len() as u64;
        if let Some(start) = self.rotation.checked_rem(self.todo.len() as u32) {
            self.todo.rotate_left(start as usize);
        }
    }

    pub(super) fn take_page(
        &mut self,
        bucket: u16,
        since: u64,
        ids: Vec<EntryId>,
        more: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        self.check_scope(self.scope, since)?;
        let Some(listing) = self.listings.get_mut(&bucket) else { return Ok(()) };
        listing.take_page(&ids, more, self.setup.bucket_bits)?;
        self.report.listed += ids.len() as u64;
        if more && ids.len() < MAX_INDEX_IDS {
            self.short_pages += 1;
        }
        if more && listing.overruns() {
            listing.cut();
        } else if more {
            // Finish what was begun first: fewer buckets are open at once.
            self.ready.push_front(bucket);
        }
        if ids.is_empty() {
            self.close_if_settled(bucket, outputs);
        } else {
            let question = self.next_id();
            self.questions.insert(question, (bucket, ids.len()));
            outputs.push(Output::AreKnown { question, ids });
        }
        Ok(())
    }

    pub(super) fn take_entries(
        &mut self,
        mut asked: BTreeSet<EntryId>,
        entries: &[Served],
        more: bool,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misbehaviour> {
        for served in entries {
            if let Outcome::Refused(refusal) = served.outcome
                && refusal.is_misbehaviour()
            {
                return Err(Misbehaviour::InvalidEntry(refusal));
            }
            // Say, of a later version: nothing is known of it, and what was asked for is still not served.
            let Some(id) = served.id else { continue };
            if !asked.remove(&id) {
                return Err(Misbehaviour::Unsolicited);
            }
            let bucket = bucket_of(&id, self.setup.bucket_bits);
            let listing = self.listings.get_mut(&bucket);
            match served.outcome {
                Outcome::Stored | Outcome::Known | Outcome::Refused(Refusal::Dropped) => {
                    self.report.fetched += 1;
                    listing.into_iter().for_each(|listing| listing.settle(1));
                }
                // Also if it is refused for good: the next session finds it Known if the gate recorded it.
                Outcome::Refused(_) => {
                    self.report.refused += 1;
                    listing.into_iter().for_each(Listing::lose);
                }
            }
            self.close_if_settled(bucket, outputs);
        }
        let served_any = entries.iter().any(|served| served.id.is_some());
        if more && served_any {
            self.want_again(asked);
            return Ok(());
        }
        for id in asked {
            let bucket = bucket_of(&id, self.setup.bucket_bits);
            self.report.missing += 1;
            self.listings.get_mut(&bucket).into_iter().for_each(Listing::lose);
            self.close_if_settled(bucket, outputs);
        }
        Ok(())
    }

    pub(super) fn close_if_settled(&mut self, bucket: u16, outputs: &mut Vec<Output>) {
        if !self.listings.get(&bucket).is_some_and(Listing::is_closed) {
            return;
        }
        let Some(listing) = self.listings.remove(&bucket) else { return };
        let closed = listing.close(self.setup.table);
        self.report.false_claims += u64::from(closed.false_claim);
        outputs.extend(closed.known.map(Output::Remember));
    }
}
