//! The proof: what plays the host in privileged tests, and what attacks it.
//!
//! A probe that succeeds against a weakened sandbox must not touch the machine
//! it runs on: see [`stage`].

pub mod probes;
pub mod races;
pub mod stage;

/// The static program that probes run inside a sandbox: `attempt PROBE
/// [KEY=VALUE...]`, exit code 10 through, 0 stopped, 20 could not try.
pub const ATTEMPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attempt"));
