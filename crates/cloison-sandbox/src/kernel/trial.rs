//! A process of its own in which something is tried.
//!
//! What changes a process (namespaces, filters, domains, sets) must not
//! change the caller, which may have many threads: so it is tried in a
//! process that runs typed steps by raw calls and ends.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use cloison_linux::host;
use cloison_linux::steps::{NONE, Op, Report};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

use super::Absence;
use crate::proc_path;
use crate::spawner::errno;
use crate::steps::{Descriptor, StepList};

/// How long a trial may take: only a stuck kernel needs as much.
const DEADLINE: Duration = Duration::from_secs(10);

const SIGKILL: i32 = 9;

/// A process that tries something. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Trial {
    pid: i32,
    pidfd: OwnedFd,
    report: OwnedFd,
    is_reaped: bool,
}

/// What a trial said.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    /// Every step up to its report worked.
    Held(Report),
    /// A step failed; what was gathered before comes along.
    Failed(Report),
    /// It executed a program, or ended, and said nothing.
    Silent,
    /// It did nothing for a long time.
    Stuck,
}

/// An empty list of steps for a process made with `clone_flags`: it begins
/// with dropping the caller's signal handlers, which are not for it to run.
pub(super) fn list(clone_flags: u64) -> StepList {
    let mut list = StepList::new(clone_flags);
    list.push(None, Op::ResetSignals, []);
    list
}

/// Closes everything but the report.
///
/// The process has a copy of the caller's end as well: only when that is
/// closed does it see the caller go, and ends instead of waiting for ever.
pub(super) fn let_go(list: &mut StepList) {
    let none = list.words([]);
    let places = [none.into(), 0.into(), NONE.into()];
    list.push(None, Op::PlaceDescriptors, places);
}

impl Answer {
    /// Its report, where every step worked.
    pub(super) fn held(self) -> Result<Report, Absence> {
        match self {
            Self::Held(report) => Ok(report),
            Self::Failed(report) => Err(Absence::Refused(Errno::from_raw(report.errno))),
            Self::Silent | Self::Stuck => Err(Absence::NoAnswer),
        }
    }
}

impl Trial {
    /// Starts one, as a child of the caller.
    pub(super) fn start(list: &StepList) -> Result<Self, Errno> {
        let block = list.finish();
        let descriptors: Vec<BorrowedFd<'_>> = list
            .descriptors()
            .iter()
            .filter_map(|descriptor| match descriptor {
                Descriptor::Owned(owned) => Some(owned.as_fd()),
                _ => None,
            })
            .collect();
        let (report, childs_report) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )?;
        // Until it has dropped the caller's handlers none may run in it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        let made = host::make_child_directly(&block, &descriptors, childs_report.as_fd());
        mask.thread_set_mask()?;
        let (pid, pidfd) = made.map_err(errno)?;
        Ok(Self {
            pid,
            pidfd,
            report,
            is_reaped: false,
        })
    }

    /// Its descriptor.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its directory in `/proc`.
    pub(super) fn directory(&self) -> Result<OwnedFd, Errno> {
        proc_path::open_directory(self.pid, self.pidfd())
    }

    /// Lets it pass its wait.
    pub(super) fn go_on(&self) -> Result<(), Errno> {
        nix::unistd::write(&self.report, b"1").map(|_| ())
    }

    /// What it says next.
    pub(super) fn answer(&self) -> Result<Answer, Errno> {
        let timeout = PollTimeout::try_from(DEADLINE).unwrap_or(PollTimeout::MAX);
        loop {
            let mut watched = [PollFd::new(self.report.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) => return Ok(Answer::Stuck),
                Ok(_) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(match host::receive_report(self.report.as_fd()) {
            Ok(Some(report)) if report.kind == Report::HELD => Answer::Held(report),
            Ok(Some(report)) => Answer::Failed(report),
            Ok(None) => Answer::Silent,
            Err(failed) => return Err(errno(failed)),
        })
    }

    /// Waits for its end; `None` where somebody else in the caller has
    /// reaped it.
    pub(super) fn wait(&mut self) -> Result<Option<WaitStatus>, Errno> {
        loop {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::__WALL;
            match waitid(Id::PIDFd(self.pidfd.as_fd()), flags) {
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => {
                    self.is_reaped = true;
                    return Ok(None);
                }
                Ok(status) => {
                    self.is_reaped = true;
                    return Ok(Some(status));
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    /// Ends it at once and waits.
    pub(super) fn end(&mut self) -> Result<(), Errno> {
        // What waits for the caller ends by this alone.
        shutdown(self.report.as_raw_fd(), Shutdown::Both)?;
        match host::send_signal(self.pidfd(), SIGKILL).map_err(errno) {
            Ok(()) | Err(Errno::ESRCH | Errno::ENOSYS) => {}
            Err(errno) => return Err(errno),
        }
        self.wait().map(|_| ())
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        if !self.is_reaped {
            // A destructor has nobody to tell.
            let ended = self.end();
            debug_assert_eq!(ended, Ok(()));
        }
    }
}
