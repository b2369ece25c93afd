//! Detached mounts, made and filled by the caller before the clone.
//!
//! The child only attaches them. Whatever can be made outside is made
//! outside: in safe code, with errors that say where.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cloison_linux::host::{self, Reach, attribute};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, fchmodat, fstatat, makedev, mkdirat, mknodat, stat,
};
use nix::sys::statfs::{self, FsType};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use crate::error::{Error, Refused};
use crate::layers::landlock;
use crate::spawner::errno;
use crate::spec::{Access, Root, Spec};

/// What a mount of the host may forbid for the host's own sake: that it
/// executes what stands there, or follows a link. It is decided anew for a copy.
pub(crate) const HOSTS_ALONE: u64 = attribute::NO_EXEC | attribute::NO_SYMFOLLOW;

/// What every mount has.
pub(crate) const CONFINED: u64 = attribute::NO_SUID | attribute::NO_DEV;

/// What a mount has on which nothing is to be executed.
pub(crate) const NO_EXEC: u64 = CONFINED | attribute::NO_EXEC;

/// A detached mount and where it goes.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) mount: OwnedFd,
    /// The path inside, without the leading slash; empty: the root itself.
    pub(crate) target: String,
    pub(crate) file_system: &'static str,
    pub(crate) attributes: u64,
    /// What Landlock allows beneath.
    pub(crate) access: u64,
}

/// A tmpfs while it is filled.
pub(crate) struct Filling {
    mount: OwnedFd,
}

fn number(value: u64) -> CString {
    CString::new(value.to_string()).unwrap_or_default()
}

/// How a tmpfs is made.
#[derive(Debug)]
pub(crate) struct Tmpfs {
    pub(crate) bytes_max: u64,
    pub(crate) files_max: u64,
    /// The mode of its root, as mount options spell it.
    pub(crate) mode: &'static CStr,
    /// The host id of its root's user and group.
    pub(crate) owner: u32,
    pub(crate) attributes: u64,
    pub(crate) swap: Swap,
}

/// Whether a tmpfs may be swapped out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    Allowed,
    Never,
}

impl Filling {
    /// A new tmpfs.
    pub(crate) fn new(tmpfs: &Tmpfs) -> Result<Self, Errno> {
        let (size, inodes) = (number(tmpfs.bytes_max), number(tmpfs.files_max));
        let owner = number(u64::from(tmpfs.owner));
        let mut options: Vec<(&CStr, Option<&CStr>)> = vec![
            (c"size", Some(&size)),
            (c"nr_inodes", Some(&inodes)),
            (c"mode", Some(tmpfs.mode)),
        ];
        if tmpfs.owner != 0 {
            options.push((c"uid", Some(&owner)));
            options.push((c"gid", Some(&owner)));
        }
        if tmpfs.swap == Swap::Never {
            options.push((c"noswap", None));
        }
        let mount = host::new_mount(c"tmpfs", &options, tmpfs.attributes).map_err(errno)?;
        Ok(Self { mount })
    }

