//! What only version 1 needs: a filled cpuset, its freezer, its limits.

use super::placement::Placement;
use super::{CgroupError, CgroupStep};
use crate::proc::fields::{decimal, lines};
use nix::errno::Errno;
use std::os::fd::BorrowedFd;

/// Gives a new cgroup its parent's processors and memory nodes: until both
/// are set no task may enter (`ENOSPC`).
///
/// # Source
/// cpuset(7)
pub(super) fn fill_cpuset(parent: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Result<(), Errno> {
    for file in [c"cpuset.cpus", c"cpuset.mems"] {
        let value = super::placement::read(parent, file)?;
        super::placement::write(directory, file, &value)?;
    }
    Ok(())
}

pub(super) fn freeze(placement: &Placement) -> Result<(), CgroupError> {
    placement.set(CgroupStep::Freeze, c"freezer.state", b"FROZEN")
}

/// So many looks at a cgroup that does not come to a standstill, then it runs
/// for a moment.
const LOOKS_BETWEEN_THAWS: u32 = 200;

/// Freezes once more: a process that appeared while the others were told to
/// stand still may not have been told. Where that does not help, what the
/// others wait for needs to run for a moment.
///
/// # Source
/// The kernel's documentation of the freezer of version 1, which leaves it to
/// whoever freezes to try again or to thaw
pub(super) fn insist(placement: &Placement, looks: u32) -> Result<(), CgroupError> {
    if looks.is_multiple_of(LOOKS_BETWEEN_THAWS) {
        thaw(placement)?;
    }
    freeze(placement)
}

pub(super) fn thaw(placement: &Placement) -> Result<(), CgroupError> {
    placement.set(CgroupStep::Thaw, c"freezer.state", b"THAWED")
}

/// `FREEZING` is not yet frozen.
pub(super) fn is_frozen(placement: &Placement) -> Result<bool, CgroupError> {
    Ok(placement.value(c"freezer.state")?.trim_ascii_end() == b"FROZEN")
}

/// What the kernel says when there is no limit is as many pages as fit.
pub(super) const UNLIMITED: u64 = 1 << 62;

/// The lowest limit of the cgroup and of those above it.
pub(super) fn memory_bytes_max(directory: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
    let text = super::placement::read(directory, c"memory.stat")?;
    let limit = lines(&text)
        .find_map(|line| line.strip_prefix(b"hierarchical_memory_limit "))
        .and_then(decimal)
        .ok_or(Errno::EBADMSG)?;
    Ok((limit < UNLIMITED).then_some(limit))
}
