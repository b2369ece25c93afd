//! What only version 2 has: freezing and killing a whole cgroup.

use nix::errno::Errno;

use super::placement::Placement;
use super::{CgroupError, CgroupStep};
use crate::proc::fields::lines;

pub(super) fn freeze(placement: &Placement) -> Result<(), CgroupError> {
    placement.set(CgroupStep::Freeze, c"cgroup.freeze", b"1")
}

pub(super) fn thaw(placement: &Placement) -> Result<(), CgroupError> {
    placement.set(CgroupStep::Thaw, c"cgroup.freeze", b"0")
}

pub(super) fn is_frozen(placement: &Placement) -> Result<bool, CgroupError> {
    Ok(lines(&placement.value(c"cgroup.events")?).any(|line| line == b"frozen 1"))
}

/// Sends `SIGKILL` to every process of the cgroup, where the kernel can.
pub(super) fn kill(placement: &Placement) -> Result<(), CgroupError> {
    match placement.set(CgroupStep::Kill, c"cgroup.kill", b"1") {
        Err(CgroupError::Step {
            source: Errno::ENOENT,
            ..
        }) => Ok(()),
        result => result,
    }
}
