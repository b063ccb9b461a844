#![doc = include_str!("README.md")]

#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
pub mod swarm;
pub mod transport;
pub mod wire;

pub use p2pdb_protocol as protocol;
