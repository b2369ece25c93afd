//! Paths in a tree that a tenant can change, at any time.

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{SFlag, fstatat};

use crate::error::Found;

/// A path that a tenant's tree is said to have.
///
/// Holding one tells you nothing: the tree may have anything there, and another
/// thing a moment later. It is opened beneath a descriptor of the tree or not at
/// all, and what was opened stays what it is. The paths of a spec that are the
/// operator's own are plain [`std::path::Path`]s, and links in them are followed.
///
/// # Source
/// openat2(2)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TenantPath<'a>(pub(crate) &'a str);

/// What may be done with what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It is named, and nothing else: no FIFO waits, no device notices.
    Named,
    /// It is a directory that is listed or changed.
    Directory,
}

impl TenantPath<'_> {
    /// Opens it beneath `tree`: no link is followed, no mount crossed, nothing
    /// above reached.
    pub(crate) fn open(self, tree: BorrowedFd<'_>, opened: Opened) -> Result<OwnedFd, Errno> {
        let flags = match opened {
            Opened::Named => OFlag::O_PATH,
            Opened::Directory => OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK,
        };
        let how = OpenHow::new()
            .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_MAGICLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        openat2(tree, self.0, how)
    }

    /// What stands there now.
    pub(crate) fn look(self, tree: BorrowedFd<'_>) -> Found {
        let status = self
            .open(tree, Opened::Named)
            .and_then(|named| fstatat(&named, c"", AtFlags::AT_EMPTY_PATH));
        match status.map(|status| SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT) {
            Ok(SFlag::S_IFDIR) => Found::Directory,
            Ok(SFlag::S_IFREG) => Found::File,
            Ok(SFlag::S_IFLNK) | Err(Errno::ELOOP) => Found::Link,
            Ok(_) => Found::Special,
            Err(Errno::ENOENT) => Found::Nothing,
            Err(Errno::ENOTDIR) => Found::NoDirectoryAbove,
            Err(errno) => Found::Refused(errno),
        }
    }
}
