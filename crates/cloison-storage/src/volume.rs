//! Volumes: room of a tenant's own, bounded in bytes and inodes.
//!
//! All volumes of one tenant lie in one directory that the host alone enters.
//! Three kinds of entry are volumes, told apart by how their names end; there is
//! no other record of them that could be torn:
//!
//! | entry | a volume that is |
//! | --- | --- |
//! | `NAME.reserved` | an ext4 in a file whose room on the host's disk is set apart |
//! | `NAME.sparse` | the same, with room taken as it is filled |
//! | `NAME.quota` | a directory that belongs to a project with a quota |
//!
//! Which way is taken, by rule: a quota, where the file system of the directory
//! keeps quotas of projects, which is tried by setting one, reading it back and
//! asking whether it is enforced; else an image; else a refusal that says what is
//! lacking. On btrfs that is an image, written in place (`NOCOW`): a quota of
//! its subvolumes bounds bytes and no inodes.
//!
//! A volume has no name while it is made, so what dies meanwhile leaves nothing;
//! a directory, which must have one, begins with a dot, and the next change
//! removes it.

pub(crate) mod error;
mod ext4;
mod geometry;
mod name;
mod programs;
mod quota;

use std::fs::File;
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use crate::loop_device::HostCache;
use error::step;

pub use error::{Lacking, Refused, VolumeError};
pub use name::VolumeName;

/// How long another may be changing the volumes.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an image may still be held by a device that is about to end.
const SETTLING: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

const RESERVED: &str = ".reserved";
const SPARSE: &str = ".sparse";
const QUOTA: &str = ".quota";

/// What bounds a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most that it takes of the host's disk, in bytes. Of an image, some of
    /// them hold its own tables: its whole size is this, or up to 16 MiB less.
    pub bytes_max: u64,
    /// The most files, directories and links, its own root among them. Of an
    /// image the file system keeps ten for itself, and the number is this or up
    /// to 15 less for each 128 MiB.
    pub inodes_max: u64,
}

/// Whether the room of an image is set apart. A quota sets nothing apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Space {
    /// All of it when the volume is made or grows: what fills the host's disk
    /// later does not touch the tenant. What a write gave back is set apart
    /// again whenever the volume is attached.
    #[default]
    Reserved,
    /// As it is filled: a full disk of the host is an I/O error for the tenant.
    Sparse,
}

/// Which way of bounding is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Means {
    /// A quota where there is one, else an image.
    #[default]
    Any,
    /// A quota or nothing.
    ProjectQuota,
    /// An image or nothing. It is a file system of its own: nothing in the
    /// server's list of mounts names a path of the host.
    Image,
}

/// A volume to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewVolume {
    /// What bounds it.
    pub limits: Limits,
    /// Whether an image's room is set apart.
    pub space: Space,
    /// Which way is wanted.
    pub means: Means,
}

/// A volume that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// What it is called.
    pub name: VolumeName,
    /// What bounds it: not what was asked for, but what holds.
    pub limits: Limits,
    /// How it is bounded.
    pub kind: Kind,
}

/// How a volume is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By the quota of a project.
    ProjectQuota {
        /// The project's number, which no other volume of the host has.
        project: u32,
    },
    /// By the size of an ext4 of its own.
    Image {
        /// Whether its room is set apart.
        space: Space,
    },
}

/// A volume or image that is mounted nowhere yet.
#[derive(Debug)]
pub struct Attached {
    /// Its root, with `nodev` and `nosuid`. Good for one attachment; the volume
    /// is detached when neither this nor a mount made of it is left.
    pub mount: OwnedFd,
    /// Whether the host keeps a second copy of what is read.
    pub cache: HostCache,
}

/// The volumes of one tenant.
///
/// Holding one tells you that its directory was the host's own when it was
/// opened.
#[derive(Debug)]
pub struct Volumes {
    directory: OwnedFd,
    owner: NonZeroU32,
}

