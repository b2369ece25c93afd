//! A process, told apart from a later one of the same number.

use std::fs;
use std::io;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};

/// How long a killed process may take to end.
const END_TIMEOUT_MS: u16 = 2000;

/// A process by its number and the time of its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// In clock ticks since the boot.
    pub start_time: u64,
}

impl Process {
    /// The living process `pid`.
    ///
    /// # Errors
    /// `ESRCH`: there is none.
    pub fn find(pid: i32) -> Result<Self, Errno> {
        let (state, start_time) = stat(pid)?;
        if matches!(state, b'Z' | b'X') {
            return Err(Errno::ESRCH);
        }
        Ok(Self { pid, start_time })
    }

    /// Whether it still lives.
    ///
    /// # Errors
    /// What the kernel said of its proc.
    pub fn lives(&self) -> Result<bool, Errno> {
        match Self::find(self.pid) {
            Ok(found) => Ok(found == *self),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// A descriptor of it, which cannot be another's; none if it has ended.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open(&self) -> Result<Option<OwnedFd>, Errno> {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return Ok(None);
        };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(Errno::from_raw(errno.raw_os_error())),
        };
        // Asked after the descriptor was opened: it is this very process.
        Ok(self.lives()?.then_some(pidfd))
    }

    /// Ends it if it still lives, and waits until it has ended.
    pub(crate) fn kill(&self) -> Result<(), Errno> {
        let Some(pidfd) = self.open()? else {
            return Ok(());
        };
        match pidfd_send_signal(&pidfd, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(Errno::from_raw(errno.raw_os_error())),
        }
        let mut ended = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ended, PollTimeout::from(END_TIMEOUT_MS))? {
            // Its cgroup says in which state it stays.
            0 => Ok(()),
            _ => Ok(()),
        }
    }
}

/// State and start time of `pid`.
///
/// # Source
/// proc_pid_stat(5): fields 3 and 22, counted after the name, which may hold
/// anything.
fn stat(pid: i32) -> Result<(u8, u64), Errno> {
    let bytes = match fs::read(format!("/proc/{pid}/stat")) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Errno::ESRCH),
        Err(error) => return Err(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    };
    parse(&bytes).ok_or(Errno::EBADMSG)
}

fn parse(bytes: &[u8]) -> Option<(u8, u64)> {
    let end = bytes.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(bytes.get(end + 1..)?).ok()?;
    let mut fields = rest.split_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_of_a_process_does_not_disturb() {
        let line = b"7 (a) R 1 (b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 99\n";
        assert_eq!(parse(line), Some((b'S', 4242)));
        assert_eq!(parse(b"7 (a) S"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn process_with_another_start_is_another() -> Result<(), Errno> {
        let pid = i32::try_from(std::process::id()).map_err(|_| Errno::ERANGE)?;
        let own = Process::find(pid)?;
        assert!(own.lives()?);
        let earlier = Process {
            start_time: own.start_time.wrapping_sub(1),
            ..own
        };
        assert!(!earlier.lives()?);
        Ok(())
    }
}
