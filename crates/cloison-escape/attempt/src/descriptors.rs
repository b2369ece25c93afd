//! A12: a descriptor of the host that was left open.

use std::fs::{File, OpenOptions};
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::arguments::{Arguments, c_string};
use crate::files;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, name, nr};

/// The scan goes well beyond the usual limit of 1024, since a limit that is
/// lowered closes nothing.
const DESCRIPTORS_MAX: i32 = 65_536;
const F_GETFD: usize = 1;

/// Looks for `token` in the file `canary` (its path on the host) through
/// every descriptor that is open.
pub(crate) fn a12(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let token = arguments.text("token")?.to_owned();
    let canary = PathBuf::from(arguments.text("canary")?);
    let open = open_descriptors();
    println!("open descriptors: {open:?}");
    let climbing = climbing_path(&canary);
    let last = PathBuf::from(canary.file_name().unwrap_or_default());

    report.way("path", || files::read_token(&canary, &token));
    report.way("working-directory", || files::read_token(&climbing, &token));
    report.way("openat-climbing", || {
        over_all(&open, "openat", |fd| read_at(fd, &climbing, &token))
    });
    report.way("openat-below", || {
        over_all(&open, "openat", |fd| read_at(fd, &last, &token))
    });
    report.way("fchdir", || {
        over_all(&open, "fchdir", |fd| {
            fchdir(fd)?;
            token_in(
                &File::open(&climbing).map_err(|error| Errno::of(&error))?,
                &token,
            )
        })
    });
    report.way("read", || {
        over_all(&open, "read", |fd| read_itself(fd, &token))
    });
    report.way("reopen", || {
        over_all(&open, "open", |fd| reopen(fd, &token))
    });
    Ok(())
}

/// Every descriptor of this process, by asking for each number in turn: a
/// listing in /proc could be missing or masked.
pub(crate) fn open_descriptors() -> Vec<i32> {
    (0..DESCRIPTORS_MAX)
        .filter(|fd| {
            // SAFETY: F_GETFD takes no pointer and changes nothing.
            unsafe { sys::call(nr::FCNTL, [int(*fd), F_GETFD]) }.is_ok()
        })
        .collect()
}

/// `path` from a directory of unknown depth: up to its root, then down.
fn climbing_path(path: &Path) -> PathBuf {
    let mut climbing = PathBuf::from("../".repeat(40));
    climbing.push(path.strip_prefix("/").unwrap_or(path));
    climbing
}

/// Tries one thing on each descriptor; the first that succeeds is enough.
fn over_all(open: &[i32], call: &str, attempt: impl Fn(i32) -> Result<String, Errno>) -> Verdict {
    let mut refusals = Vec::new();
    for fd in open {
        match attempt(*fd) {
            Ok(secret) => return Verdict::Through(format!("descriptor {fd} leads to {secret}")),
            Err(errno) => refusals.push(format!("{fd}: {errno}")),
        }
    }
    Verdict::Stopped(format!("{call} {}", refusals.join(", ")))
}

fn openat(fd: i32, path: &Path) -> Answer {
    const O_RDONLY: usize = 0;
    let path = c_string(&path.to_string_lossy());
    // SAFETY: openat reads a path, which is a C string.
    unsafe { sys::call(nr::OPENAT, [int(fd), name(&path), O_RDONLY]) }
}

fn read_at(fd: i32, path: &Path, token: &str) -> Result<String, Errno> {
    let opened = openat(fd, path)?;
    let opened = i32::try_from(opened).map_err(|_| sys::EBADF)?;
    // SAFETY: openat has just made this descriptor, and nobody else owns it.
    let file = unsafe { File::from_raw_fd(opened) };
    token_in(&file, token)
}

fn fchdir(fd: i32) -> Answer {
    // SAFETY: fchdir takes no pointer; each way is a process of its own.
    unsafe { sys::call(nr::FCHDIR, [int(fd)]) }
}

/// The descriptor itself may be the file. It is read at an offset, so that
/// a pipe or a terminal answers with an error and loses nothing.
fn read_itself(fd: i32, token: &str) -> Result<String, Errno> {
    // SAFETY: the descriptor was found open; `ManuallyDrop` leaves it so.
    let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    token_in(&file, token)
}

fn token_in(file: &File, token: &str) -> Result<String, Errno> {
    let mut bytes = [0_u8; 4096];
    let count = file
        .read_at(&mut bytes, 0)
        .map_err(|error| Errno::of(&error))?;
    files::secret(bytes.get(..count).unwrap_or_default(), token).ok_or(sys::ENOENT)
}

/// Opens what a descriptor stands for once more, through /proc.
fn reopen(fd: i32, token: &str) -> Result<String, Errno> {
    let path = PathBuf::from(format!("/proc/self/fd/{fd}"));
    let error_number = |error: std::io::Error| Errno::of(&error);
    let kind = std::fs::metadata(&path).map_err(error_number)?.file_type();
    // Opening a pipe or a terminal could wait, or take the terminal over.
    if kind.is_fifo() || kind.is_char_device() || kind.is_socket() {
        return Err(Errno(20));
    }
    let file = OpenOptions::new()
        .read(true)
        .open(&path)
        .map_err(error_number)?;
    token_in(&file, token)
}
