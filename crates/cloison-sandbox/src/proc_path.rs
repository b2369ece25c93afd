//! A process's directory in `/proc`, opened so that it cannot be another's.

use std::os::fd::{BorrowedFd, OwnedFd};

use cloison_linux::host;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::spawner::errno;

/// Opens `/proc/PID` of the process of `pidfd`.
///
/// The number is looked up first and the process asked for after: if it
/// still exists then, the number was its own all the time.
///
/// # Errors
/// `ESRCH` when the process has ended; open(2).
pub(crate) fn open_directory(pid: i32, pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let directory = open(
        format!("/proc/{pid}").as_str(),
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    host::send_signal(pidfd, 0).map_err(errno)?;
    Ok(directory)
}
