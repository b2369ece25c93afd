//! One walk over a tree of any depth, with few descriptors.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::{Error, failed};
use crate::beneath;

/// How many directories on the way down stay open.
const OPEN_MAX: usize = 32;

/// What was found.
pub(super) struct Seen<'a> {
    /// Its name in its directory; empty for the top.
    pub(super) name: &'a CStr,
    /// It, named and not opened.
    pub(super) file: &'a OwnedFd,
    pub(super) status: FileStat,
}

/// A directory on the way down.
struct Level {
    /// `None`: closed, to be found again above the one below.
    directory: Option<OwnedFd>,
    identity: (u64, u64),
    /// Where its listing goes on.
    cookie: u64,
    /// Directories in it that were seen and not yet entered.
    pending: Vec<CString>,
}

impl Level {
    fn new(directory: OwnedFd) -> Result<Self, Errno> {
        Ok(Self {
            identity: beneath::identity(&beneath::status(&directory)?),
            directory: Some(directory),
            cookie: 0,
            pending: Vec::new(),
        })
    }
}

/// Visits `top` and everything beneath it, in no order, until `visit` breaks.
/// What stands on another mount is passed over; how many of those there were.
pub(super) fn walk<B>(
    top: impl AsFd,
    mut visit: impl FnMut(&Seen<'_>) -> ControlFlow<B>,
) -> Result<ControlFlow<B, u64>, Error> {
    let opened = beneath::directory(top.as_fd(), c".").map_err(failed("opening", b"."))?;
    let seen = Seen {
        name: c"",
        status: beneath::status(&opened).map_err(failed("looking at", b"."))?,
        file: &opened,
    };
    if let ControlFlow::Break(found) = visit(&seen) {
        return Ok(ControlFlow::Break(found));
    }
    let mut mounts = 0;
    let mut levels = vec![Level::new(opened).map_err(failed("looking at", b"."))?];
    while let Some(level) = levels.last_mut() {
        let directory = level.directory.as_ref().ok_or(Error::Changed)?;
        if let Some(name) = level.pending.pop() {
            match beneath::directory(directory.as_fd(), &name).and_then(Level::new) {
                Ok(below) => descend(&mut levels, below),
                // Gone, or another thing by now.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EXDEV) => {}
                Err(errno) => return Err(failed("opening", name.to_bytes())(errno)),
            }
            continue;
        }
        let (names, cookie) = beneath::list(directory.as_fd()).map_err(failed("listing", b""))?;
        if names.is_empty() {
            ascend(&mut levels)?;
            continue;
        }
        level.cookie = cookie.unwrap_or(level.cookie);
        for name in names {
            let Some((file, status)) = look(directory, &name, &mut mounts)? else {
                continue;
            };
            let is_directory = beneath::kind(&status) == SFlag::S_IFDIR;
            let seen = Seen {
                name: &name,
                file: &file,
                status,
            };
            if let ControlFlow::Break(found) = visit(&seen) {
                return Ok(ControlFlow::Break(found));
            }
            if is_directory {
                level.pending.push(name);
            }
        }
    }
    Ok(ControlFlow::Continue(mounts))
}

/// `None`: it is gone, or stands on another mount.
fn look(
    directory: &OwnedFd,
    name: &CStr,
    mounts: &mut u64,
) -> Result<Option<(OwnedFd, FileStat)>, Error> {
    let file = match beneath::named(directory.as_fd(), name) {
        Ok(file) => file,
        // A symbolic link is named too: ELOOP does not come.
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::EXDEV) => {
            *mounts += 1;
            return Ok(None);
        }
        Err(errno) => return Err(failed("looking at", name.to_bytes())(errno)),
    };
    let status = beneath::status(&file).map_err(failed("looking at", name.to_bytes()))?;
    Ok(Some((file, status)))
}

fn descend(levels: &mut Vec<Level>, below: Level) {
    levels.push(below);
    if let Some(above) = levels.len().checked_sub(OPEN_MAX + 1)
        && let Some(level) = levels.get_mut(above)
    {
        level.directory = None;
    }
}

/// Back to the directory above: found again if it was closed, and it must be the
/// one that it was.
fn ascend(levels: &mut Vec<Level>) -> Result<(), Error> {
    let Some(Level {
        directory: Some(below),
        ..
    }) = levels.pop()
    else {
        return Err(Error::Changed);
    };
    let Some(level) = levels.last_mut() else {
        return Ok(());
    };
    if level.directory.is_some() {
        return Ok(());
    }
    // A directory is opened, whichever it is, and not used unless it is ours.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let above = openat(&below, c"..", flags, Mode::empty()).map_err(failed("opening", b".."))?;
    let status = beneath::status(&above).map_err(failed("looking at", b".."))?;
    if beneath::identity(&status) != level.identity {
        return Err(Error::Changed);
    }
    beneath::seek(above.as_fd(), level.cookie).map_err(failed("listing", b".."))?;
    level.directory = Some(above);
    Ok(())
}
