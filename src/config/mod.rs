//! Configuration: what an operator decides, where it is kept, and how it is read.
//!
//! A [`Config`] is put together by [`Loader`] from flags, `P2PDB_*` variables, a TOML file and the defaults of a
//! profile, in this order of precedence. `deploy/config.example.toml` lists every key. [`home`] is the directory
//! that a node keeps its keys and data in, [`bootstrap`] the bootstrap lists.

#[cfg(feature = "client")]
pub mod bootstrap;
#[cfg(feature = "node")]
mod defaults;
#[cfg(feature = "node")]
pub mod home;
#[cfg(feature = "node")]
mod load;
#[cfg(feature = "node")]
mod settings;
#[cfg(feature = "node")]
mod units;

#[cfg(feature = "node")]
pub use self::{
    home::{Home, HomeError, Name},
    load::{ConfigError, Loader, Origin},
    settings::{Bootstrap, Config, KadMode, Limits, Nat, Profile, Rates, Tables},
    units::{Period, Size, UnitError},
};

/// The smallest disk space of a store, in bytes: with less there is no room to work.
pub const LEAST_MAX_DISK: u64 = 32 << 20;
/// The smallest disk space of one table, in bytes: room for the largest entries.
pub const LEAST_MAX_DISK_PER_TABLE: u64 = 2 << 20;

/// The commented configuration that `p2pdb init` writes: every key with its default.
#[cfg(feature = "node")]
pub const EXAMPLE: &str = include_str!("../../deploy/config.example.toml");
