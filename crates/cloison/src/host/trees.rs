//! The trees of a tenant: what his servers have as their roots.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cloison_storage::copy::{self, Copied, DiskIds};
use cloison_storage::tree;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::syncfs;
use serde::Serialize;

use super::Host;
use super::storage::{make_beneath, open_beneath};
use crate::error::{Error, at};
use crate::names::{ServerId, TenantName, TreeName};
use crate::settings::ServerRoot;

/// Where they are in a tenant's storage.
pub(crate) const TREES: &str = "trees";
/// How long the removal of one may take. What is left then is told.
const PATIENCE: Duration = Duration::from_secs(600);

/// A tree of a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TreeStatus {
    /// Which.
    pub name: TreeName,
    /// The bytes that it occupies on disk.
    pub bytes: u64,
    /// Its files and directories.
    pub inodes: u64,
    /// The servers that have it as their root.
    pub servers: Vec<ServerId>,
}

impl Host {
    /// Copies a base of the provider's into a new tree of a tenant's, each file
    /// an inode of its own, the ids shifted to those that the tenant's files
    /// carry. The tree is there when it is whole and on the disk, and not before;
    /// what an earlier copy left that ended halfway is replaced.
    ///
    /// The base is the host root's and nobody changes it meanwhile: its files are
    /// opened by their names.
    ///
    /// # Errors
    /// Nothing is there then that was not before. [`Error::BaseNotOurs`],
    /// [`Error::TreeThere`], [`Error::TreeBusy`]; [`Error::Copy`]: something in
    /// the base cannot be copied, or not in this way; [`Error::NoTenant`],
    /// [`Error::NotPresent`], [`Error::Path`].
    pub fn add_tree(
        &self,
        tenant: &TenantName,
        name: &TreeName,
        base: &Path,
        options: &copy::Options,
    ) -> Result<Copied, Error> {
        let from = base_of_ours(base)?;
        let block = self.tenant(tenant)?.block;
        let root = self.open_storage(tenant)?;
        let path = self.storage_path(tenant).join(TREES);
        let failed = |doing: &'static str| {
            let path = path.join(name.as_str());
            move |errno: Errno| at(doing, path)(errno.into())
        };
        make_beneath(
            root.try_clone().map_err(at("opening", &path))?,
            TREES,
            block,
        )
        .map_err(failed("making"))?;
        let trees = open_beneath(&root, TREES).map_err(failed("opening"))?;
        // No tree is called so.
        let part = format!(".{name}");
        match mkdirat(&trees, part.as_str(), Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed("making")(errno)),
        }
        let into = open_beneath(&trees, &part).map_err(failed("opening"))?;
        let into = match Flock::lock(into, FlockArg::LockExclusiveNonblock) {
            Ok(into) => into,
            Err((_, Errno::EWOULDBLOCK)) => return Err(Error::TreeBusy(path.join(name.as_str()))),
            Err((_, errno)) => return Err(failed("locking")(errno)),
        };
        let copied = self.fill(&trees, &into, &from, name, block.disk().first(), options);
        if copied.is_err() {
            // Whoever adds it next replaces what stays.
            let part = CString::new(part).unwrap_or_default();
            match tree::remove(trees.as_fd(), &part, PATIENCE) {
                Ok(_) | Err(_) => {}
            }
        }
        copied
    }

    fn fill(
        &self,
        trees: &OwnedFd,
        into: &OwnedFd,
        from: &OwnedFd,
        name: &TreeName,
        first: u32,
        options: &copy::Options,
    ) -> Result<Copied, Error> {
        let failed = |doing: &'static str| {
            let path = Path::new(TREES).join(name.as_str());
            move |errno: Errno| at(doing, path)(errno.into())
        };
        let there = || Error::TreeThere(name.clone());
        match open_beneath(trees, name.as_str()) {
            Err(Errno::ENOENT) => {}
            Ok(_) => return Err(there()),
            Err(errno) => return Err(failed("looking at")(errno)),
        }
        let emptied = tree::empty(into.as_fd(), PATIENCE).map_err(Error::Tree)?;
        if !emptied.is_whole() {
            return Err(Error::TreeLeft {
                tree: name.clone(),
                left: emptied.left_behind,
            });
        }
        let ids = DiskIds::from_first(first).ok_or(Error::NoDiskIds(first))?;
        let copied = copy::copy(from.as_fd(), into.as_fd(), ids, options).map_err(Error::Copy)?;
        syncfs(into).map_err(failed("writing"))?;
        let part = format!(".{name}");
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(trees, part.as_str(), trees, name.as_str(), flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(there()),
            Err(errno) => return Err(failed("naming")(errno)),
        }
        nix::unistd::fsync(trees).map_err(failed("writing"))?;
        Ok(copied)
    }

    /// The trees of a tenant, by name, and how much each takes.
    ///
    /// # Errors
    /// [`Error::Tree`], [`Error::NoTenant`], [`Error::NotPresent`],
    /// [`Error::Path`].
    pub fn trees(&self, tenant: &TenantName) -> Result<Vec<TreeStatus>, Error> {
        let servers = self.tenant(tenant)?.servers;
        let root = self.open_storage(tenant)?;
        let path = self.storage_path(tenant).join(TREES);
        let failed = |errno: Errno| at("listing", path.clone())(errno.into());
        let trees = match open_beneath(&root, TREES) {
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            trees => trees.map_err(failed)?,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut listed = Dir::openat(&trees, c".", flags, Mode::empty()).map_err(failed)?;
        let mut all = Vec::new();
        for entry in listed.iter() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(name) = TreeName::new(name) else {
                continue;
            };
            let directory = open_beneath(&trees, name.as_str()).map_err(failed)?;
            let usage = tree::usage(directory.as_fd()).map_err(Error::Tree)?;
            let users = servers.iter().filter(|(_, server)| {
                matches!(&server.settings.root, ServerRoot::Tree { name: theirs, .. } if *theirs == name)
            });
            all.push(TreeStatus {
                bytes: usage.bytes,
                inodes: usage.inodes,
                servers: users
                    .map(|(_, server)| server.settings.id.clone())
                    .collect(),
                name,
            });
        }
        all.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// Removes a tree that no server is defined with.
    ///
    /// # Errors
    /// [`Error::TreeInUse`], [`Error::NoTree`]; [`Error::TreeLeft`]: something in
    /// it cannot be removed; [`Error::Tree`]; [`Error::NoTenant`],
    /// [`Error::NotPresent`], [`Error::Path`].
    pub fn remove_tree(&self, tenant: &TenantName, name: &TreeName) -> Result<(), Error> {
        let found = self.trees(tenant)?.into_iter();
        let mut found = found.filter(|tree| tree.name == *name);
        let status = found.next().ok_or_else(|| Error::NoTree(name.clone()))?;
        if !status.servers.is_empty() {
            return Err(Error::TreeInUse {
                tree: name.clone(),
                servers: status.servers,
            });
        }
        let root = self.open_storage(tenant)?;
        let path = self.storage_path(tenant).join(TREES);
        let failed = |errno: Errno| at("removing", path.join(name.as_str()))(errno.into());
        let trees = open_beneath(&root, TREES).map_err(failed)?;
        // From here on it is what a copy that ended halfway leaves.
        let part = format!(".{name}");
        let part = CString::new(part).map_err(|_| failed(Errno::EINVAL))?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&trees, name.as_str(), &trees, part.as_c_str(), flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(Error::TreeBusy(path.join(name.as_str()))),
            Err(errno) => return Err(failed(errno)),
        }
        let removed = tree::remove(trees.as_fd(), &part, PATIENCE).map_err(Error::Tree)?;
        if removed.is_whole() {
            Ok(())
        } else {
            Err(Error::TreeLeft {
                tree: name.clone(),
                left: removed.left_behind,
            })
        }
    }
}

/// Opens a base, which must be the host root's alone to change.
fn base_of_ours(path: &Path) -> Result<OwnedFd, Error> {
    let failed = |errno: Errno| at("opening", path)(errno.into());
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let base = open(path, flags, Mode::empty()).map_err(failed)?;
    let found = fstat(&base).map_err(failed)?;
    if found.st_uid != 0 || found.st_mode & 0o022 != 0 {
        return Err(Error::BaseNotOurs(path.to_owned()));
    }
    Ok(base)
}
