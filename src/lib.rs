#![doc = include_str!("README.md")]

pub mod clock;
#[cfg(feature = "node")]
pub mod store;
pub mod swarm;
pub mod transport;
pub mod wire;

pub use p2pdb_protocol as protocol;
