//! Images of the provider: read-only, mounted anew for each tenant.
//!
//! Each time an image is attached it gets a loop device and a file system of its
//! own, so that two tenants share no inode and no page of memory. What a tenant
//! made is never given to the kernel to mount: an image must lie where root
//! alone writes, and be root's.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use cloison_linux::host::{self, Reach, attribute};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::loop_device::{Access, LoopDevice};
use crate::volume::Attached;
use crate::volume::error::{Lacking, Refused, VolumeError, raw, step};

/// What kind of image a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// # Kernel
    /// 6.2, for a map of ids.
    Squashfs,
    /// # Kernel
    /// 5.19, for a map of ids.
    Erofs,
}

/// An image that the provider made.
///
/// Holding one tells you that when it was opened root alone could write the file,
/// its directory and all those above. It does not tell you what is in it.
#[derive(Debug)]
pub struct ProviderImage {
    file: File,
    kind: ImageKind,
}

impl ProviderImage {
    /// Opens the image at `path`, which the operator names: an absolute path
    /// without links and `..`.
    ///
    /// # Errors
    /// [`Refused::NotTheProviders`]; [`Refused::NotAnImage`];
    /// [`VolumeError::Step`] where there is no such file.
    pub fn open(path: &Path) -> Result<Self, VolumeError> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Refused::NotTheProviders("its path names no file").into());
        };
        let directory = open_directory(above)?;
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(&directory, name, flags, Mode::empty()).map_err(not_opened)?;
        let status = fstat(&file).map_err(step("looking at an image"))?;
        roots_alone(&status, SFlag::S_IFREG)?;
        let file = File::from(file);
        let kind = kind_of(&file)?;
        Ok(Self { file, kind })
    }

    /// What kind of image it is.
    #[must_use]
    pub const fn kind(&self) -> ImageKind {
        self.kind
    }

    /// Mounts it read-only, detached, for one tenant: no other mount has its
    /// inodes. Its files carry the ids that they have in the image. With
    /// `mapping`, the user namespace that they will be mapped with, this is tried
    /// on another mount, which is gone then.
    ///
    /// # Errors
    /// [`Lacking::MapOfIds`], [`Lacking::FileSystem`], [`Lacking::LoopDevices`];
    /// [`VolumeError::Step`] for an image that the kernel does not mount.
    ///
    /// # Kernel
    /// 5.12, `CAP_SYS_ADMIN`; see [`ImageKind`].
    pub fn attach(&self, mapping: Option<BorrowedFd<'_>>) -> Result<Attached, VolumeError> {
        let kind = match self.kind {
            ImageKind::Squashfs => c"squashfs",
            ImageKind::Erofs => c"erofs",
        };
        let name = kind.to_str().unwrap_or_default();
        if let Some(mapping) = mapping {
            // A mount that is attached nowhere can be copied since 6.15 alone.
            try_map(self.mount(kind)?.mount, mapping, name)?;
        }
        self.mount(kind)
    }

    fn mount(&self, kind: &'static CStr) -> Result<Attached, VolumeError> {
        let device = LoopDevice::over(&self.file, Access::ReadOnly, 0)?;
        let cache = device.cache;
        let mount = device.mount(kind, &[(c"ro", None)], attribute::READ_ONLY)?;
        Ok(Attached { mount, cache })
    }
}

/// Maps the ids of a mount that nobody gets.
fn try_map(mount: OwnedFd, mapping: BorrowedFd<'_>, kind: &'static str) -> Result<(), VolumeError> {
    let map = Some(mapping);
    match host::set_mount_attributes(mount.as_fd(), attribute::IDMAP, 0, map, Reach::One) {
        Ok(()) => Ok(()),
        Err(errno) => match raw(errno) {
            Errno::EINVAL | Errno::EOPNOTSUPP => Err(Lacking::MapOfIds(kind).into()),
            errno => Err(step("mapping the ids of an image")(errno)),
        },
    }
}

/// Goes down from the root, each step opened beneath the last.
fn open_directory(path: &Path) -> Result<OwnedFd, VolumeError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut directory = open("/", flags, Mode::empty()).map_err(not_opened)?;
    let mut parts = path.components();
    if parts.next() != Some(Component::RootDir) {
        return Err(Refused::NotTheProviders("its path is not absolute").into());
    }
    let mut is_last_shared = false;
    for part in parts {
        let Component::Normal(name) = part else {
            return Err(Refused::NotTheProviders("its path has .. in it").into());
        };
        directory = openat(&directory, name, flags, Mode::empty()).map_err(not_opened)?;
        let status = fstat(&directory).map_err(step("looking at a directory"))?;
        // On the way, one like /tmp does no harm: what is root's in it, others
        // cannot replace.
        is_last_shared = status.st_mode & 0o1022 > 0o1000;
        if !is_last_shared {
            roots_alone(&status, SFlag::S_IFDIR)?;
        } else if status.st_uid != 0 {
            return Err(Refused::NotTheProviders("a directory above it is not root's").into());
        }
    }
    if is_last_shared {
        return Err(Refused::NotTheProviders("others can write in its directory").into());
    }
    Ok(directory)
}

fn roots_alone(status: &FileStat, wanted: SFlag) -> Result<(), Refused> {
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    let is_file = wanted == SFlag::S_IFREG;
    let reason = if kind != wanted {
        "it is no file"
    } else if status.st_uid != 0 && is_file {
        "the file is not root's"
    } else if status.st_uid != 0 {
        "a directory above it is not root's"
    } else if status.st_mode & 0o022 == 0 {
        return Ok(());
    } else if is_file {
        "others can write the file"
    } else {
        "others can write in a directory above it"
    };
    Err(Refused::NotTheProviders(reason))
}

fn not_opened(errno: Errno) -> VolumeError {
    match errno {
        Errno::ELOOP | Errno::ENOTDIR => {
            Refused::NotTheProviders("a part of its path is a link or no directory").into()
        }
        errno => step("opening an image")(errno),
    }
}

/// # Source
/// Documentation/filesystems/squashfs, erofs: their superblocks.
fn kind_of(file: &File) -> Result<ImageKind, VolumeError> {
    const SQUASHFS: &[u8] = b"hsqs";
    const EROFS_AT: u64 = 1024;
    const EROFS: [u8; 4] = 0xe0f5_e1e2_u32.to_le_bytes();
    let mut first = [0; 4];
    let mut later = [0; 4];
    // A file that is too short has neither.
    let is_read = file.read_exact_at(&mut first, 0).is_ok()
        && file.read_exact_at(&mut later, EROFS_AT).is_ok();
    match (is_read, first.as_slice() == SQUASHFS, later == EROFS) {
        (true, true, false) => Ok(ImageKind::Squashfs),
        (true, false, true) => Ok(ImageKind::Erofs),
        _ => Err(Refused::NotAnImage.into()),
    }
}
