//! Which calls of the kernel a sandbox reaches.
//!
//! The profile `app` is the file `profiles/app.toml`, turned into tables by
//! the build script. One program enforces it. Its first part answers each call
//! by its number with a binary tree ([`Verdict`]); it uses only instructions
//! that the kernel can evaluate when the filter is installed, so that allowed
//! calls cost next to nothing afterwards. The tree leads the few allowed calls
//! that have a [`Rule`] to the second part, made by seccompiler and shortened,
//! which denies them by their arguments.
//!
//! # Order
//! [`Filters::programs`] are installed in their order. The profile denies
//! installing further ones, so nothing follows them. As one program gives every
//! answer, unknown calls get ENOSYS and denied ones EPERM whatever was
//! installed before, unless that was stricter.
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
mod tighten;
mod tree;

#[cfg(test)]
#[expect(clippy::panic, reason = "tests")]
mod machine;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;

pub use profile::{Comparison, Condition, Group, Kept, Profile, ProfileError, Rule, Verdict};

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
