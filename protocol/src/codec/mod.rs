//! CBOR: the strict form of what is hashed or signed, and the lenient form of messages (SPEC 1).
//!
//! [`strict`] is written and read by hand, since it must refuse every encoding but one. [`lenient`] goes
//! through serde, and [`bounded`] holds the field types that keep a message from being larger than SPEC.md
//! permits.

pub mod bounded;
pub mod lenient;
pub mod strict;
