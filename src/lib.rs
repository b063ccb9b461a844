//! p2pdb

pub mod clock;
#[cfg(feature = "node")]
pub mod store;
