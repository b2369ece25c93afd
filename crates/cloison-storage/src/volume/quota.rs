//! A volume that is a directory of a project with a quota.
//!
//! A process of another user namespace than the first cannot give a file to
//! another project, and a file does not move out of its project by its name.
//!
//! # Source
//! fs/ioctl.c and fs/file_attr.c, `fileattr_set_prepare`; xfs_quota(8)

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison_linux::disk::{self, ProjectQuota};
use cloison_linux::host::{self, Reach, attribute};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat, renameat2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::error::{Lacking, Refused, VolumeError, raw, step};
use super::{Attached, Kind, Limits, QUOTA, Volume, VolumeName, Volumes};
use crate::loop_device::HostCache;

/// The fewest bytes of a volume.
const BYTES_MIN: u64 = 1 << 20;
/// The fewest inodes: its root and a file.
const INODES_MIN: u64 = 2;
/// What every file system counts in whole blocks of.
const STEP_KIBIBYTES: u64 = 64;
/// Projects are numbered like the ids of the tenant's files.
const PROJECTS_MAX: u32 = 1 << 16;
/// How many entries of a directory are held in memory.
const ENTRIES_MAX: usize = 4096;

/// Whether an error says that there are no quotas of projects.
fn is_none(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::ENOSYS
            | Errno::ESRCH
            | Errno::ENOTTY
            | Errno::EOPNOTSUPP
            | Errno::EINVAL
            | Errno::ENODEV
    )
}

fn lacking(doing: &'static str) -> impl FnOnce(Errno) -> VolumeError {
    move |errno| {
        if is_none(errno) {
            Lacking::ProjectQuota.into()
        } else {
            step(doing)(errno)
        }
    }
}

fn kibibytes(limits: Limits) -> Result<u64, Refused> {
    if limits.bytes_max < BYTES_MIN {
        return Err(Refused::TooFewBytes { fewest: BYTES_MIN });
    }
    if limits.inodes_max < INODES_MIN {
        return Err(Refused::TooFewInodes { fewest: INODES_MIN });
    }
    Ok(limits.bytes_max / 1024 / STEP_KIBIBYTES * STEP_KIBIBYTES)
}

pub(super) fn create(
    volumes: &Volumes,
    name: &VolumeName,
    limits: Limits,
) -> Result<Volume, VolumeError> {
    let kibibytes_max = kibibytes(limits)?;
    let project = free_project(volumes)?;
    let unfinished = format!(".{name}.new");
    mkdirat(&volumes.directory, unfinished.as_str(), Mode::S_IRWXU).map_err(no_room(name))?;
    let made = bounded(
        volumes,
        &unfinished,
        project,
        kibibytes_max,
        limits.inodes_max,
    )
    .and_then(|()| {
        let entry = format!("{name}{QUOTA}");
        renameat2(
            &volumes.directory,
            unfinished.as_str(),
            &volumes.directory,
            entry.as_str(),
            RenameFlags::RENAME_NOREPLACE,
        )
        .map_err(no_room(name))
    });
    if let Err(error) = made {
        unlinkat(
            &volumes.directory,
            unfinished.as_str(),
            UnlinkatFlags::RemoveDir,
        )
        .map_err(step("removing what was begun"))?;
        return Err(error);
    }
    volumes.flush()?;
    volumes.show(name)
}

fn no_room(name: &VolumeName) -> impl FnOnce(Errno) -> VolumeError {
    move |errno| match errno {
        Errno::ENOSPC | Errno::EDQUOT => VolumeError::NoSpace(name.clone()),
        errno => step("making a volume's directory")(errno),
    }
}

/// Sets the bounds and looks whether they are kept; only then is it the tenant's.
fn bounded(
    volumes: &Volumes,
    unfinished: &str,
    project: u32,
    kibibytes_max: u64,
    inodes_max: u64,
) -> Result<(), VolumeError> {
    let failed = || lacking("bounding a volume");
    let directory =
        open_directory(volumes.directory.as_fd(), unfinished).map_err(step("opening a volume"))?;
    let at = directory.as_fd();
    disk::set_project(at, project)
        .map_err(raw)
        .map_err(failed())?;
    disk::set_project_quota(at, project, kibibytes_max, inodes_max)
        .map_err(raw)
        .map_err(failed())?;
    let kept = disk::project_quota(at, project)
        .map_err(raw)
        .map_err(failed())?;
    let is_enforced = disk::enforces_project_quotas(at)
        .map_err(raw)
        .map_err(failed())?;
    let belongs = disk::project(at).map_err(raw).map_err(failed())? == project;
    let is_kept = (kept.kibibytes_max, kept.inodes_max) == (kibibytes_max, inodes_max);
    // The directory itself is counted.
    if !(is_enforced && belongs && is_kept && kept.inodes >= 1) {
        return Err(Lacking::ProjectQuota.into());
    }
    let owner = volumes.owner.get();
    let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    fchown(&directory, Some(user), Some(group))
        .and_then(|()| fchmod(&directory, Mode::from_bits_truncate(0o755)))
        .map_err(step("giving a volume to its tenant"))
}

