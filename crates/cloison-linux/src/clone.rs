//! Making the child.

use core::mem::size_of;

use crate::child::cloison_child_entry;
use crate::steps::{Image, NONE};
use crate::sys::{Result, check, nr, raw};

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
const SIGCHLD: u64 = 17;

/// struct clone_args of clone3(2).
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child that was made.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    /// Its process id, as the maker sees it.
    pub pid: i32,
    /// A descriptor of it, close-on-exec.
    pub pidfd: i32,
}

/// Makes a child that runs `image`; it reports to, and waits on, `report`.
///
/// The child has a copy of the caller's memory (never `CLONE_VM`: a tenant at
/// its memory limit would have the OOM killer kill the caller with it), so
/// the caller may free everything as soon as this returns.
///
/// # Errors
/// What clone3(2) says.
///
/// # Kernel
/// 5.7, for `CLONE_INTO_CGROUP`.
pub fn make_child(image: &Image<'_>, descriptors: &[i32], report: i32) -> Result<Made> {
    let header = image.header();
    let mut pidfd: i32 = -1;
    let mut arguments = CloneArguments {
        flags: header.clone_flags | CLONE_PIDFD,
        pidfd: &raw mut pidfd as u64,
        exit_signal: SIGCHLD,
        ..CloneArguments::default()
    };
    if header.cgroup != NONE
        && let Some(&cgroup) = descriptors.get(header.cgroup as usize)
    {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup as u64;
    }
    let size = size_of::<CloneArguments>() as u64;
    let at = &raw const arguments as u64;
    // SAFETY: without CLONE_VM the child has memory and a stack of its own,
    // copied; the structure and the pidfd it names are live locals.
    let cloned = check(unsafe { raw(nr::CLONE3, [at, size, 0, 0, 0, 0]) })?;
    if cloned == 0 {
        let memory = image.as_ptr().cast_mut();
        // SAFETY: the image was checked for these descriptors; this process
        // is the copy, so both are its own and it has one thread.
        unsafe { cloison_child_entry(memory, descriptors.as_ptr(), report) }
    }
    Ok(Made {
        pid: cloned as i32,
        // The kernel wrote it through the address above.
        pidfd: read_volatile(&pidfd),
    })
}

fn read_volatile(value: &i32) -> i32 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(value) }
}
