//! p2pdb

pub mod config;
