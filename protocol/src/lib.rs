//! The p2pdb protocol without any I/O: keys, entries, proof of work, messages and reconciliation.
//!
//! Nothing here opens a socket or a file, reads a clock or spawns a task: the time, randomness and bytes
//! are arguments. `SPEC.md` beside this crate is normative, and the documentation of every public item names
//! the section it implements.

pub mod bucket;
pub mod card;
pub mod codec;
pub mod entry;
pub mod export;
pub mod filter;
pub mod id;
pub mod keys;
pub mod limits;
pub mod message;
pub mod network;
pub mod pow;
pub mod reconcile;
pub mod record;
pub mod refusal;
pub mod seal;
