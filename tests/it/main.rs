//! The integration tests: one binary, so that the node is linked once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::print_stdout)]

mod announce;
mod answers;
mod cli;
mod cli_nodes;
mod client;
mod demo;
mod fanout;
mod gateway;
mod gateway_guards;
mod gateway_http;
mod gateway_process;
mod gateway_python;
mod gateway_slow;
mod gateway_users;
mod hostile;
mod interop;
mod layering;
mod limits;
mod observer;
mod peer;
mod purity;
mod reconcile;
mod refusals;
mod resilience;
mod secrets;
mod secrets_gateway;
mod siege;
mod source;
mod strangers;
mod streams;
mod support;
mod swarm;
mod threats;
