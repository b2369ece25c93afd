//! Opening what stands beneath a descriptor, and nothing else.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};

/// The bytes of names that are read at once.
const LISTING_BYTES: usize = 8192;

/// Opens `path` beneath `directory`: no link is followed, also at its end, no
/// mount crossed, nothing above reached.
///
/// # Source
/// openat2(2)
fn open(
    directory: BorrowedFd<'_>,
    path: &CStr,
    flags: OFlag,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .mode(mode)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_MAGICLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    loop {
        match openat2(directory, path, how) {
            // Something was renamed meanwhile, and the kernel could not tell
            // whether that led outside.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            opened => return opened,
        }
    }
}

/// Names it and nothing else: no FIFO waits, no device notices.
pub(crate) fn named(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    open(directory, path, OFlag::O_PATH, Mode::empty())
}

/// Opens a directory, to list and change it.
pub(crate) fn directory(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK;
    open(directory, path, flags, Mode::empty())
}

/// Opens a regular file for reading. Only in a tree that nobody else changes: what
/// is swapped for a device between look and use would be opened.
pub(crate) fn regular(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let before = status(&named(directory, name)?)?;
    if kind(&before) != SFlag::S_IFREG {
        return Err(Errno::ESTALE);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = open(directory, name, flags, Mode::empty())?;
    let opened = status(&file)?;
    if identity(&opened) != identity(&before) {
        return Err(Errno::ESTALE);
    }
    Ok(file)
}

/// Makes a regular file that only its owner reads, where there is nothing.
pub(crate) fn new_file(directory: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    open(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
}

/// What an open file is.
pub(crate) fn status(file: &impl AsFd) -> Result<FileStat, Errno> {
    fstatat(file, c"", AtFlags::AT_EMPTY_PATH)
}

/// What stands there, no link followed.
pub(crate) fn status_of(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileStat, Errno> {
    fstatat(
        directory,
        name,
        AtFlags::AT_SYMLINK_NOFOLLOW | AtFlags::AT_NO_AUTOMOUNT,
    )
}

/// The type of file, without its mode.
pub(crate) fn kind(status: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT
}

/// The mode, without the type of file.
pub(crate) fn mode(status: &FileStat) -> Mode {
    Mode::from_bits_truncate(status.st_mode)
}

/// Which inode it is, on which file system.
pub(crate) fn identity(status: &FileStat) -> (u64, u64) {
    (status.st_dev, status.st_ino)
}

/// An error of the other library of calls.
pub(crate) fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// The next names in a directory, from where it was last read: none at its end.
/// With them, where to go on in it.
pub(crate) fn list(directory: BorrowedFd<'_>) -> Result<(Vec<CString>, Option<u64>), Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); LISTING_BYTES];
    let mut names = Vec::new();
    let mut cookie = None;
    loop {
        let mut listing = rustix::fs::RawDir::new(directory, &mut buffer);
        while let Some(entry) = listing.next() {
            let entry = entry.map_err(errno)?;
            cookie = Some(entry.next_entry_cookie());
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
            if listing.is_buffer_empty() {
                break;
            }
        }
        // The first bytes may hold `.` and `..` alone.
        if !names.is_empty() || cookie.is_none() {
            return Ok((names, cookie));
        }
        cookie = None;
    }
}

/// Goes back to the start of a directory, or on from a place in it.
pub(crate) fn seek(directory: BorrowedFd<'_>, cookie: u64) -> Result<(), Errno> {
    let place = rustix::fs::SeekFrom::Start(cookie);
    rustix::fs::seek(directory, place).map(drop).map_err(errno)
}

/// Whether a directory holds anything.
pub(crate) fn is_empty(directory: BorrowedFd<'_>) -> Result<bool, Errno> {
    seek(directory, 0)?;
    let (names, _) = list(directory)?;
    seek(directory, 0)?;
    Ok(names.is_empty())
}
