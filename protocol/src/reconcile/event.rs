//! What goes into a session and comes out of it.

use std::time::Duration;

use crate::{
    bucket::BucketSummary,
    filter::Cursor,
    id::{EntryId, TableId},
    reconcile::{
        KnownBucket, Report, Residual, Seen,
        sketch::{Group, Root, Sid},
    },
    refusal::Outcome,
};

/// Correlates a request or a question with its answer; unique within one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// What happened, told to [`Session::handle`](super::Session::handle).
///
/// Events that do not fit the session's state (late or repeated answers) are ignored.
#[derive(Debug)]
pub enum Event<'a> {
    /// The session begins, or the time [`Session::next_wake`](super::Session::next_wake) has come.
    Wake,
    /// The peer answered a request.
    Response {
        /// The request.
        request: RequestId,
        /// Length of the answer on the wire, in bytes.
        bytes: u64,
        /// The answer.
        response: Response,
    },
    /// A request was not answered: a timeout, a closed stream, an answer that does not decode, or a status other
    /// than ok (SPEC 8.2).
    Failed {
        /// The request.
        request: RequestId,
        /// What the peer asked to wait before the next request, if it did.
        retry_after: Option<Duration>,
    },
    /// The answer to [`Output::OwnIndex`].
    OwnIndex {
        /// The buckets of the own store in the scope asked for, in ascending order; taken in one snapshot.
        buckets: &'a [BucketSummary],
        /// The memory of digests seen, to skip what is in it.
        seen: &'a Seen,
    },
    /// The answer to [`Output::AreKnown`].
    Unknown {
        /// The question.
        question: RequestId,
        /// Those of the ids asked for that are not Known (SPEC 6.3); all others are.
        ids: Vec<EntryId>,
    },
    /// The answer to [`Output::OwnGroups`].
    OwnGroups {
        /// All groups of the level in the scope asked for, ascending; taken in one snapshot.
        groups: Vec<Group>,
    },
    /// The answer to [`Output::Resolve`].
    Resolved {
        /// The question.
        question: RequestId,
        /// All ids Known here that have one of the sids asked for.
        held: Vec<Held>,
    },
    /// An answer to [`Request::Page`] has come, whose entries are on their way through the gate:
    /// [`Event::Response`] is to follow with them, and without their length.
    Paged {
        /// The request.
        request: RequestId,
        /// Length of the answer on the wire, in bytes.
        bytes: u64,
        /// Where the next page begins.
        next: Cursor,
        /// Whether a further page exists already.
        more: bool,
    },
    /// The connection is gone or the node shuts down.
    Close,
}

/// What the driver has to do, returned by [`Session::handle`](super::Session::handle).
#[derive(Debug)]
pub enum Output {
    /// Send a request to the peer; answer with [`Event::Response`] or [`Event::Failed`], the latter also when
    /// the driver's own deadline for the request passes.
    Send(RequestId, Request),
    /// Compute the own index with this `since` (SPEC 8.6); answer with [`Event::OwnIndex`].
    OwnIndex {
        /// The scope S: only entries created at or after it count, in unix seconds.
        since: u64,
    },
    /// Ask the own store which of these ids are not Known; answer with [`Event::Unknown`].
    AreKnown {
        /// Correlates the answer.
        question: RequestId,
        /// At most [`MAX_INDEX_IDS`](crate::limits::MAX_INDEX_IDS), strictly ascending.
        ids: Vec<EntryId>,
    },
    /// Hand this to [`Seen::remember`].
    Remember(KnownBucket),
    /// Compute all own groups of a level; answer with [`Event::OwnGroups`].
    OwnGroups {
        /// The scope S: only entries created at or after it count, in unix seconds.
        since: u64,
        /// The leading bits that name a group, at most [`MAX_LEVEL`](super::sketch::MAX_LEVEL).
        level: u8,
    },
    /// Look up which ids with these sids are Known; answer with [`Event::Resolved`].
    Resolve {
        /// Correlates the answer.
        question: RequestId,
        /// At most [`MAX_RESOLVED`](super::MAX_RESOLVED).
        sids: Vec<Sid>,
    },
    /// Hand this to [`Residuals::remember`](super::Residuals::remember).
    Residual {
        /// The scope S that it is of, in unix seconds.
        since: u64,
        /// By what the sets go on to differ.
        residual: Residual,
    },
    /// The session is over; it ignores what comes after.
    Done(Report),
}

/// A request to the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `index` of the whole table (SPEC 8.6).
    Index {
        /// The table.
        table: TableId,
        /// The own horizon, in unix seconds.
        since: u64,
    },
    /// `index` of one bucket: a page of its ids (SPEC 8.6).
    Ids {
        /// The table.
        table: TableId,
        /// The scope S that both compared, in unix seconds.
        since: u64,
        /// The bucket.
        bucket: u16,
        /// List only ids greater than this.
        after: Option<EntryId>,
        /// List at most so many ids.
        limit: usize,
    },
    /// `get` by ids (SPEC 8.5), without a cursor and with the greatest permitted `limit`.
    ///
    /// The session itself asks again for what did not fit into the answer.
    Get {
        /// At most [`MAX_GET_IDS`](crate::limits::MAX_GET_IDS), strictly ascending.
        ids: Vec<EntryId>,
    },
    /// `sync` for syndromes of groups (SPEC 8.7).
    Groups {
        /// The table.
        table: TableId,
        /// The scope S, in unix seconds.
        since: u64,
        /// The leading bits that name a group.
        level: u8,
        /// The groups, ascending.
        groups: Vec<u16>,
        /// The syndromes, counted from 0.
        syndromes: std::ops::Range<usize>,
    },
    /// `get` by sids (SPEC 8.5), with the greatest permitted `limit`.
    Sids {
        /// At most [`MAX_GET_SIDS`](crate::limits::MAX_GET_SIDS), ascending.
        sids: Vec<Sid>,
    },
    /// `get` of a page of the table (SPEC 8.5), with the greatest permitted `limit`; answer with [`Event::Paged`] at once.
    Page {
        /// Entries created at this time or later, in unix seconds.
        since: u64,
        /// Where the page begins; none for the first.
        cursor: Option<Cursor>,
    },
}

/// The peer's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// To either form of `index`.
    Index {
        /// The scope S of the answer, in unix seconds.
        since: u64,
        /// The non-empty buckets, for [`Request::Index`].
        buckets: Vec<BucketSummary>,
        /// The ids, for [`Request::Ids`].
        ids: Vec<EntryId>,
        /// Whether further ids follow.
        more: bool,
    },
    /// To [`Request::Groups`].
    Groups {
        /// The scope S of the answer, in unix seconds.
        since: u64,
        /// The root of the whole table in that scope, when the syndromes were taken.
        root: Root,
        /// The syndromes asked for, group after group.
        syndromes: Vec<u64>,
    },
    /// To any `get`, after every entry in it has passed the gate or was refused by it.
    Entries {
        /// What became of each entry of the answer.
        entries: Vec<Served>,
        /// Whether further entries match that did not fit.
        more: bool,
    },
}

/// What became of one entry that the peer served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The entry's id, computed by this node; none if the bytes did not decode that far.
    pub id: Option<EntryId>,
    /// What the gate said (SPEC 6.2).
    pub outcome: Outcome,
}

/// An id that is Known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// The id.
    pub id: EntryId,
    /// Whether it is stored; else it was dropped on purpose.
    pub stored: bool,
}
