//! Which calls of the kernel a sandbox reaches.
//!
//! The profile `app` is the file `profiles/app.toml`, turned into tables by
//! the build script. Two programs enforce it. The **numbers** program answers
//! each call by its number with a binary tree ([`Verdict`]); it uses only
//! instructions that the kernel can evaluate when the filter is installed, so
//! that allowed calls cost next to nothing afterwards. The **arguments**
//! program, made by seccompiler, denies allowed calls by their arguments.
//!
//! # Order
//! Install [`Filters::programs`] in their order: the numbers program is the
//! last, because it denies installing another. The kernel takes the strictest
//! answer of all programs and, between two errors, that of the one installed
//! last; the arguments program answers only for calls that the numbers program
//! allows, so denied calls give EPERM and unknown ones ENOSYS in any case.
//!
//! # Kernel
//! Seccomp filters with `SECCOMP_RET_KILL_PROCESS`: 4.14. x86-64 only.
//!
//! # Source
//! seccomp(2); `kernel/seccomp.c`: `seccomp_run_filters`,
//! `seccomp_is_const_allow`.

#[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64")))]
compile_error!("the seccomp profile knows the calls of 64-bit x86-64 alone");

mod arguments;
mod numbers;
mod profile;
mod tree;

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;

pub use profile::{Comparison, Condition, Group, Profile, ProfileError, Rule, Verdict};

/// One instruction of classic BPF, laid out as the kernel's `sock_filter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// Instructions skipped if a comparison holds.
    pub jt: u8,
    /// Instructions skipped if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// One filter program as `seccomp(SECCOMP_SET_MODE_FILTER)` takes it.
pub type Program = Vec<Instruction>;

/// A compiled profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The programs in the order in which they are installed.
    pub programs: Vec<Program>,
}

/// The kernel's name of a call.
pub fn call_name(number: u32) -> Option<&'static str> {
    let found = numbers::NUMBERS.binary_search_by_key(&number, |(_, number)| *number);
    let (name, _) = numbers::NUMBERS.get(found.ok()?)?;
    Some(name)
}

/// The number of a call by the kernel's name.
pub fn call_number(name: &str) -> Option<u32> {
    let (_, number) = numbers::NUMBERS.iter().find(|(known, _)| *known == name)?;
    Some(*number)
}
