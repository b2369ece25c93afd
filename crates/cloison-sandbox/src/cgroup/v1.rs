//! What only version 1 needs: a filled cpuset, and its freezer.

use super::placement::Placement;
use super::{CgroupError, CgroupStep};
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

pub(super) fn thaw(placement: &Placement) -> Result<(), CgroupError> {
    placement.set(CgroupStep::Thaw, c"freezer.state", b"THAWED")
}

/// `FREEZING` is not yet frozen.
pub(super) fn is_frozen(placement: &Placement) -> Result<bool, CgroupError> {
    Ok(placement.value(c"freezer.state")?.trim_ascii_end() == b"FROZEN")
}
