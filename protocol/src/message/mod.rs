//! What nodes and clients say to each other: one file per operation (SPEC 8, 9).

pub mod announce;
pub mod get;
pub mod hello;
pub mod index;
pub mod put;
mod reply;
pub mod sync;

use serde::{Serialize, de::DeserializeOwned};

pub use self::reply::{Reply, Status};

/// A request-response protocol of its own (SPEC 8.1).
pub trait Operation: Send + Sync + Clone + 'static {
    /// The name that stands in the libp2p protocol name (SPEC 2.3).
    const NAME: &'static str;
    /// Largest request frame, in bytes.
    const MAX_REQUEST: usize;
    /// Largest response frame, in bytes.
    const MAX_RESPONSE: usize;
    /// What the requester sends.
    type Request: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
    /// What the responder sends inside a [`Reply`].
    type Response: Serialize + DeserializeOwned + Clone + std::fmt::Debug + Send + Sync + 'static;
}
