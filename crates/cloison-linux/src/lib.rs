//! The raw Linux calls of Cloison.
//!
//! The only crate that is unsafe. It holds the steps that run between clone
//! and exec ([`child`]), the spawner and the init that run as a program of
//! their own ([`PROGRAM`]), and calls of the parent's side that nix lacks
//! ([`host`], [`bpf`], [`disk`]). All but these is written against core alone: the static
//! program is compiled from these very modules and links nothing else.
//!
//! # Kernel
//! 5.12 for `mount_setattr(2)`, 5.13 for Landlock. x86-64.

#![no_std]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("the numbers of system calls here are those of x86-64 Linux");

pub mod bpf;
pub mod child;
pub mod clone;
pub mod disk;
pub mod host;
pub mod message;
pub mod steps;
pub mod sys;

/// The static program: an ELF that is the spawner when it is executed with
/// one argument and the init when it is executed with more.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program"));
