//! The integration tests: one binary, so that the node is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod cli;
mod cli_nodes;
mod demo;
mod interop;
mod layering;
mod purity;
mod source;
mod support;
mod swarm;
