#![doc = include_str!("README.md")]

#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
#[cfg(feature = "gateway")]
pub mod gateway;
#[cfg(feature = "node")]
pub mod ingest;
#[cfg(feature = "node")]
pub mod node;
#[cfg(feature = "node")]
pub mod serve;
#[cfg(feature = "node")]
pub mod store;
pub mod swarm;
#[cfg(feature = "node")]
pub mod sync;
pub mod transport;
pub mod wire;

pub use p2pdb_protocol as protocol;
