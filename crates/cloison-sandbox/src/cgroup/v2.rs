//! What only version 2 has: freezing and killing a whole cgroup, limits that
//! stand in each of those above.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, fstat};

use super::placement::{Placement, read};
use super::{CgroupError, CgroupStep};
use crate::proc::fields::{decimal, lines};

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

/// How deep a cgroup may lie beneath the root of its hierarchy.
const DEPTH_MAX: usize = 64;

/// The lowest limit of the cgroup and of those above it.
pub(super) fn memory_bytes_max(directory: BorrowedFd<'_>) -> Result<Option<u64>, Errno> {
    let mut lowest: Option<u64> = None;
    climb(directory, c"memory.max", |text| {
        match text.trim_ascii_end() {
            b"max" => {}
            limit => {
                let limit = decimal(limit).ok_or(Errno::EBADMSG)?;
                lowest = Some(lowest.map_or(limit, |lowest| lowest.min(limit)));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(lowest)
}

/// The processors of the cgroup: those of the nearest above it that has a
/// cpuset, where it has none itself.
///
/// # Kernel
/// `cpuset.cpus.effective`: Linux 5.0.
pub(super) fn processors(directory: BorrowedFd<'_>) -> Result<Option<Vec<u8>>, Errno> {
    let mut nearest = None;
    climb(directory, c"cpuset.cpus.effective", |text| {
        nearest = Some(text);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(nearest)
}

/// Reads a file of the cgroup and of those above it, as long as it is wanted.
/// The root may have none, as one whose parent does not hand the controller
/// on.
fn climb(
    directory: BorrowedFd<'_>,
    file: &CStr,
    mut take: impl FnMut(Vec<u8>) -> Result<ControlFlow<()>, Errno>,
) -> Result<(), Errno> {
    let device = fstat(directory)?.st_dev;
    let mut current: OwnedFd = above(directory, c".")?;
    for _ in 0..DEPTH_MAX {
        match read(current.as_fd(), file) {
            Ok(text) => {
                if take(text)?.is_break() {
                    break;
                }
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
        let parent = above(current.as_fd(), c"..")?;
        if fstat(&parent)?.st_dev != device {
            break;
        }
        current = parent;
    }
    Ok(())
}

fn above(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn lowest_limit_above_counts() {
        let top = std::env::temp_dir().join(format!("cloison-v2-{}", std::process::id()));
        let own = top.join("a/b");
        fs::create_dir_all(&own).unwrap();
        let limit = |path: &std::path::Path, value: &str| {
            fs::write(path.join("memory.max"), value).unwrap();
        };
        let lowest = || {
            let directory = openat(nix::fcntl::AT_FDCWD, &own, OFlag::O_PATH, Mode::empty());
            memory_bytes_max(directory.unwrap().as_fd())
        };
        assert_eq!(lowest(), Ok(None));
        limit(&own, "max\n");
        limit(&top, "4096\n");
        assert_eq!(lowest(), Ok(Some(4096)));
        limit(&top.join("a"), "1024\n");
        assert_eq!(lowest(), Ok(Some(1024)));
        limit(&own, "1k\n");
        assert_eq!(lowest(), Err(Errno::EBADMSG));
        fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn processors_are_those_of_the_nearest_cpuset_above() {
        let top = std::env::temp_dir().join(format!("cloison-cpus-{}", std::process::id()));
        let own = top.join("a/b");
        fs::create_dir_all(&own).unwrap();
        let nearest = || {
            let directory = openat(nix::fcntl::AT_FDCWD, &own, OFlag::O_PATH, Mode::empty());
            processors(directory.unwrap().as_fd()).unwrap()
        };
        assert_eq!(nearest(), None);
        fs::write(top.join("cpuset.cpus.effective"), "0-3\n").unwrap();
        assert_eq!(nearest().as_deref(), Some(&b"0-3\n"[..]));
        fs::write(own.join("cpuset.cpus.effective"), "1\n").unwrap();
        assert_eq!(nearest().as_deref(), Some(&b"1\n"[..]));
        fs::remove_dir_all(&top).unwrap();
    }
}
