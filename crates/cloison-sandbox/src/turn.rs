//! Turns that callers take on a directory.

use std::fs::{File, TryLockError};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::spawner::io_errno;

/// Between two looks whether it is our turn.
const PAUSE: Duration = Duration::from_millis(1);

/// Waits for `limit` at most until nobody else has a turn on the directory.
/// Closing what it gives ends the turn.
///
/// # Errors
/// openat(2), flock(2); `EWOULDBLOCK` where another keeps it.
pub(crate) fn take(directory: impl AsFd, limit: Duration) -> Result<File, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let turn = File::from(openat(directory, c".", flags, Mode::empty())?);
    let begun = Instant::now();
    loop {
        let errno = match turn.try_lock() {
            Ok(()) => return Ok(turn),
            Err(TryLockError::WouldBlock) => Errno::EWOULDBLOCK,
            Err(TryLockError::Error(error)) => io_errno(&error),
        };
        if !matches!(errno, Errno::EWOULDBLOCK | Errno::EINTR) || begun.elapsed() >= limit {
            return Err(errno);
        }
        std::thread::sleep(PAUSE);
    }
}
