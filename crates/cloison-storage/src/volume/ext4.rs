//! A volume that is an ext4 in a file of the host's, on a loop device of its
//! own.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use cloison_linux::disk;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, openat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::sys::statfs::{BTRFS_SUPER_MAGIC, fstatfs};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, geteuid, linkat, unlinkat};

use super::error::{Lacking, VolumeError, raw, step};
use super::geometry::{Geometry, Superblock};
use super::{
    Attached, Kind, Limits, NewVolume, RESERVED, SPARSE, Space, Volume, VolumeName, Volumes,
    programs,
};
use crate::loop_device::{Access, LoopDevice};

/// The blocks of the loop device: as large as those of any disk, so that direct
/// I/O can be had.
const DEVICE_BLOCK_BYTES: u32 = 4096;

const fn suffix(space: Space) -> &'static str {
    match space {
        Space::Reserved => RESERVED,
        Space::Sparse => SPARSE,
    }
}

/// Refuses a file that is not the host's alone.
pub(super) fn is_ours(name: &VolumeName, image: &OwnedFd) -> Result<(), VolumeError> {
    let status = fstat(image).map_err(step("looking at an image"))?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let reason = if kind != SFlag::S_IFREG {
        "it is another kind of file"
    } else if status.st_uid != geteuid().as_raw() || status.st_mode & 0o077 != 0 {
        "others than the host can use it"
    } else if status.st_nlink > 1 {
        "it has a second name"
    } else {
        return Ok(());
    };
    Err(VolumeError::Damaged {
        name: name.clone(),
        reason,
    })
}

/// Makes the image without a name and gives it one when it is whole.
pub(super) fn create(
    volumes: &Volumes,
    name: &VolumeName,
    new: &NewVolume,
) -> Result<Volume, VolumeError> {
    let geometry = Geometry::within(new.limits.bytes_max)?;
    let inodes = geometry.inodes(new.limits.inodes_max)?;
    let image = unnamed(volumes)?;
    extend(name, &image, geometry, new.space)?;
    programs::make(&image, geometry, inodes)?;
    furnish(volumes, &image, geometry, inodes)?;
    image.sync_all().map_err(step("flushing an image"))?;
    let entry = format!("{name}{}", suffix(new.space));
    let from = format!("/proc/self/fd/{}", image.as_raw_fd());
    let flags = AtFlags::AT_SYMLINK_FOLLOW;
    linkat(
        AT_FDCWD,
        from.as_str(),
        &volumes.directory,
        entry.as_str(),
        flags,
    )
    .map_err(|errno| match errno {
        Errno::EEXIST => VolumeError::Exists(name.clone()),
        Errno::ENOSPC | Errno::EDQUOT => VolumeError::NoSpace(name.clone()),
        errno => step("naming an image")(errno),
    })?;
    volumes.flush()?;
    show(name, &image, new.space)
}

fn unnamed(volumes: &Volumes) -> Result<File, VolumeError> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let image = match openat(&volumes.directory, ".", flags, mode) {
        Ok(image) => image,
        Err(Errno::EOPNOTSUPP | Errno::EISDIR) => return Err(Lacking::UnnamedFiles.into()),
        Err(errno) => return Err(step("making an image")(errno)),
    };
    let on = fstatfs(&image).map_err(step("looking at the file system of the volumes"))?;
    if on.filesystem_type() == BTRFS_SUPER_MAGIC {
        // Else each write wants room anew, also where room was set apart.
        disk::write_in_place(image.as_fd())
            .map_err(raw)
            .map_err(step("having an image written in place"))?;
    }
    Ok(image.into())
}

/// Gives an image its length, never a shorter one. New room reads as zeros: the
/// file system of the host sees to it.
fn extend(
    name: &VolumeName,
    image: &File,
    geometry: Geometry,
    space: Space,
) -> Result<(), VolumeError> {
    if space == Space::Sparse {
        let length = image.metadata().map_err(step("looking at an image"))?.len();
        let longer = length.max(geometry.bytes());
        return image.set_len(longer).map_err(step("extending an image"));
    }
    let length = i64::try_from(geometry.bytes()).unwrap_or(i64::MAX);
    fallocate(image, FallocateFlags::empty(), 0, length).map_err(|errno| match errno {
        Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG => VolumeError::NoSpace(name.clone()),
        Errno::EOPNOTSUPP => Lacking::Reservation.into(),
        errno => step("setting room apart")(errno),
    })
}

