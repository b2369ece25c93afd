//! The proof: what plays the host in privileged tests, and what attacks it.
//!
//! A probe that succeeds against a weakened sandbox must not touch the machine
//! it runs on: see [`stage`].

pub mod stage;
