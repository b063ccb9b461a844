//! What the benchmarks share.

pub(crate) mod bench;
pub(crate) mod child;
pub(crate) mod data;
pub(crate) mod machine;
pub(crate) mod micro;
pub(crate) mod node;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod samples;
mod signer;
