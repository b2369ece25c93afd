//! The tenants' storage: one directory a tenant, each its tenant's own, beneath
//! one that is `nosuid,nodev,noexec` on the host.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloison_linux::host::{Reach, attribute, move_mount, open_tree, set_mount_attributes};
use cloison_sandbox::{OwnAccess, OwnRoot, Root, Spec};
use cloison_storage::tree;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, fchmod, fstat, fstatat, mkdirat};
use nix::sys::statvfs::{FsFlags, fstatvfs};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, fsync, unlinkat};

use super::registry::Tenant;
use crate::error::{Error, at};
use crate::holders::Holder;
use crate::ids::Block;
use crate::names::TenantName;
use crate::state::{Exclusive, StateDirectory};

/// Where it is in a host's state.
const STORAGE: &str = "storage";
/// How long the removal of a tenant's files may take at a time; the next one goes
/// on.
const PURGE_PATIENCE: Duration = Duration::from_secs(3600);

/// The directory that holds every tenant's storage.
#[derive(Debug)]
pub(super) struct Storage(StateDirectory);

impl Storage {
    /// Opens it, made if it is missing, and mounted on itself with the flags
    /// that it has to have, if it has not: under the lock that `lock` takes.
    pub(super) fn open(
        state: &StateDirectory,
        lock: impl FnOnce() -> Result<Exclusive, Error>,
    ) -> Result<Self, Error> {
        if let Some(found) = Self::harmless(state)? {
            return Ok(found);
        }
        // Two would mount it twice.
        let _exclusive = lock()?;
        if let Some(found) = Self::harmless(state)? {
            return Ok(found);
        }
        let refused = |errno: Errno| Error::StorageMount {
            path: state.path().join(STORAGE),
            source: errno.into(),
        };
        mount_on_itself(state).map_err(refused)?;
        Self::harmless(state)?.ok_or_else(|| refused(Errno::EINVAL))
    }

    /// It, if it has the flags.
    fn harmless(state: &StateDirectory) -> Result<Option<Self>, Error> {
        let wanted = FsFlags::ST_NOSUID | FsFlags::ST_NODEV | FsFlags::ST_NOEXEC;
        let found = state.below(STORAGE)?;
        let about = fstatvfs(found.directory())
            .map_err(|errno| at("looking at", found.path())(errno.into()))?;
        let is_harmless = about.flags().contains(wanted);
        Ok(is_harmless.then_some(Self(found)))
    }

    pub(super) fn path_of(&self, name: &TenantName) -> PathBuf {
        self.0.path().join(name.as_str())
    }

    /// Makes a tenant's root: his disk's, 0700, and on the disk when this
    /// returns.
    pub(super) fn make(&self, name: &TenantName, block: Block) -> Result<(), Error> {
        let made = mkdirat(self.0.directory(), name.as_str(), Mode::S_IRWXU)
            .and_then(|()| self.beneath(name.as_str()))
            .and_then(|root| {
                let disk = block.disk().first();
                fchown(&root, Some(Uid::from_raw(disk)), Some(Gid::from_raw(disk)))?;
                // Whatever the umask was.
                fchmod(&root, Mode::S_IRWXU)?;
                fsync(&root)
            })
            .and_then(|()| fsync(self.0.directory()));
        made.map_err(|errno| at("making", self.path_of(name))(errno.into()))
    }

    /// Opens a tenant's root.
    pub(super) fn root(&self, name: &TenantName, block: Block) -> Result<OwnedFd, Error> {
        let path = self.path_of(name);
        let opened = self.beneath(name.as_str()).and_then(|root| {
            let found = fstat(&root)?;
            Ok((root, found))
        });
        let (root, found) = opened.map_err(|errno| at("opening", &path)(errno.into()))?;
        let disk = block.disk().first();
        let reason = if (found.st_uid, found.st_gid) != (disk, disk) {
            Some("it does not belong to the first id of its tenant")
        } else if found.st_mode & 0o7777 != 0o700 {
            Some("its mode is not 0700")
        } else {
            None
        };
        match reason {
            None => Ok(root),
            Some(reason) => Err(Error::UnsafeStorage { path, reason }),
        }
    }

