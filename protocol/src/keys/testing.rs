//! Keys for tests: made once per process, because making one takes a while.

#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use getrandom::{SysRng, rand_core::UnwrapErr};

use super::PrivateKey;

/// The operating system's randomness.
pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// One of four 2048-bit keys, the same for the same number.
pub(crate) fn key(number: usize) -> &'static PrivateKey {
    static KEYS: [OnceLock<PrivateKey>; 4] = [const { OnceLock::new() }; 4];
    KEYS.get(number).unwrap().get_or_init(|| PrivateKey::generate(&mut rng(), 2048).unwrap())
}
