//! Reconciliation in a simulated network: convergence in spite of loss, evictions and liars, and what it costs.
//!
//! Every test prints its seed; `P2PDB_SEED` sets it. `world` is of no particular protocol, `node` is a driver of the
//! sans-io parts as the real node has one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub
)]

mod announce;
mod fast;
mod liar;
mod node;
mod pairs;
mod properties;
mod random;
mod store;
mod swarm;
mod world;
