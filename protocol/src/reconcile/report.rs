//! What a session did, how it ended, and what that says about the peer.

use std::time::Duration;

use crate::refusal::Refusal;

/// What only a faulty or hostile peer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misbehaviour {
    /// The scope of an answer is not the one of SPEC 8.6.
    #[error("expected a scope that is a multiple of {epoch_seconds} and at least {asked}, got {got}")]
    WrongScope {
        /// The `since` of the request, in unix seconds.
        asked: u64,
        /// The epoch length of the network, in seconds.
        epoch_seconds: u64,
        /// The `since` of the answer, in unix seconds.
        got: u64,
    },
    /// An index with ids or with `more`, or a page of ids with buckets.
    #[error("the answer mixes an index with a page of ids")]
    WrongAnswer,
    /// The buckets of an index are not strictly ascending.
    #[error("the buckets are not strictly ascending")]
    BucketsNotAscending,
    /// A bucket that does not exist in this network.
    #[error("expected buckets of at most {bits} bits, got bucket {got}")]
    NoSuchBucket {
        /// The network's `bucket_bits`.
        bits: u8,
        /// The bucket.
        got: u16,
    },
    /// A bucket without ids was listed.
    #[error("bucket {bucket} is listed with no ids")]
    EmptyBucket {
        /// The bucket.
        bucket: u16,
    },
    /// More ids than any table can hold.
    #[error("the buckets claim more than {limit} ids")]
    TooManyIdsClaimed {
        /// [`MAX_CLAIMED_IDS`](super::MAX_CLAIMED_IDS).
        limit: u64,
    },
    /// A page longer than asked for.
    #[error("expected a page of at most {limit} ids, got {got}")]
    PageTooLong {
        /// What was asked for.
        limit: usize,
        /// What came.
        got: usize,
    },
    /// A page that claims further ids without listing any.
    #[error("an empty page claims that more follow")]
    EmptyPageWithMore,
    /// The ids of a page are not strictly ascending, or not greater than `after`.
    #[error("the ids of a page are not strictly ascending")]
    IdsNotAscending,
    /// An id of another bucket than the one asked for.
    #[error("expected ids of bucket {expected}, got one of bucket {got}")]
    WrongBucket {
        /// The bucket asked for.
        expected: u16,
        /// The bucket of the id.
        got: u16,
    },
    /// More or fewer syndromes than asked for.
    #[error("expected {expected} syndromes, got {got}")]
    WrongSyndromes {
        /// What was asked for.
        expected: usize,
        /// What came.
        got: usize,
    },
    /// A page of entries that does not continue behind the one before.
    #[error("the cursors of the pages do not ascend")]
    CursorsNotAscending,
    /// An entry that was not asked for, or twice in one answer.
    #[error("an entry was served that was not asked for")]
    Unsolicited,
    /// An entry that no honest node passes on.
    #[error("an invalid entry was served: {0}")]
    InvalidEntry(Refusal),
}

/// Why a session ended before everything was compared; the next one goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cut {
    /// [`MAX_UNSERVED`](super::MAX_UNSERVED) listed ids were not served.
    Unserved,
    /// [`MAX_REFUSED`](super::MAX_REFUSED) entries were refused here.
    Refused,
    /// [`MAX_SHORT_PAGES`](super::MAX_SHORT_PAGES) pages were not full.
    ShortPages,
    /// The deadline passed ([`GRACE`](super::GRACE), [`MIN_RATE`](super::MIN_RATE)).
    TooSlow,
    /// [`MAX_FAILURES`](super::MAX_FAILURES) requests failed in a row.
    Failures,
    /// The peer asked to wait for longer than [`MAX_PAUSE`](super::MAX_PAUSE).
    Busy(Duration),
    /// The table was paged through; what the pages missed is found by comparing again.
    Paged,
    /// [`MAX_REPEATED`](super::MAX_REPEATED) paged entries more than there can be were Known already.
    Repeated,
    /// The driver closed the session.
    Closed,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Every bucket was compared, and every listed id that could be had is Known.
    Complete,
    /// Part of it; nothing that was left out is remembered as seen.
    Cut(Cut),
    /// The peer broke the protocol.
    Misbehaved(Misbehaviour),
}

