//! Removing a tree.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{RenameFlags, renameat2};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{Error, failed};
use crate::beneath;
use crate::escaped::EscapedName;

/// The most things left behind that are named.
const NAMED_MAX: usize = 32;

/// How a directory is called that was moved up to be emptied: a name and a number.
const MOVED: &str = ".cloison-removed-";

/// Something that could not be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its name in its directory, which may have been moved up.
    pub name: EscapedName,
    /// What the kernel said: `EBUSY` and `EXDEV` for a mount, `EPERM` for what is
    /// immutable, `EROFS`.
    pub errno: Errno,
}

/// How far a removal came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Removed {
    /// The names that were removed.
    pub entries: u64,
    /// What was left, the first 32 of it.
    pub left: Vec<Left>,
    /// How much was left, named here or not; at least that much where time ran out.
    pub left_behind: u64,
    /// Time ran out.
    pub is_out_of_time: bool,
}

impl Removed {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.left_behind == 0 && !self.is_out_of_time
    }
}

/// Removes the directory `name` in `parent` and all that is beneath it, for at most
/// `patience`.
///
/// Directories are moved up to the top as they are met, and emptied there: no depth
/// is too deep, and three descriptors are enough.
///
/// # Errors
/// [`Error::Name`], [`Error::Call`] if it is no directory on the mount of `parent`.
/// What is beneath and cannot be removed is no error but told by [`Removed`].
pub fn remove(parent: BorrowedFd<'_>, name: &CStr, patience: Duration) -> Result<Removed, Error> {
    let bytes = name.to_bytes();
    if bytes.is_empty() || bytes.contains(&b'/') || bytes == b"." || bytes == b".." {
        return Err(Error::Name(EscapedName::new(bytes)));
    }
    let top = beneath::directory(parent, name).map_err(failed("opening", bytes))?;
    let mut removed = empty(top.as_fd(), patience)?;
    match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
        Ok(()) => removed.entries += 1,
        Err(errno) => removed.leave(name, errno),
    }
    Ok(removed)
}

/// Removes all that is beneath `top`, for at most `patience`.
///
/// # Errors
/// [`Error::Call`] if it cannot be listed.
pub fn empty(top: BorrowedFd<'_>, patience: Duration) -> Result<Removed, Error> {
    let mut removal = Removal {
        top,
        until: Instant::now() + patience,
        next: 0,
        removed: Removed::default(),
    };
    loop {
        let before = (removal.removed.entries, removal.next);
        removal.removed.left.clear();
        removal.removed.left_behind = 0;
        let found = removal.pass().map_err(failed("listing", b"."))?;
        let is_stuck = before == (removal.removed.entries, removal.next);
        if found == 0 || is_stuck || removal.removed.is_out_of_time {
            return Ok(removal.removed);
        }
    }
}

struct Removal<'a> {
    top: BorrowedFd<'a>,
    until: Instant,
    /// The number of the next name at the top.
    next: u64,
    removed: Removed,
}

impl Removed {
    fn leave(&mut self, name: &CStr, errno: Errno) {
        self.left_behind += 1;
        if self.left.len() < NAMED_MAX {
            self.left.push(Left {
                name: EscapedName::new(name.to_bytes()),
                errno,
            });
        }
    }
}

/// What became of a name.
enum Fate {
    /// It is gone, or has moved up.
    Away,
    /// It is a directory that holds something.
    Full,
    Stays(Errno),
}

impl Removal<'_> {
    /// Takes each thing at the top once; how many there were.
    fn pass(&mut self) -> Result<u64, Errno> {
        let mut found = 0;
        beneath::seek(self.top, 0)?;
        loop {
            let (names, _) = beneath::list(self.top)?;
            if names.is_empty() {
                return Ok(found);
            }
            for name in names {
                if self.is_late() {
                    return Ok(found + 1);
                }
                found += 1;
                match self.unlink(self.top, &name) {
                    Fate::Away => {}
                    Fate::Full => self.empty_directory(&name),
                    Fate::Stays(errno) => self.removed.leave(&name, errno),
                }
            }
        }
    }

    fn is_late(&mut self) -> bool {
        self.removed.is_out_of_time = Instant::now() >= self.until;
        self.removed.is_out_of_time
    }

    /// Removes what is not a directory, or is an empty one.
    fn unlink(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Fate {
        let gone = match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::EISDIR) => unlinkat(directory, name, UnlinkatFlags::RemoveDir),
            gone => gone,
        };
        match gone {
            Ok(()) => self.removed.entries += 1,
            Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => return Fate::Full,
            Err(errno) => return Fate::Stays(errno),
        }
        Fate::Away
    }

    /// Empties a directory at the top, one level of it, and removes it. The
    /// directories in it that hold something come to stand at the top.
    fn empty_directory(&mut self, name: &CStr) {
        let directory = match beneath::directory(self.top, name) {
            Ok(directory) => directory,
            // Gone or another thing by now: the next pass sees it.
            Err(Errno::ENOENT) => return,
            Err(errno) => return self.removed.leave(name, errno),
        };
        loop {
            let names = match beneath::list(directory.as_fd()) {
                Ok((names, _)) if names.is_empty() => break,
                Ok((names, _)) => names,
                Err(errno) => return self.removed.leave(name, errno),
            };
            for below in names {
                if self.is_late() {
                    return;
                }
                let fate = match self.unlink(directory.as_fd(), &below) {
                    Fate::Full => self.move_up(directory.as_fd(), &below),
                    fate => fate,
                };
                if let Fate::Stays(errno) = fate {
                    self.removed.leave(&below, errno);
                }
            }
        }
        match self.unlink(self.top, name) {
            Fate::Away => {}
            // By something that is told already, or that is new.
            Fate::Full => self.removed.leave(name, Errno::ENOTEMPTY),
            Fate::Stays(errno) => self.removed.leave(name, errno),
        }
    }

    fn move_up(&mut self, directory: BorrowedFd<'_>, name: &CStr) -> Fate {
        loop {
            let Ok(moved) = CString::new(format!("{MOVED}{}", self.next)) else {
                return Fate::Stays(Errno::EINVAL);
            };
            self.next += 1;
            let flags = RenameFlags::RENAME_NOREPLACE;
            match renameat2(directory, name, self.top, moved.as_c_str(), flags) {
                Ok(()) | Err(Errno::ENOENT) => return Fate::Away,
                // A name that somebody took: the next one.
                Err(Errno::EEXIST) if !self.is_late() => {}
                Err(errno) => {
                    // No step on: a pass in which all fails is the last.
                    self.next -= 1;
                    return Fate::Stays(errno);
                }
            }
        }
    }
}
