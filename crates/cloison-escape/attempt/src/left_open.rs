//! D03, D09 and D10: what was handed in or left open. The streams are pipes;
//! everything else should not be there.

use std::fs::{File, OpenOptions};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};

use crate::arguments::Arguments;
use crate::descriptors::open_descriptors;
use crate::files;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const READ: usize = 0;
const WRITE: usize = 1;
const FTRUNCATE: usize = 77;
const FALLOCATE: usize = 285;
const EPOLL_WAIT: usize = 232;
const PIECE_BYTES: usize = 256;

/// Opens the pipes that it writes to for reading.
pub(crate) fn d03(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for (name, fd) in [("stdout", 1), ("stderr", 2)] {
        report.way(&format!("{name}-for-read"), || {
            reopened(fd, OpenOptions::new().read(true))
        });
        report.way(&format!("{name}-for-both"), || {
            reopened(fd, OpenOptions::new().read(true).write(true))
        });
    }
    Ok(())
}

fn reopened(fd: i32, options: &OpenOptions) -> Verdict {
    let path = format!("/proc/self/fd/{fd}");
    match std::fs::metadata(&path) {
        Ok(found) if !found.file_type().is_fifo() => {
            return Verdict::Untried(format!("descriptor {fd} is no pipe"));
        }
        Ok(_) | Err(_) => {}
    }
    match options.open(&path) {
        Ok(end) => {
            // It is looked at from outside, until this process ends.
            std::mem::forget(end);
            Verdict::Through(format!("descriptor {fd} can be read"))
        }
        Err(error) => Verdict::refused("open", &error),
    }
}

/// Tries one thing on each descriptor; the first that succeeds is enough.
fn over_all(call: &str, attempt: impl Fn(i32) -> Result<String, Errno>) -> Verdict {
    let mut refusals = Vec::new();
    for fd in open_descriptors() {
        match attempt(fd) {
            Ok(evidence) => return Verdict::Through(format!("descriptor {fd}: {evidence}")),
            Err(errno) => refusals.push(format!("{fd}: {errno}")),
        }
    }
    Verdict::Stopped(format!("{call} {}", refusals.join(", ")))
}

/// Takes away or changes what stands in a log that was handed in, and reads
/// it: it begins with `token`.
pub(crate) fn d10(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let token = arguments.text("token")?;
    report.way("ftruncate", || {
        over_all("ftruncate", |fd| {
            // SAFETY: takes no pointer.
            unsafe { sys::call(FTRUNCATE, [int(fd), 0]) }.map(|_| "emptied".to_owned())
        })
    });
    report.way("overwrite", || {
        over_all("pwrite", |fd| {
            set_flags(fd, 0)?;
            // SAFETY: the descriptor was found open, and stays so.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
            let written = file.write_at(b"overwritten", 0);
            written
                .map(|_| "overwritten".to_owned())
                .map_err(|error| Errno::of(&error))
        })
    });
    report.way("punch-hole", || {
        const KEEP_SIZE_PUNCH_HOLE: usize = 1 | 2;
        over_all("fallocate", |fd| {
            // SAFETY: takes no pointer.
            unsafe { sys::call(FALLOCATE, [int(fd), KEEP_SIZE_PUNCH_HOLE, 0, 4096]) }
                .map(|_| "zeros".to_owned())
        })
    });
    report.way("reopen-for-write", || {
        over_all("open", |fd| {
            let file = reopen(fd, OpenOptions::new().write(true))?;
            let written = file.write_at(b"overwritten", 0);
            written
                .map(|_| "overwritten".to_owned())
                .map_err(|error| Errno::of(&error))
        })
    });
    report.way("reopen-for-read", || {
        over_all("open", |fd| {
            let file = reopen(fd, OpenOptions::new().read(true))?;
            secret_in(&file, token)
        })
    });
    Ok(())
}

fn set_flags(fd: i32, flags: usize) -> Answer {
    const F_SETFL: usize = 4;
    // SAFETY: takes no pointer.
    unsafe { sys::call(nr::FCNTL, [int(fd), F_SETFL, flags]) }
}

/// Opens a file once more; a pipe is no log that could be changed.
fn reopen(fd: i32, options: &OpenOptions) -> Result<File, Errno> {
    let path = format!("/proc/self/fd/{fd}");
    let error_number = |error: std::io::Error| Errno::of(&error);
    let found = std::fs::metadata(&path).map_err(error_number)?;
    if found.file_type().is_fifo() {
        return Err(Errno(29));
    }
    options.open(&path).map_err(error_number)
}

fn secret_in(file: &File, token: &str) -> Result<String, Errno> {
    let mut bytes = [0; PIECE_BYTES];
    let count = file
        .read_at(&mut bytes, 0)
        .map_err(|error| Errno::of(&error))?;
    files::secret(bytes.get(..count).unwrap_or_default(), token).ok_or(sys::ENOENT)
}

/// Uses what stands for other things than files: memory that holds `token`,
/// a counter, a set of waits, a queue of events.
pub(crate) fn d09(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let token = arguments.text("token")?;
    report.way("memory-file", || {
        over_all("pread", |fd| {
            if kind_of(fd).is_none_or(|kind| !kind.starts_with("/memfd:")) {
                return Err(Errno(22));
            }
            // SAFETY: the descriptor was found open, and stays so.
            let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
            secret_in(&file, token)
        })
    });
    report.way("counter", || {
        over_all("write", |fd| {
            if kind_of(fd).is_none_or(|kind| kind != "anon_inode:[eventfd]") {
                return Err(Errno(22));
            }
            let one = 1_u64;
            let at = (&raw const one).expose_provenance();
            // SAFETY: the call reads eight bytes, which are on this frame.
            unsafe { sys::call(WRITE, [int(fd), at, 8]) }.map(|_| "counted".to_owned())
        })
    });
    report.way("set-of-waits", || {
        over_all("epoll_wait", |fd| {
            let mut event = [0_u8; 12];
            let at = event.as_mut_ptr().expose_provenance();
            // SAFETY: the call writes one event of twelve bytes.
            let count = unsafe { sys::call(EPOLL_WAIT, [int(fd), at, 1, 0]) }?;
            let data = event.get(4..).and_then(|data| data.try_into().ok());
            match (count, data) {
                (1, Some(data)) => Ok(format!("it waits for {}", u64::from_ne_bytes(data))),
                _ => Err(Errno(11)),
            }
        })
    });
    report.way("queue-of-events", || {
        over_all("read", |fd| {
            if kind_of(fd).is_none_or(|kind| kind != "anon_inode:inotify") {
                return Err(Errno(22));
            }
            let mut bytes = [0_u8; 1024];
            let at = bytes.as_mut_ptr().expose_provenance();
            // SAFETY: the call writes at most as many bytes as there are.
            let count = unsafe { sys::call(READ, [int(fd), at, bytes.len()]) }?;
            files::secret(bytes.get(..count).unwrap_or_default(), token).ok_or(sys::ENOENT)
        })
    });
    Ok(())
}

/// What a descriptor leads to, as /proc names it.
fn kind_of(fd: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}