impl End {
    const fn severity(self) -> u8 {
        match self {
            End::Complete => 0,
            End::Cut(_) => 1,
            End::Misbehaved(_) => 2,
        }
    }
}

/// What a session did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How it ended.
    pub end: End,
    /// Buckets in the peer's index.
    pub buckets_compared: u64,
    /// Of those, buckets that differ from the own but whose digest was seen before.
    pub buckets_seen: u64,
    /// Of those, buckets that differ and had to be listed.
    pub buckets_differing: u64,
    /// Differences decoded from sketches.
    pub decoded: u64,
    /// Whether the sketches led to a set with the peer's root.
    pub proven: bool,
    /// Ids that the peer listed.
    pub listed: u64,
    /// Listed ids that were not Known and that the peer served; now they are, by this session or meanwhile by another.
    pub fetched: u64,
    /// Listed ids that the peer did not serve.
    pub missing: u64,
    /// Listed ids whose entries were refused here without fault of the peer.
    pub refused: u64,
    /// Listed buckets whose ids are not what the index claimed, beyond what arriving entries explain.
    pub false_claims: u64,
    /// Requests sent, repetitions included.
    pub requests: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Bytes of all answers.
    pub received_bytes: u64,
}

impl Default for Report {
    /// Nothing done, and that completely: the neutral element of [`merge`](Self::merge).
    fn default() -> Self {
        Self {
            end: End::Complete,
            buckets_compared: 0,
            buckets_seen: 0,
            buckets_differing: 0,
            decoded: 0,
            proven: false,
            listed: 0,
            fetched: 0,
            missing: 0,
            refused: 0,
            false_claims: 0,
            requests: 0,
            failures: 0,
            received_bytes: 0,
        }
    }
}

/// What a report says about the use of reconciling with that peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It brought entries.
    Useful {
        /// Whether the session was cut, so that there may be more at once.
        unfinished: bool,
    },
    /// Nothing came of it, and nothing speaks against the peer.
    Quiet,
    /// More claims were false or not served than entries came.
    Useless,
    /// The peer could not be reconciled with now.
    Failed {
        /// What it asked to wait, if it did.
        retry_after: Option<Duration>,
    },
    /// The peer broke the protocol.
    Misbehaved,
}

impl Report {
    /// Adds what another session with the same peer did, say for another table.
    pub fn merge(&mut self, other: &Self) {
        if other.end.severity() > self.end.severity() {
            self.end = other.end;
        }
        self.buckets_compared += other.buckets_compared;
        self.buckets_seen += other.buckets_seen;
        self.buckets_differing += other.buckets_differing;
        self.decoded += other.decoded;
        self.proven |= other.proven;
        self.listed += other.listed;
        self.fetched += other.fetched;
        self.missing += other.missing;
        self.refused += other.refused;
        self.false_claims += other.false_claims;
        self.requests += other.requests;
        self.failures += other.failures;
        self.received_bytes += other.received_bytes;
    }

    /// What this says about the peer; see [`Schedule::finished`](super::Schedule::finished).
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        let useless = self.missing.saturating_add(self.false_claims) > self.fetched;
        match self.end {
            End::Misbehaved(_) => Verdict::Misbehaved,
            _ if useless => Verdict::Useless,
            End::Cut(Cut::Unserved | Cut::ShortPages | Cut::Repeated) => Verdict::Useless,
            end if self.fetched > 0 => Verdict::Useful { unfinished: !matches!(end, End::Complete) },
            End::Cut(Cut::TooSlow) => Verdict::Useless,
            End::Cut(Cut::Busy(wait)) => Verdict::Failed { retry_after: Some(wait) },
            End::Cut(Cut::Failures) => Verdict::Failed { retry_after: None },
            End::Complete | End::Cut(Cut::Closed | Cut::Refused | Cut::Paged) => Verdict::Quiet,
        }
    }
}