/// A number from the tenant's own that no volume has, nor any file.
fn free_project(volumes: &Volumes) -> Result<u32, VolumeError> {
    let mut taken = Vec::new();
    for entry in volumes.entries()? {
        if entry.ends_with(QUOTA) {
            let directory = open_directory(volumes.directory.as_fd(), &entry)
                .map_err(step("opening a volume"))?;
            let project = disk::project(directory.as_fd()).map_err(raw);
            taken.push(project.map_err(lacking("reading a volume's project"))?);
        }
    }
    let first = volumes.owner.get();
    for project in (1..PROJECTS_MAX).filter_map(|at| first.checked_add(at)) {
        if taken.contains(&project) {
            continue;
        }
        let has = match disk::project_quota(volumes.directory.as_fd(), project).map_err(raw) {
            // There has never been one.
            Err(Errno::ENOENT) => ProjectQuota::default(),
            other => other.map_err(lacking("reading a quota"))?,
        };
        if has.inodes == 0 {
            return Ok(project);
        }
    }
    Err(Lacking::ProjectQuota.into())
}

pub(super) fn show(name: &VolumeName, directory: &OwnedFd) -> Result<Volume, VolumeError> {
    let at = directory.as_fd();
    let damaged = |_| VolumeError::Damaged {
        name: name.clone(),
        reason: "its file system keeps no quota of it",
    };
    let project = disk::project(at).map_err(damaged)?;
    let quota = disk::project_quota(at, project).map_err(damaged)?;
    let is_enforced = disk::enforces_project_quotas(at).map_err(damaged)?;
    if project == 0 || quota.kibibytes_max == 0 || quota.inodes_max == 0 || !is_enforced {
        return Err(VolumeError::Damaged {
            name: name.clone(),
            reason: "its file system keeps no quota of it",
        });
    }
    Ok(Volume {
        name: name.clone(),
        limits: Limits {
            bytes_max: quota.kibibytes_max * 1024,
            inodes_max: quota.inodes_max,
        },
        kind: Kind::ProjectQuota { project },
    })
}

pub(super) fn resize(
    name: &VolumeName,
    directory: &OwnedFd,
    limits: Limits,
) -> Result<(), VolumeError> {
    let kibibytes_max = kibibytes(limits)?;
    let old = show(name, directory)?;
    let Kind::ProjectQuota { project } = old.kind else {
        return Ok(());
    };
    let old = old.limits;
    if kibibytes_max < old.bytes_max / 1024 || limits.inodes_max < old.inodes_max {
        return Err(Refused::Shrinks {
            bytes: old.bytes_max,
            inodes: old.inodes_max,
        }
        .into());
    }
    disk::set_project_quota(directory.as_fd(), project, kibibytes_max, limits.inodes_max)
        .map_err(raw)
        .map_err(lacking("bounding a volume"))
}

/// A mount of the directory. A volume whose quota is no longer kept is not
/// attached.
pub(super) fn attach(name: &VolumeName, directory: &OwnedFd) -> Result<Attached, VolumeError> {
    show(name, directory)?;
    let mount = host::open_tree(Some(directory.as_fd()), c"", Reach::One)
        .map_err(raw)
        .map_err(step("mounting a volume"))?;
    // What the host's own mount forbids for the host's sake is decided anew.
    let clear = attribute::NO_EXEC | attribute::NO_SYMFOLLOW;
    let set = attribute::NO_SUID | attribute::NO_DEV;
    host::set_mount_attributes(mount.as_fd(), set, clear, None, Reach::One)
        .map_err(raw)
        .map_err(step("confining a volume"))?;
    Ok(Attached {
        mount,
        cache: HostCache::None,
    })
}

/// Takes the name away. What is in it is removed by whoever sweeps, now or
/// after a crash.
pub(super) fn remove(
    volumes: &Volumes,
    name: &VolumeName,
    directory: &OwnedFd,
) -> Result<(), VolumeError> {
    let project = disk::project(directory.as_fd()).map_err(raw);
    let project = project.map_err(step("reading a volume's project"))?;
    let (entry, gone) = (format!("{name}{QUOTA}"), format!(".{name}.gone"));
    renameat(
        &volumes.directory,
        entry.as_str(),
        &volumes.directory,
        gone.as_str(),
    )
    .map_err(step("removing a volume"))?;
    volumes.sweep()?;
    disk::set_project_quota(volumes.directory.as_fd(), project, 0, 0)
        .map_err(raw)
        .map_err(step("lifting a quota"))
}

fn open_directory(beneath: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(beneath, name, flags, Mode::empty())
}

/// Empties the directory `name` beneath `beneath`. A directory in it that is not
/// empty moves up, beside `name`, to be emptied in its turn: a tenant may have
/// made them as deep as he likes.
pub(super) fn empty(beneath: BorrowedFd<'_>, name: &str) -> Result<(), Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut moved: u64 = 0;
    loop {
        let mut directory = Dir::openat(beneath, name, flags, Mode::empty())?;
        let mut entries = Vec::new();
        for entry in directory.iter().take(ENTRIES_MAX) {
            let entry = entry?;
            let file_name = entry.file_name().to_owned();
            if !matches!(file_name.to_bytes(), b"." | b"..") {
                entries.push((file_name, entry.file_type() == Some(Type::Directory)));
            }
        }
        if entries.is_empty() {
            return Ok(());
        }
        for (entry, is_directory) in entries {
            let entry = entry.as_c_str();
            let how = if is_directory {
                UnlinkatFlags::RemoveDir
            } else {
                UnlinkatFlags::NoRemoveDir
            };
            match unlinkat(&directory, entry, how) {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => loop {
                    let above = format!(".{moved}.gone");
                    moved += 1;
                    let flags = RenameFlags::RENAME_NOREPLACE;
                    match renameat2(&directory, entry, beneath, above.as_str(), flags) {
                        Err(Errno::EEXIST) => {}
                        other => break other?,
                    }
                },
                other => other?,
            }
        }
    }
}
