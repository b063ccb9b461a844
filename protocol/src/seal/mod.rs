//! Sealing content into an entry and opening it again (SPEC 4.4-4.9).
//!
//! A [`Draft`] is encrypted to its recipients and signed by its table, which makes a [`SealedEntry`]; together with the
//! work for its puzzle that becomes an [`Entry`](crate::entry::Entry). [`open`] is the way back.

mod body;
mod content;
mod draft;
mod open;
mod padme;

pub use content::Content;
pub use draft::{Draft, SealError, SealedEntry};
pub use open::{OpenError, Opened, open};
pub use padme::padme;

/// The OAEP label of a wrapped content key (SPEC 4.7).
const WRAP_LABEL: &[u8] = b"p2pdb content key v1";

#[cfg(test)]
mod tests;
