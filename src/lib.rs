#![doc = include_str!("README.md")]

pub mod config;
pub mod swarm;
pub mod transport;
pub mod wire;

pub use p2pdb_protocol as protocol;