/// Gives the root to the tenant and takes out what the tenant does not own.
fn furnish(
    volumes: &Volumes,
    image: &File,
    geometry: Geometry,
    inodes: u64,
) -> Result<(), VolumeError> {
    let attached = mount(image)?;
    let failed = || step("furnishing a new volume");
    let root = root_of(&attached)?;
    unlinkat(&root, "lost+found", UnlinkatFlags::RemoveDir).map_err(failed())?;
    let owner = volumes.owner.get();
    let (user, group) = (Uid::from_raw(owner), Gid::from_raw(owner));
    fchown(&root, Some(user), Some(group)).map_err(failed())?;
    fchmod(&root, Mode::from_bits_truncate(0o755)).map_err(failed())?;
    let found = fstatvfs(&root).map_err(failed())?;
    let said = Superblock::read(image).ok();
    if (found.files(), said.map(|said| said.geometry)) == (inodes, Some(geometry)) {
        Ok(())
    } else {
        Err(VolumeError::Program {
            program: "mke2fs",
            said: "it made another size than it was told to".to_owned(),
        })
    }
}

fn root_of(attached: &Attached) -> Result<OwnedFd, VolumeError> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(&attached.mount, ".", flags, Mode::empty()).map_err(step("opening a volume's root"))
}

pub(super) fn show(name: &VolumeName, image: &File, space: Space) -> Result<Volume, VolumeError> {
    let found = superblock(name, image)?;
    Ok(Volume {
        name: name.clone(),
        limits: Limits {
            bytes_max: found.geometry.bytes(),
            inodes_max: found.inodes,
        },
        kind: Kind::Image { space },
    })
}

fn superblock(name: &VolumeName, image: &File) -> Result<Superblock, VolumeError> {
    Superblock::read(image).map_err(|reason| VolumeError::Damaged {
        name: name.clone(),
        reason,
    })
}

fn mount(image: &File) -> Result<Attached, VolumeError> {
    let device = LoopDevice::over(image, Access::ReadWrite, DEVICE_BLOCK_BYTES)?;
    let cache = device.cache;
    // Nothing is given back, and nothing is written that was written before.
    let options = [
        (c"errors", Some(c"remount-ro")),
        (c"nodiscard", None),
        (c"noinit_itable", None),
    ];
    let mount = device.mount(c"ext4", &options, 0)?;
    Ok(Attached { mount, cache })
}

/// Mounts an image whose lock the caller has.
pub(super) fn attach(
    name: &VolumeName,
    image: &File,
    space: Space,
) -> Result<Attached, VolumeError> {
    let found = superblock(name, image)?;
    if space == Space::Reserved {
        extend(name, image, found.geometry, space)?;
    }
    mount(image)
}

/// Grows an image whose lock the caller has.
pub(super) fn resize(
    name: &VolumeName,
    image: File,
    space: Space,
    limits: Limits,
) -> Result<(), VolumeError> {
    let old = superblock(name, &image)?;
    let geometry = Geometry::within(limits.bytes_max)?;
    let inodes = geometry.grown(&old, limits)?;
    if (geometry, inodes) == (old.geometry, old.inodes) {
        return Ok(());
    }
    // The kernel clears the tables of new groups by giving their room back: it is
    // set apart once more.
    let grown = extend(name, &image, geometry, space)
        .and_then(|()| grow(&image, geometry))
        .and_then(|()| extend(name, &image, geometry, space));
    if let Err(error) = grown {
        // What holds no part of the file system is given back.
        if superblock(name, &image).is_ok_and(|found| found == old) {
            image
                .set_len(old.geometry.bytes())
                .map_err(step("giving room back"))?;
        }
        return Err(error);
    }
    image.sync_all().map_err(step("flushing an image"))
}

fn grow(image: &File, geometry: Geometry) -> Result<(), VolumeError> {
    let attached = mount(image)?;
    let root = root_of(&attached)?;
    let grown = disk::grow_ext4(root.as_fd(), geometry.blocks).map_err(raw);
    drop((root, attached));
    match grown {
        Ok(()) => Ok(()),
        // The kernel does it only for who may exceed limits.
        Err(Errno::EPERM) => programs::grow(image, geometry),
        Err(errno) => Err(step("growing a file system")(errno)),
    }
}

/// Removes an image whose lock the caller has. Whoever has it open yet reads
/// nothing of it.
pub(super) fn remove(
    volumes: &Volumes,
    name: &VolumeName,
    image: &File,
    space: Space,
) -> Result<(), VolumeError> {
    let entry = format!("{name}{}", suffix(space));
    unlinkat(
        &volumes.directory,
        entry.as_str(),
        UnlinkatFlags::NoRemoveDir,
    )
    .map_err(step("removing an image"))?;
    image.set_len(0).map_err(step("emptying an image"))
}
