//! What is tried by the caller itself: calls that change nothing of it.

use std::os::fd::{AsFd, OwnedFd};

use cloison_linux::host::{self, Handled, Reach, attribute};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, makedev, mknodat};

use super::probe::Found;
use super::{Absence, Feature, KernelError};
use crate::spawner::errno;

/// Landlock's parts, each with the ABI that brought it and what is handled.
const LANDLOCK: [(Feature, i64, Handled); 6] = [
    (Feature::LandlockFiles, 1, files(MAKE_CHARACTER)),
    (Feature::LandlockRefer, 2, files(1 << 13)),
    (Feature::LandlockTruncate, 3, files(1 << 14)),
    (Feature::LandlockNetwork, 4, NETWORK),
    (Feature::LandlockIoctl, 5, files(1 << 15)),
    (Feature::LandlockScope, 6, SCOPE),
];
pub(super) const MAKE_CHARACTER: u64 = 1 << 6;
/// Binding TCP ports.
pub(super) const BIND_TCP: u64 = 1;
/// Abstract sockets and signals.
pub(super) const ALL_SCOPE: u64 = 0b11;
const NETWORK: Handled = Handled {
    files: 0,
    network: BIND_TCP,
    scope: 0,
};
const SCOPE: Handled = Handled {
    files: 0,
    network: 0,
    scope: ALL_SCOPE,
};

const fn files(files: u64) -> Handled {
    Handled {
        files,
        network: 0,
        scope: 0,
    }
}

/// Tries them.
pub(super) fn try_all(found: &mut Found) -> Result<(), KernelError> {
    found.record(Feature::Openat2, beneath())?;
    found.record(Feature::MountApi, mount_api())?;
    if !found.has(Feature::MountApi) {
        let needs = Absence::Needs(Feature::MountApi);
        for feature in [
            Feature::Tmpfs,
            Feature::TmpfsNoswap,
            Feature::MountSetattr,
            Feature::DeviceNodes,
        ] {
            found.absent(feature, needs)?;
        }
    } else {
        found.record(Feature::Tmpfs, tmpfs(false).and_then(|root| fills(&root)))?;
        found.record(
            Feature::TmpfsNoswap,
            tmpfs(true).and_then(|root| fills(&root)),
        )?;
        found.record(Feature::MountSetattr, read_only())?;
        found.record(Feature::DeviceNodes, device_node())?;
    }
    landlock(found)
}

/// Tries those that a launch can do without, and those that can be waived.
pub(super) fn try_dispensable(found: &mut Found) -> Result<(), KernelError> {
    // To make one, and to let go of it, would wait for a grace period.
    let noswap = host::takes_option(c"tmpfs", c"noswap").map_err(refused);
    found.record(Feature::TmpfsNoswap, noswap)?;
    match host::core_cookie() {
        Ok(_) => found.record(Feature::CoreScheduling, Ok(()))?,
        Err(failed) => found.refused(Feature::CoreScheduling, errno(failed))?,
    }
    landlock(found)
}

/// `..` must be refused beneath a descriptor, and `.` must not.
fn beneath() -> Result<(), Absence> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = openat(AT_FDCWD, c"/", flags, Mode::empty()).map_err(Absence::Refused)?;
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS,
    );
    openat2(&root, c".", how).map_err(Absence::Refused)?;
    match openat2(&root, c"..", how) {
        Err(Errno::EXDEV) => Ok(()),
        Err(errno) => Err(Absence::Refused(errno)),
        Ok(_) => Err(Absence::Powerless),
    }
}

fn mount_api() -> Result<(), Absence> {
    let tree = host::open_tree(None, c"/", Reach::One).map_err(refused)?;
    if let Err(Absence::Refused(Errno::ENOSYS)) = tmpfs(false) {
        return Err(Absence::Refused(Errno::ENOSYS));
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(&tree, c".", flags, Mode::empty())
        .map(|_| ())
        .map_err(Absence::Refused)
}

/// A small memory file system, attached nowhere. As a sandbox's own, it
/// belongs to an id that is not the caller's (0x7fff_0000: nobody's).
pub(super) fn tmpfs(noswap: bool) -> Result<OwnedFd, Absence> {
    let mut options = vec![
        (c"size", Some(c"64k")),
        (c"nr_inodes", Some(c"16")),
        (c"mode", Some(c"755")),
        (c"uid", Some(c"2147418112")),
        (c"gid", Some(c"2147418112")),
    ];
    if noswap {
        options.push((c"noswap", None));
    }
    host::new_mount(c"tmpfs", &options, attribute::NO_SUID).map_err(refused)
}

fn make_file(directory: &OwnedFd, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::S_IRUSR)
}

/// It must take what fits, and no more.
fn fills(root: &OwnedFd) -> Result<(), Absence> {
    let file = make_file(root, c"file").map_err(Absence::Refused)?;
    let block = [1; 16 << 10];
    for _ in 0..8 {
        match nix::unistd::write(&file, &block) {
            Ok(_) => {}
            Err(Errno::ENOSPC) => return Ok(()),
            Err(errno) => return Err(Absence::Refused(errno)),
        }
    }
    Err(Absence::Powerless)
}

/// Once the mount is read-only nothing can be made on it.
fn read_only() -> Result<(), Absence> {
    let root = tmpfs(false)?;
    host::set_mount_attributes(root.as_fd(), attribute::READ_ONLY, 0, None, Reach::Beneath)
        .map_err(refused)?;
    match make_file(&root, c"file") {
        Err(Errno::EROFS) => Ok(()),
        Err(errno) => Err(Absence::Refused(errno)),
        Ok(_) => Err(Absence::Powerless),
    }
}

/// A null device of our own takes a byte.
fn device_node() -> Result<(), Absence> {
    let root = tmpfs(false)?;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    mknodat(&root, c"null", SFlag::S_IFCHR, mode, makedev(1, 3)).map_err(Absence::Refused)?;
    let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let node = openat(&root, c"null", flags, Mode::empty()).map_err(Absence::Refused)?;
    nix::unistd::write(&node, b"1")
        .map(|_| ())
        .map_err(Absence::Refused)
}

/// A ruleset that handles the part is made; what it forbids is tried later,
/// in a process of its own.
pub(super) fn landlock(found: &mut Found) -> Result<(), KernelError> {
    let abi = match host::landlock_abi() {
        Ok(abi) => abi,
        Err(failed) => {
            for (feature, ..) in LANDLOCK {
                found.refused(feature, errno(failed))?;
            }
            return Ok(());
        }
    };
    for (feature, needed, handled) in LANDLOCK {
        match host::landlock_ruleset(handled) {
            Ok(_) => found.record(feature, Ok(()))?,
            Err(_) if abi < needed => {
                let found_abi = abi;
                let too_old = Absence::LandlockTooOld {
                    needed,
                    found: found_abi,
                };
                found.absent(feature, too_old)?;
            }
            Err(failed) => found.refused(feature, errno(failed))?,
        }
    }
    Ok(())
}

pub(super) fn refused(failed: cloison_linux::sys::Errno) -> Absence {
    Absence::Refused(errno(failed))
}
