//! The proof: what plays the host in privileged tests, and what attacks it.

pub mod probes;

/// The static program that probes run inside a sandbox: `attempt PROBE
/// [KEY=VALUE...]`, exit code 10 through, 0 stopped, 20 could not try.
pub const ATTEMPT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attempt"));