/// The right to change the volumes of a directory.
struct Exclusive(#[expect(dead_code, reason = "held for its lock")] File);

/// What a name stands for.
enum Found {
    Image(File, Space),
    Directory(OwnedFd),
}

impl Volumes {
    /// The volumes in `directory`, whose roots belong to the user and the group
    /// `owner`: the first of the ids that the tenant's files carry on disk.
    /// Projects are numbered from it, too.
    ///
    /// # Errors
    /// [`Refused::Directory`] for one that others than this user can enter.
    pub fn open(directory: OwnedFd, owner: NonZeroU32) -> Result<Self, VolumeError> {
        let status = fstat(&directory).map_err(step("looking at the directory of volumes"))?;
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        let reason = if kind != SFlag::S_IFDIR {
            Some("it is no directory")
        } else if status.st_uid != geteuid().as_raw() {
            Some("it belongs to another user")
        } else if status.st_mode & 0o077 != 0 {
            Some("others can enter it")
        } else {
            None
        };
        match reason {
            Some(reason) => Err(Refused::Directory(reason).into()),
            None => Ok(Self { directory, owner }),
        }
    }

    /// Makes a volume. It is there as a whole, or not at all.
    ///
    /// # Errors
    /// [`VolumeError::Exists`]; [`VolumeError::NoSpace`]; [`VolumeError::Lacking`]
    /// where no way of bounding can be had; [`VolumeError::Refused`] for limits
    /// that cannot be.
    pub fn create(&self, name: &VolumeName, new: &NewVolume) -> Result<Volume, VolumeError> {
        let _exclusive = self.exclusive()?;
        self.sweep()?;
        if self.find(name)?.is_some() {
            return Err(VolumeError::Exists(name.clone()));
        }
        let by_quota = || quota::create(self, name, new.limits);
        match new.means {
            Means::ProjectQuota => by_quota(),
            Means::Image => ext4::create(self, name, new),
            Means::Any => match by_quota() {
                Err(VolumeError::Lacking(Lacking::ProjectQuota)) => ext4::create(self, name, new),
                made => made,
            },
        }
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// As [`Volumes::show`].
    pub fn list(&self) -> Result<Vec<Volume>, VolumeError> {
        let mut volumes = Vec::new();
        for entry in self.entries()? {
            let name = [RESERVED, SPARSE, QUOTA]
                .iter()
                .find_map(|suffix| entry.strip_suffix(suffix)?.parse().ok());
            match name.map(|name: VolumeName| self.show(&name)) {
                // Removed meanwhile, or nothing of ours.
                None | Some(Err(VolumeError::Missing(_))) => {}
                Some(volume) => volumes.push(volume?),
            }
        }
        volumes.sort_by(|one, other| one.name.cmp(&other.name));
        volumes.dedup();
        Ok(volumes)
    }

    /// One volume.
    ///
    /// # Errors
    /// [`VolumeError::Missing`]; [`VolumeError::Damaged`].
    pub fn show(&self, name: &VolumeName) -> Result<Volume, VolumeError> {
        match self.known(name)? {
            Found::Image(image, space) => ext4::show(name, &image, space),
            Found::Directory(directory) => quota::show(name, &directory),
        }
    }

    /// Lets a volume grow. An image must not be attached; its inodes grow with
    /// its bytes, and a wish for another number is refused with the one that
    /// would be had.
    ///
    /// A crash leaves the old size or the new one, where the kernel grows the
    /// image itself (`CAP_SYS_RESOURCE`). Where it may not, resize2fs does, and a
    /// power cut then may damage the volume.
    ///
    /// # Errors
    /// [`Refused::Shrinks`], [`Refused::InodesOfImage`];
    /// [`VolumeError::Attached`]; [`VolumeError::NoSpace`];
    /// [`VolumeError::Missing`].
    pub fn resize(&self, name: &VolumeName, limits: Limits) -> Result<Volume, VolumeError> {
        let _exclusive = self.exclusive()?;
        match self.known(name)? {
            Found::Image(image, space) => {
                hold(name, &image)?;
                ext4::resize(name, image, space, limits)?;
            }
            Found::Directory(directory) => quota::resize(name, &directory, limits)?,
        }
        self.show(name)
    }

    /// Removes a volume and all that is in it. No server may have it: of a
    /// directory the kernel does not tell whether it is attached.
    ///
    /// # Errors
    /// [`VolumeError::Attached`] for an image; [`VolumeError::Missing`].
    pub fn remove(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let _exclusive = self.exclusive()?;
        match self.known(name)? {
            Found::Image(image, space) => {
                hold(name, &image)?;
                ext4::remove(self, name, &image, space)?;
            }
            Found::Directory(directory) => quota::remove(self, name, &directory)?,
        }
        self.sweep()?;
        self.flush()
    }

    /// Mounts a volume, detached. An image is mounted once at a time, on the
    /// whole host: its loop device holds its lock, until the last mount is gone,
    /// whoever died. A directory may be attached more often: it is one file
    /// system, whoever looks at it.
    ///
    /// # Errors
    /// [`VolumeError::Attached`]; [`VolumeError::NoSpace`] where what is to be
    /// set apart no longer can be; [`VolumeError::Lacking`];
    /// [`VolumeError::Missing`]; [`VolumeError::Damaged`].
    ///
    /// # Kernel
    /// 5.12, `CAP_SYS_ADMIN`.
    pub fn attach(&self, name: &VolumeName) -> Result<Attached, VolumeError> {
        match self.known(name)? {
            Found::Image(image, space) => {
                hold(name, &image)?;
                ext4::attach(name, &image, space)
            }
            Found::Directory(directory) => quota::attach(name, &directory),
        }
    }

    fn exclusive(&self) -> Result<Exclusive, VolumeError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // A description of its own: a lock belongs to one.
        let directory = openat(&self.directory, ".", flags, Mode::empty())
            .map_err(step("opening the directory of volumes"))?;
        let directory = File::from(directory);
        if locked(&directory, PATIENCE)? {
            Ok(Exclusive(directory))
        } else {
            Err(VolumeError::Busy)
        }
    }

    fn known(&self, name: &VolumeName) -> Result<Found, VolumeError> {
        self.find(name)?
            .ok_or_else(|| VolumeError::Missing(name.clone()))
    }

    fn find(&self, name: &VolumeName) -> Result<Option<Found>, VolumeError> {
        let common = OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        for (suffix, space) in [(RESERVED, Space::Reserved), (SPARSE, Space::Sparse)] {
            let flags = common | OFlag::O_RDWR;
            if let Some(image) = self.open_entry(name, suffix, flags)? {
                ext4::is_ours(name, &image)?;
                return Ok(Some(Found::Image(image.into(), space)));
            }
        }
        let flags = common | OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let directory = self.open_entry(name, QUOTA, flags)?;
        Ok(directory.map(Found::Directory))
    }

    fn open_entry(
        &self,
        name: &VolumeName,
        suffix: &str,
        flags: OFlag,
    ) -> Result<Option<OwnedFd>, VolumeError> {
        let entry = format!("{name}{suffix}");
        match openat(&self.directory, entry.as_str(), flags, Mode::empty()) {
            Ok(opened) => Ok(Some(opened)),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP | Errno::EISDIR | Errno::ENOTDIR | Errno::ENXIO) => {
                Err(VolumeError::Damaged {
                    name: name.clone(),
                    reason: "it is another kind of file",
                })
            }
            Err(errno) => Err(step("opening a volume")(errno)),
        }
    }

    fn entries(&self) -> Result<Vec<String>, VolumeError> {
        let reading = || step("reading the directory of volumes");
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory =
            Dir::openat(&self.directory, ".", flags, Mode::empty()).map_err(reading())?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(reading())?;
            names.extend(entry.file_name().to_str().ok().map(str::to_owned));
        }
        names.retain(|name| name != "." && name != "..");
        Ok(names)
    }

    /// Removes what was begun and not finished, and what was to be removed.
    fn sweep(&self) -> Result<(), VolumeError> {
        loop {
            let entries = self.entries()?;
            let mut unfinished = entries.iter().filter(|name| name.starts_with('.'));
            let Some(first) = unfinished.next() else {
                return Ok(());
            };
            for name in std::iter::once(first).chain(unfinished) {
                quota::empty(self.directory.as_fd(), name)
                    .and_then(|()| {
                        unlinkat(&self.directory, name.as_str(), UnlinkatFlags::RemoveDir)
                    })
                    .map_err(step("removing what was in a volume"))?;
            }
        }
    }

    fn flush(&self) -> Result<(), VolumeError> {
        nix::unistd::fsync(&self.directory).map_err(step("flushing the directory of volumes"))
    }
}

/// Takes the lock of an image. It goes with the open file: to the loop device,
/// which keeps it as long as it has the file.
///
/// # Source
/// flock(2); drivers/block/loop.c, `lo_backing_file`.
fn hold(name: &VolumeName, image: &File) -> Result<(), VolumeError> {
    if locked(image, SETTLING)? {
        Ok(())
    } else {
        Err(VolumeError::Attached(name.clone()))
    }
}

/// Whether the lock of a file could be had. A call that waits by itself would
/// hear no signal.
fn locked(file: &File, patience: Duration) -> Result<bool, VolumeError> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(std::fs::TryLockError::WouldBlock) if start.elapsed() < patience => {
                thread::sleep(PAUSE);
            }
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(error)) => return Err(step("locking")(error)),
        }
    }
}
