//! Reconciliation of one table between two nodes (SPEC 10).
//!
//! Nothing here does I/O: a driver owns the connections, the store and the clock, and exchanges values with
//! these parts:
//!
//! - [`Schedule`] says with which peer to reconcile next, and for how long to avoid a peer whose claims were
//!   useless.
//! - [`roots`] makes and answers the first question, which of the common tables differ.
//! - [`Session`] reconciles one table with one peer: `handle(event, now)` takes the answers of the peer and of
//!   the own store and returns requests and questions, at last one [`Output::Done`].
//! - [`sketch`] holds what sets are compared by.
//! - [`Residuals`] remembers by which ids the sets of two nodes go on to differ, so that the next question takes them into account.
//! - [`Seen`] remembers the digests of buckets that differ from the own for good (say, because entries were evicted
//!   here), so that they are not listed again.
//!
//! A session runs in one direction: it fetches what the initiator lacks. The peer starts sessions of its own.
//!
//! ```text
//!  roots ──▶ Climbing: sketches ─▶ which are known? ─▶ gets by sid ─▶ the root is right ──▶ Done
//!    │           └ undecodable, or another root ─────┐
//!    ├─────▶ Paging: gets of everything ─────────────┼────────────────────────────────────▶ Done, and again
//!    │                                               ▼
//!    └─▶ plain: Indexing ──index──▶ Comparing ──own index──▶ Listing: pages ─▶ known? ─▶ gets ──▶ Done
//!                                                            └─ pipelined, WINDOW requests at once
//! ```
//!
//! # What a liar can do
//!
//! Nothing that the peer claims is believed: ids only lead to a `get`, entries pass the gate like any others
//! (SPEC 6), and only digests that this node computed over ids it Knows are remembered (SPEC 10.4). So a liar
//! cannot make an honest entry be skipped on the way of an honest peer; he can only waste this node's time, and
//! that is bounded.
//!
//! **The fast form ends.** Sketches are asked for at most 8 times; each answer is decoded once, in at most 4,096 decodings of
//! bounded work, and it is given up when more than half of the groups do not decode after three. So at most 8 × 4,096 × 63 sids come out, of
//! which those that are not served count towards [`MAX_UNSERVED`]; every answer to a get by sids settles at least one of them, or all.
//! What was found is Known then, or the session is over. If the root is not the predicted one, although everything was served, the
//! plain form follows, and judges. Pages must ascend; the session ends when more paged entries were Known than there
//! can be ([`MAX_REPEATED`]), or after [`MAX_SHORT_PAGES`] empty ones, and all others brought entries with a proof of work.
//!
//! **The plain form ends.** Let *K* be the number of ids that are Known here when it ends. Every page with `more` moves
//! its cursor strictly upwards in one bucket, and no bucket is listed twice, so no id is listed twice. A listed id is
//! Known already, or becomes Known, or is lost: not served, or refused. The first two kinds are at most *K*;
//! of the last, the session ends at [`MAX_UNSERVED`] or [`MAX_REFUSED`], with at most [`MAX_WANTED`] plus
//! [`WINDOW`] × [`MAX_GET_IDS`] more in flight. So the listed ids *L* are finite. A page with `more` and fewer ids
//! than asked for is tolerated [`MAX_SHORT_PAGES`] times, hence there are at most *L* / [`MAX_INDEX_IDS`] +
//! [`MAX_SHORT_PAGES`] + 4,096 pages. Every answer to a `get` settles at least one of its ids, or all. Between two
//! answers there are at most [`MAX_FAILURES`] failures. And if answers come too slowly, the session ends at its
//! deadline ([`GRACE`], [`MIN_RATE`]). New entries may arrive all the time, so that *K* grows: then the session is
//! long because it is useful.
//!
//! **Memory is bounded**: for the fast form by the own groups (2.3 MB), the peer's answer and what is compared of it (2.1 MB each), and the
//! sids decoded (2.1 MB); paging holds three pages. For the plain form it is bounded by the buckets of the index (4,096), [`MAX_WANTED`] ids that wait, and [`WINDOW`] requests
//! in flight; ids that are Known leave the session with the question about them. One listing (a cursor and a running digest)
//! is kept for each bucket that has ids waiting or in flight.
//!
//! [`MAX_GET_IDS`]: crate::limits::MAX_GET_IDS
//! [`MAX_INDEX_IDS`]: crate::limits::MAX_INDEX_IDS

mod event;
mod ladder;
mod listing;
#[cfg(test)]
#[path = "../../tests/sim/random.rs"]
mod random;
mod report;
mod residual;
pub mod roots;
mod schedule;
mod seen;
mod session;
pub mod sketch;

use std::time::Duration;

pub use event::{Event, Held, Output, Request, RequestId, Response, Served};
pub use ladder::MAX_DECODED;
pub use listing::KnownBucket;
pub use report::{Cut, End, Misbehaviour, Report, Verdict};
pub use residual::{MAX_RESIDUAL_IDS, Residual, Residuals};
pub use schedule::{
    FIRST_BACK_OFF, MAX_BACK_OFF, MAX_DISCONNECTED, MAX_FAILED_BACK_OFF, MAX_QUIET_BACK_OFF, MAX_RUNNING,
    MIN_INTERVAL, PERIOD, QUIET_RATE, Schedule,
};
pub use seen::{MAX_SEEN_TOTAL, Seen};
pub use session::{Lead, Session, Setup};

/// Requests of one session in flight at once: enough to hide most of the latency when thousands of buckets differ, and
/// at most 8.5 MiB of answers.
pub const WINDOW: usize = 8;
/// Ids listed and not yet asked for that one session holds, at most: 1 MiB, and room for all pages of a full window
/// besides those that wait.
pub const MAX_WANTED: usize = 2 * WINDOW * crate::limits::MAX_INDEX_IDS;
/// Ids that the peer listed and did not serve after which a session ends.
pub const MAX_UNSERVED: u64 = 4096;
/// Entries that the peer served and the gate refused, without fault of the peer, after which a session ends: the
/// own quota or disk is used up, and what else is fetched would be thrown away too.
pub const MAX_REFUSED: u64 = 1024;
/// Pages with fewer ids than asked for, although there are more, after which a session ends.
pub const MAX_SHORT_PAGES: u32 = 256;
/// Failed requests in a row after which a session ends.
pub const MAX_FAILURES: u32 = 8;
/// Longest wait that a peer may ask of a running session; one that asks for more ends it.
pub const MAX_PAUSE: Duration = Duration::from_secs(60);
/// What a session may last whatever the peer's speed.
pub const GRACE: Duration = Duration::from_secs(120);
/// Bytes per second that the peer must deliver on average for a session to last longer than [`GRACE`].
pub const MIN_RATE: u64 = 8 << 10;
/// Ids in all buckets together that an index may claim; more than any table can hold.
pub const MAX_CLAIMED_IDS: u64 = 1 << 40;
/// Sids in one question for the ids Known here that have them.
pub const MAX_RESOLVED: usize = 4096;
/// Paged entries that may be Known already, beyond as many as there were here when the session began, or came with it.
pub const MAX_REPEATED: u64 = 100_000;
