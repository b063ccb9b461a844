//! Configuration: what an operator decides, where it is kept, and how it is read.
//!
//! A [`Config`] is put together by [`Loader`] from flags, `P2PDB_*` variables, a TOML file and the defaults of a
//! profile, in this order of precedence. `deploy/config.example.toml` lists every key. [`home`] is the directory
//! that a node keeps its keys and data in, [`bootstrap`] the lists of first contacts.

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
    settings::{
        Bootstrap, Config, KadMode, LEAST_MAX_DISK, LEAST_MAX_DISK_PER_TABLE, Limits, Nat, Profile, Rates,
        Tables,
    },
    units::{Period, Size, UnitError},
};

/// The commented configuration that `p2pdb init` writes: every key with its default.
#[cfg(feature = "node")]
pub const EXAMPLE: &str = include_str!("../../deploy/config.example.toml");
