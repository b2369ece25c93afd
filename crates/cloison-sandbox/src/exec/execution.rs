//! A command that was started in a running sandbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use cloison_linux::host;
use cloison_linux::message::Answer;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::ExecError;
use crate::sandbox::{ExitStatus, end_of, is_over, until};
use crate::spawner::errno;

/// A command that was started in a running sandbox.
///
/// It can be read from when the command has ended. Dropped before, the
/// command's process group gets `SIGHUP` and `SIGCONT`; one that goes on all
/// the same is nobody's any more, and ends with the sandbox at the latest.
#[derive(Debug)]
pub struct Execution {
    connection: OwnedFd,
    terminal: Option<OwnedFd>,
    status: Option<ExitStatus>,
}

impl Execution {
    pub(super) fn started(connection: OwnedFd, terminal: Option<OwnedFd>) -> Self {
        Self {
            connection,
            terminal,
            status: None,
        }
    }

    /// The other side of its terminal, once.
    pub fn take_terminal(&mut self) -> Option<OwnedFd> {
        self.terminal.take()
    }

    /// Sends it a signal, through the init.
    ///
    /// # Errors
    /// [`ExecError::Ended`], [`ExecError::Deadline`].
    pub fn signal(&self, signal: Signal) -> Result<(), ExecError> {
        super::send(self.connection.as_fd(), &[signal as u64], &[])
    }

    /// Waits until it has ended. [`ExitStatus::Unknown`]: the sandbox ended.
    ///
    /// # Errors
    /// [`ExecError::Nonsense`], [`ExecError::Prepare`].
    pub fn wait(&mut self) -> Result<ExitStatus, ExecError> {
        loop {
            if let Some(status) = self.look(PollTimeout::NONE)? {
                return Ok(status);
            }
        }
    }

    /// The same for no longer than `limit`.
    ///
    /// # Errors
    /// As [`Execution::wait`].
    pub fn wait_for(&mut self, limit: Duration) -> Result<Option<ExitStatus>, ExecError> {
        let end = end_of(limit);
        loop {
            match self.look(until(end))? {
                None if !is_over(end) => {}
                status => return Ok(status),
            }
        }
    }

    /// Its status if it has ended.
    ///
    /// # Errors
    /// As [`Execution::wait`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ExecError> {
        self.look(PollTimeout::ZERO)
    }

    fn look(&mut self, timeout: PollTimeout) -> Result<Option<ExitStatus>, ExecError> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let mut watched = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(errno) => return Err(super::prepare("a look at the command")(errno)),
        }
        self.status = match answer(&self.connection) {
            Ok(Some(answer)) if answer.kind == Answer::ENDED => {
                Some(ExitStatus::of_answer(&answer))
            }
            Ok(None) | Err(Errno::ECONNRESET) => Some(ExitStatus::Unknown),
            Ok(Some(_)) | Err(Errno::EPROTO) => return Err(ExecError::Nonsense),
            Err(Errno::EAGAIN) => None,
            Err(errno) => return Err(super::prepare("the command's status")(errno)),
        };
        Ok(self.status)
    }
}

impl AsFd for Execution {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }
}

/// One answer of an init. Descriptors that it sends along are dropped by the
/// kernel: it may be anybody's by now.
pub(super) fn answer(connection: &OwnedFd) -> Result<Option<Answer>, Errno> {
    host::receive_answer_alone(connection.as_fd()).map_err(errno)
}
