//! Random numbers that depend on the seed only: those of the simulator.

#[path = "../../../protocol/tests/sim/random.rs"]
mod simulated;

pub(crate) use simulated::Random;