    /// Makes the directory for what a server writes over its tree, if it keeps
    /// that on disk.
    pub(super) fn furnish(&self, tenant: &Tenant, spec: &Spec) -> Result<(), Error> {
        let Root::Own(OwnRoot {
            access: OwnAccess::DiskLayer { path },
            ..
        }) = &spec.root
        else {
            return Ok(());
        };
        let root = self.root(&tenant.name, tenant.block)?;
        let within = path
            .strip_prefix(self.path_of(&tenant.name))
            .unwrap_or(path);
        make_beneath(root, within, tenant.block).map_err(|errno| at("making", path)(errno.into()))
    }

    /// Whether there is anything of this name.
    pub(super) fn has(&self, name: &TenantName) -> Result<bool, Error> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        match fstatat(self.0.directory(), name.as_str(), flags) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(at("looking at", self.path_of(name))(errno.into())),
        }
    }

    /// Removes a root in which nothing can be yet.
    pub(super) fn unmake(&self, name: &TenantName) -> Result<(), Error> {
        let removed = unlinkat(self.0.directory(), name.as_str(), UnlinkatFlags::RemoveDir);
        let flushed = match removed {
            Ok(()) => fsync(self.0.directory()),
            Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(errno),
        };
        flushed.map_err(|errno| at("removing", self.path_of(name))(errno.into()))
    }

    /// Removes a root with all that is in it.
    pub(super) fn purge(&self, name: &TenantName) -> Result<(), Error> {
        let failed = |errno: Errno| at("removing", self.path_of(name))(errno.into());
        if !self.has(name)? {
            return Ok(());
        }
        let root = CString::new(name.as_str()).map_err(|_| failed(Errno::EINVAL))?;
        let removed = tree::remove(self.0.directory().as_fd(), &root, PURGE_PATIENCE);
        let removed = removed.map_err(|source| Error::Removal {
            path: self.path_of(name),
            source,
        })?;
        if !removed.is_whole() {
            let why = removed
                .left
                .first()
                .map_or(Errno::ETIMEDOUT, |left| left.errno);
            return Err(failed(why));
        }
        fsync(self.0.directory()).map_err(failed)
    }

    /// Whatever there is of this name.
    pub(super) fn found(&self, name: &TenantName) -> Result<Option<Holder>, Error> {
        Ok(self.has(name)?.then(|| Holder::File(self.path_of(name))))
    }

    fn beneath(&self, name: &str) -> Result<OwnedFd, Errno> {
        open_beneath(self.0.directory(), name)
    }
}

/// Makes each directory of `path` beneath `directory`, as the tenant's disk's
/// own, 0700; one that is there already stays as it is.
pub(super) fn make_beneath(
    mut directory: OwnedFd,
    path: impl AsRef<Path>,
    block: Block,
) -> Result<(), Errno> {
    for name in path.as_ref().iter().filter_map(|name| name.to_str()) {
        match mkdirat(&directory, name, Mode::S_IRWXU) {
            Ok(()) => {
                let made = open_beneath(&directory, name)?;
                let disk = block.disk().first();
                fchown(&made, Some(Uid::from_raw(disk)), Some(Gid::from_raw(disk)))?;
                fchmod(&made, Mode::S_IRWXU)?;
                fsync(&directory)?;
                directory = made;
            }
            Err(Errno::EEXIST) => directory = open_beneath(&directory, name)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// The copy has its flags before it is attached: nobody ever sees one without.
fn mount_on_itself(state: &StateDirectory) -> Result<(), Errno> {
    let name = CString::new(STORAGE).map_err(|_| Errno::EINVAL)?;
    let directory = Some(state.directory().as_fd());
    let flags = attribute::NO_SUID | attribute::NO_DEV | attribute::NO_EXEC;
    let attached = open_tree(directory, &name, Reach::Beneath).and_then(|copy| {
        set_mount_attributes(copy.as_fd(), flags, 0, None, Reach::Beneath)?;
        move_mount(copy.as_fd(), directory, &name)
    });
    attached.map_err(|errno| Errno::from_raw(errno.0))
}

/// A directory right beneath `parent`, no link and no other mount.
pub(super) fn open_beneath(parent: &OwnedFd, name: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let how = OpenHow::new().flags(flags).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(parent.as_fd(), name, how)
}