    /// Makes a directory and those above it.
    pub(crate) fn directory(&self, path: &str) -> Result<(), Errno> {
        for (end, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let part = path.get(..end).unwrap_or(path);
            match mkdirat(&self.mount, part, Mode::from_bits_truncate(0o755)) {
                // The caller's umask may have taken bits away.
                Ok(()) => self.set_mode(part, 0o755)?,
                Err(Errno::EEXIST) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes a file.
    pub(crate) fn file(&self, path: &str, content: &[u8]) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let file = openat(&self.mount, path, flags, Mode::from_bits_truncate(0o644))?;
        self.set_mode(path, 0o644)?;
        let written = nix::unistd::write(&file, content)?;
        if written == content.len() {
            Ok(())
        } else {
            Err(Errno::ENOSPC)
        }
    }

    /// Makes a symbolic link.
    pub(crate) fn link(&self, path: &str, to: &str) -> Result<(), Errno> {
        symlinkat(to, &self.mount, path)
    }

    /// Makes a character device that everyone may use.
    pub(crate) fn device(&self, path: &str, (major, minor): (u64, u64)) -> Result<(), Errno> {
        let mode = Mode::from_bits_truncate(0o666);
        mknodat(
            &self.mount,
            path,
            SFlag::S_IFCHR,
            mode,
            makedev(major, minor),
        )?;
        self.set_mode(path, 0o666)
    }

    /// Gives a directory or file to another.
    pub(crate) fn give(
        &self,
        path: &str,
        (user, group): (u32, u32),
        mode: u32,
    ) -> Result<(), Errno> {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        fchownat(
            &self.mount,
            path,
            Some(user),
            Some(group),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        self.set_mode(path, mode)
    }

    fn set_mode(&self, path: &str, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_bits_truncate(mode);
        fchmodat(&self.mount, path, mode, FchmodatFlags::FollowSymlink)
    }

    /// The filled tmpfs, read-only from now on if `attributes` say so.
    pub(crate) fn finish(self, target: &str, attributes: u64, access: u64) -> Result<Tree, Errno> {
        let mount = if attributes & attribute::READ_ONLY == 0 {
            self.mount
        } else {
            self.sealed(attributes)?
        };
        Ok(Tree {
            mount,
            target: target.to_owned(),
            file_system: "tmpfs",
            attributes,
            access,
        })
    }

    /// A read-only mount of it.
    ///
    /// The first mount cannot be made read-only while a file that was written
    /// through it is open, and a process that another thread of the caller has
    /// just forked holds a copy of it: so a second one, or, before 6.15, which
    /// has no second one of a mount that stands nowhere, some patience.
    fn sealed(self, attributes: u64) -> Result<OwnedFd, Errno> {
        const TRIES: u32 = 1000;
        const PAUSE: Duration = Duration::from_millis(1);
        let seal = |mount: &OwnedFd| {
            host::set_mount_attributes(mount.as_fd(), attributes, 0, None, Reach::One)
                .map_err(errno)
        };
        match host::open_tree(Some(self.mount.as_fd()), c"", Reach::One).map_err(errno) {
            Ok(second) => seal(&second).map(|()| second),
            Err(Errno::EINVAL) => {
                let mut tries = 0;
                loop {
                    match seal(&self.mount) {
                        Err(Errno::EBUSY) if tries < TRIES => std::thread::sleep(PAUSE),
                        sealed => return sealed.map(|()| self.mount),
                    }
                    tries += 1;
                }
            }
            Err(errno) => Err(errno),
        }
    }

    /// The writable mount.
    pub(crate) fn into_mount(self) -> OwnedFd {
        self.mount
    }
}

/// File systems that show the kernel itself: what stands in them is neither
/// data nor a program, and a server's own are made for it.
///
/// # Source
/// statfs(2), and the kernel's `linux/magic.h` for the last three
const OF_THE_KERNEL: [(FsType, &str); 17] = [
    (statfs::PROC_SUPER_MAGIC, "proc"),
    (statfs::SYSFS_MAGIC, "sysfs"),
    (statfs::CGROUP_SUPER_MAGIC, "cgroup"),
    (statfs::CGROUP2_SUPER_MAGIC, "cgroup2"),
    (statfs::DEVPTS_SUPER_MAGIC, "devpts"),
    (statfs::DEBUGFS_MAGIC, "debugfs"),
    (statfs::TRACEFS_MAGIC, "tracefs"),
    (statfs::SECURITYFS_MAGIC, "securityfs"),
    (statfs::SELINUX_MAGIC, "selinuxfs"),
    (statfs::BPF_FS_MAGIC, "bpf"),
    (statfs::NSFS_MAGIC, "nsfs"),
    (statfs::RDTGROUP_SUPER_MAGIC, "resctrl"),
    (statfs::XENFS_SUPER_MAGIC, "xenfs"),
    (statfs::AUTOFS_SUPER_MAGIC, "autofs"),
    (FsType(0x6265_6570), "configfs"),
    (FsType(0x6165_676c), "pstore"),
    (FsType(0xde5e_81e4), "efivarfs"),
];

/// The name of the kernel's file system that `file` stands in, if it is one.
fn kernels_own(file: &OwnedFd, device: u64) -> Result<Option<&'static str>, Errno> {
    let kind = statfs::fstatfs(file)?.filesystem_type();
    if let Some((_, name)) = OF_THE_KERNEL.iter().find(|(magic, _)| *magic == kind) {
        return Ok(Some(name));
    }
    // A devtmpfs says of itself that it is a tmpfs.
    let dev = match stat("/dev") {
        Ok(status) => status.st_dev,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let is_dev = dev == device && stat("/")?.st_dev != device;
    Ok(is_dev.then_some("devtmpfs"))
}

/// What of the host is to be shown inside.
struct Source {
    file: OwnedFd,
    is_directory: bool,
    flags: FsFlags,
}

impl Source {
    /// Opens it. The path is the operator's: links in it are followed.
    fn open(path: &Path, access: Access) -> Result<Self, Error> {
        let failed = |errno| Error::host_path(path, errno);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let file = open(path, flags, Mode::empty()).map_err(failed)?;
        let status = fstatat(&file, c"", AtFlags::AT_EMPTY_PATH).map_err(failed)?;
        let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFDIR && kind != SFlag::S_IFREG {
            return Err(Refused::MountSource(path.to_owned()).into());
        }
        let root = stat("/").map_err(failed)?;
        if (root.st_dev, root.st_ino) == (status.st_dev, status.st_ino) {
            return Err(Refused::WholeHost(path.to_owned()).into());
        }
        if let Some(file_system) = kernels_own(&file, status.st_dev).map_err(failed)? {
            let path = path.to_owned();
            return Err(Refused::OfTheKernel { path, file_system }.into());
        }
        let flags = fstatvfs(&file).map_err(failed)?.flags();
        if access == Access::ReadWrite {
            is_writable(path, flags)?;
        }
        Ok(Self {
            file,
            is_directory: kind == SFlag::S_IFDIR,
            flags,
        })
    }
}

/// Refuses one that the host itself does not write to.
pub(crate) fn is_writable(path: &Path, flags: FsFlags) -> Result<(), Refused> {
    if flags.contains(FsFlags::ST_RDONLY) {
        return Err(Refused::ReadOnlyOnHost(path.to_owned()));
    }
    Ok(())
}

/// Refuses the paths of the host that [`of_host`] would.
pub(crate) fn check_sources(spec: &Spec) -> Result<(), Error> {
    let root = match &spec.root {
        Root::Directory { path, access } => Some((path, *access)),
        // Opened in another way.
        Root::SharedBase | Root::Own(_) => None,
    };
    let mounts = spec
        .mounts
        .iter()
        .map(|mount| (&mount.source, mount.access));
    root.into_iter()
        .chain(mounts)
        .try_for_each(|(path, access)| Source::open(path, access).map(drop))
}

/// A detached copy of a tree of the host. Mounts beneath it do not come along.
///
/// What the host executes nothing of is not executed inside either, but for a
/// root (an empty `target`): there is nothing else to execute.
pub(crate) fn of_host(path: &Path, target: &str, access: Access) -> Result<Tree, Error> {
    let failed = |errno| Error::host_path(path, errno);
    let source = Source::open(path, access)?;
    let mount = host::open_tree(Some(source.file.as_fd()), c"", Reach::One)
        .map_err(errno)
        .map_err(failed)?;
    let mut attributes = CONFINED;
    if access == Access::ReadOnly {
        attributes |= attribute::READ_ONLY;
    }
    if source.flags.contains(FsFlags::ST_NOEXEC) && !target.is_empty() {
        attributes |= attribute::NO_EXEC;
    }
    host::set_mount_attributes(
        mount.as_fd(),
        attributes,
        HOSTS_ALONE & !attributes,
        None,
        Reach::One,
    )
    .map_err(errno)
    .map_err(failed)?;
    let access = match (access, source.is_directory) {
        (Access::ReadWrite, true) => landlock::WRITE_TREE,
        (Access::ReadWrite, false) => landlock::WRITE_FILE,
        (Access::ReadOnly, true) => landlock::READ_TREE,
        (Access::ReadOnly, false) => landlock::READ_FILE,
    };
    Ok(Tree {
        mount,
        target: target.to_owned(),
        file_system: "",
        attributes,
        access,
    })
}
