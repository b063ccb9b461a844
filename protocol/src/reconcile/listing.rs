//! One bucket of the peer while its ids are listed, fetched and counted (SPEC 10.2, 10.4).

use crate::{
    bucket::{BucketSummary, Digest, Digester, bucket_of},
    id::{EntryId, TableId},
    limits::MAX_INDEX_IDS,
    reconcile::Misbehaviour,
};

/// Proof that every id over which a digest was computed is Known: what [`Seen`](super::Seen) remembers.
///
/// Only a [`Session`](super::Session) makes one, at the end of a list whose ids it found or made Known one by one
/// (SPEC 10.4). A digest that a peer claimed cannot become one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownBucket {
    table: TableId,
    bucket: u16,
    digest: Digest,
}

impl KnownBucket {
    /// The table.
    #[must_use]
    pub const fn table(&self) -> TableId {
        self.table
    }

    /// The bucket.
    #[must_use]
    pub const fn bucket(&self) -> u16 {
        self.bucket
    }

    /// The digest that this node computed.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

/// How a listing ended.
#[derive(Debug)]
pub(super) struct Closed {
    /// The proof, if every listed id is Known.
    pub(super) known: Option<KnownBucket>,
    /// Whether the claim in the index cannot be explained by entries that arrived since.
    pub(super) false_claim: bool,
}

/// One bucket of the peer.
#[derive(Debug)]
pub(super) struct Listing {
    claim: BucketSummary,
    after: Option<EntryId>,
    digester: Digester,
    listed: u64,
    /// Listed ids of which it is not yet known whether they are Known.
    open: u64,
    /// Whether an id turned out not to become Known, or the list was cut.
    broken: bool,
    complete: bool,
}

impl Listing {
    pub(super) fn new(claim: BucketSummary) -> Self {
        let digester = Digester::new();
        Self { claim, after: None, digester, listed: 0, open: 0, broken: false, complete: false }
    }

    pub(super) const fn bucket(&self) -> u16 {
        self.claim.bucket
    }

    /// Where the next page begins.
    pub(super) const fn after(&self) -> Option<EntryId> {
        self.after
    }

    /// Takes the next page and checks it as SPEC 10.2 demands.
    pub(super) fn take_page(&mut self, ids: &[EntryId], more: bool, bits: u8) -> Result<(), Misbehaviour> {
        if ids.len() > MAX_INDEX_IDS {
            return Err(Misbehaviour::PageTooLong { limit: MAX_INDEX_IDS, got: ids.len() });
        }
        if more && ids.is_empty() {
            return Err(Misbehaviour::EmptyPageWithMore);
        }
        for id in ids {
            if self.after.is_some_and(|after| *id <= after) {
                return Err(Misbehaviour::IdsNotAscending);
            }
            let got = bucket_of(id, bits);
            if got != self.claim.bucket {
                return Err(Misbehaviour::WrongBucket { expected: self.claim.bucket, got });
            }
            self.after = Some(*id);
            self.digester.push(id);
        }
        let count = ids.len() as u64;
        self.listed += count;
        self.open += count;
        self.complete = !more;
        Ok(())
    }

    /// Whether the list is longer than the claim by more than entries that arrive meanwhile explain.
    pub(super) const fn overruns(&self) -> bool {
        self.listed
            > self.claim.count.saturating_add(self.claim.count / 8).saturating_add(MAX_INDEX_IDS as u64)
    }

    /// Ends the list before its end.
    pub(super) const fn cut(&mut self) {
        self.complete = true;
        self.broken = true;
    }

    /// So many of the listed ids are Known.
    pub(super) const fn settle(&mut self, count: u64) {
        self.open = self.open.saturating_sub(count);
    }

    /// One of the listed ids could not be had or was refused.
    pub(super) const fn lose(&mut self) {
        self.broken = true;
        self.settle(1);
    }

    /// Whether nothing is left to do.
    pub(super) const fn is_closed(&self) -> bool {
        self.complete && self.open == 0
    }

    /// What a closed listing amounts to.
    pub(super) fn close(self, table: TableId) -> Closed {
        debug_assert!(self.is_closed(), "a listing was closed with open ids");
        let overruns = self.overruns();
        let digest = self.digester.finish();
        // Entries that arrive between index and list make it longer. Entries dropped meanwhile make it shorter,
        // which is counted as a false claim: it is rare, and one useful session makes up for it.
        let false_claim = if digest == self.claim.digest {
            self.listed != self.claim.count
        } else {
            self.listed <= self.claim.count || overruns
        };
        // A bucket without ids has no digest (SPEC 5.6).
        let known = (!self.broken && self.listed > 0).then_some(KnownBucket {
            table,
            bucket: self.claim.bucket,
            digest,
        });
        Closed { known, false_claim }
    }
}
