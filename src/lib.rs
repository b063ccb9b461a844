#![doc = include_str!("README.md")]

#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
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
#[cfg(feature = "store")]
pub mod store;
#[cfg(feature = "client")]
pub mod swarm;
#[cfg(feature = "node")]
pub mod sync;
#[cfg(feature = "client")]
pub mod transport;
#[cfg(feature = "client")]
pub mod wire;

pub use p2pdb_protocol as protocol;
