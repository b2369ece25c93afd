//! A running sandbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_linux::host;
use cloison_linux::message::{Answer, CLD_EXITED};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use crate::CgroupError;
use crate::cgroup::Usage;
use crate::error::Error;
use crate::exec::{Exec, ExecError, ExecSocket, Execution};
use crate::held::Observer;
use crate::plan::{Prepared, Streams};
use crate::posture::{Posture, SelfReport};
#[cfg(feature = "tokio")]
use crate::spawner::io_errno;
use crate::spawner::{Spawned, errno};

/// How a sandbox's command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// With this code. Under an init, 128 + n for a command that signal n
    /// ended.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// Nobody knows: the spawner was ended, and this kernel keeps no status
    /// on a pidfd (before 6.15), or whoever adopted the sandbox's process has
    /// not reaped it within half a second.
    Unknown,
}

impl ExitStatus {
    /// The code as a shell gives it: 128 + n for signal n.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled(signal) => Some(128 + signal),
            Self::Unknown => None,
        }
    }

    /// What a spawner or an init sends.
    pub(crate) fn of_answer(answer: &Answer) -> Self {
        if answer.code == CLD_EXITED {
            Self::Exited(answer.detail)
        } else {
            Self::Signaled(answer.detail)
        }
    }

    fn of_wait(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Exited(status >> 8 & 0xff),
            signal => Self::Signaled(signal),
        }
    }
}

/// How a sandbox ended that was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// Within its time.
    ByItself(ExitStatus),
    /// Not within its time, or it was frozen.
    Killed(ExitStatus),
}

/// How often, and how far apart, an ended process is looked at that nobody
/// has reaped.
const UNREAPED_MAX: u32 = 500;
const UNREAPED_PAUSE: Duration = Duration::from_millis(1);

/// How long a killed sandbox may take to end, and how often it is thawed
/// meanwhile.
const END_DEADLINE: Duration = Duration::from_secs(10);
const THAW_INTERVAL_MS: u8 = 2;

/// A running sandbox.
///
/// It lives on when this is dropped, and when the caller ends; its cgroup
/// stays then. [`Sandbox::remove`] ends it and takes everything away.
#[derive(Debug)]
pub struct Sandbox {
    spawned: Spawned,
    expected: Posture,
    report: SelfReport,
    prepared: Prepared,
    has_init: bool,
    status: Option<ExitStatus>,
    /// How often it was found ended and not yet reaped.
    unreaped: u32,
    /// Its mount namespace: to let go of the last hold on one takes a grace
    /// period, which nobody should wait for who wants to hear of its end.
    _mounts: Option<OwnedFd>,
}

impl Sandbox {
    pub(crate) fn started(
        spawned: Spawned,
        expected: Posture,
        report: SelfReport,
        prepared: Prepared,
        has_init: bool,
        mounts: Option<OwnedFd>,
    ) -> Self {
        Self {
            spawned,
            expected,
            report,
            prepared,
            has_init,
            status: None,
            unreaped: 0,
            _mounts: mounts,
        }
    }

    /// The process id of its process 1, in the caller's pid namespace.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.spawned.pid)
    }

    /// Whether its process 1 is an init of ours.
    #[must_use]
    pub fn has_init(&self) -> bool {
        self.has_init
    }

    /// What was made for it beforehand: its cgroup freezes and thaws it.
    #[must_use]
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// What was expected of it when it was launched.
    #[must_use]
    pub fn expected(&self) -> &Posture {
        &self.expected
    }

    /// What encloses its process 1 now. What it said of itself is from when
    /// it was held.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::Unreadable`].
    pub fn inspect(&self) -> Result<Posture, Error> {
        Observer::new()?.read(&self.spawned, Some(&self.report))
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// [`Error::Process`].
    pub fn wait(&mut self) -> Result<ExitStatus, Error> {
        loop {
            if let Some(status) = self.look(PollTimeout::NONE)? {
                return Ok(status);
            }
        }
    }

    /// Its status if it has ended.
    ///
    /// # Errors
    /// [`Error::Process`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.look(PollTimeout::ZERO)
    }

    /// Waits until it has ended, without a thread.
    ///
    /// # Errors
    /// [`Error::Process`].
    #[cfg(feature = "tokio")]
    pub async fn wait_async(&mut self) -> Result<ExitStatus, Error> {
        use tokio::io::{Interest, unix::AsyncFd};
        if let Some(status) = self.status {
            return Ok(status);
        }
        let pid = self.spawned.pid;
        let failed = |error: std::io::Error| Error::Process {
            pid,
            errno: io_errno(&error),
        };
        let pidfd = self.spawned.pidfd.try_clone().map_err(failed)?;
        #[expect(
            deprecated,
            reason = "unsound for types that give another's descriptor away; an owned one is its own"
        )]
        let watched = AsyncFd::with_interest(pidfd, Interest::READABLE).map_err(failed)?;
        let _ended = watched.readable().await.map_err(failed)?;
        // Ended: its status is there as soon as its parent has reaped it.
        loop {
            if let Some(status) = self.look(PollTimeout::from(1_u8))? {
                return Ok(status);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Sends a signal to its process 1; an init hands it on to the command.
    ///
    /// # Errors
    /// [`Error::Died`], [`Error::Process`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        match host::send_signal(self.as_fd(), signal as i32).map_err(errno) {
            Ok(()) => Ok(()),
            Err(Errno::ESRCH) => Err(Error::Died),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// Starts a second command in it, through its init.
    ///
    /// The sandbox's command can neither trace nor read what is started so.
    /// What was started so before can: it has the same rights, and a tenant who
    /// got it to run a program of his (each file inside may be his) has a
    /// process that reads the environment and memory of the next one. Hand no
    /// secret to a command in a sandbox that its tenant controls.
    ///
    /// # Errors
    /// [`ExecError::NoListener`] where [`Prepared::exec`] was not set,
    /// [`ExecError::Connect`] where the sandbox has ended, and [`ExecError`]:
    /// nothing was started.
    pub fn exec(&self, exec: &Exec, streams: Streams) -> Result<Execution, ExecError> {
        let listener = self.prepared.exec.as_ref().ok_or(ExecError::NoListener)?;
        let network = self.prepared.network.as_ref().map(AsFd::as_fd);
        ExecSocket::at(listener.path()).start_in(exec, streams, network)
    }

    /// What its processes use now, and how often a limit was reached.
    ///
    /// # Errors
    /// [`Error::Cgroup`].
    pub fn usage(&self) -> Result<Usage, Error> {
        Ok(self.prepared.cgroup.usage()?)
    }

    /// Asks its command to end, by `signal`, and ends all of it when that has
    /// not happened within `limit`. A frozen one is not let run to hear a
    /// signal: it is ended at once. So is one that somebody freezes meanwhile,
    /// as soon as `limit` is over; one that is never thawed is an error.
    ///
    /// # Errors
    /// [`Error::Process`], [`Error::Cgroup`]; [`Error::KeptFrozen`] and
    /// [`Error::StaysAlive`] when it has not ended within ten seconds of being
    /// killed. It may be called again.
    pub fn stop(&mut self, signal: Signal, limit: Duration) -> Result<Stopped, Error> {
        let is_frozen = match self.prepared.cgroup.is_frozen() {
            Ok(is_frozen) => is_frozen,
            Err(CgroupError::NoFreezer) => false,
            Err(error) => return Err(error.into()),
        };
        if !is_frozen {
            match self.signal(signal) {
                Ok(()) | Err(Error::Died) => {}
                Err(error) => return Err(error),
            }
            let end = end_of(limit);
            loop {
                match self.look(until(end))? {
                    Some(status) => return Ok(Stopped::ByItself(status)),
                    None if is_over(end) => break,
                    None => {}
                }
            }
        }
        self.end().map(Stopped::Killed)
    }

    /// Ends every process in it, and sees it end. Somebody may freeze it
    /// meanwhile: then it is thawed once more.
    fn end(&mut self) -> Result<ExitStatus, Error> {
        self.kill()?;
        let end = end_of(END_DEADLINE);
        loop {
            if let Some(status) = self.look(PollTimeout::from(THAW_INTERVAL_MS))? {
                return Ok(status);
            }
            if is_over(end) {
                let pid = self.spawned.pid;
                return Err(match self.prepared.cgroup.is_frozen() {
                    Ok(true) => Error::KeptFrozen(pid),
                    Ok(false) | Err(_) => Error::StaysAlive(pid),
                });
            }
            self.prepared.cgroup.let_die()?;
        }
    }

    /// Kills every process in it, also a frozen one, and does not wait for
    /// that: one that somebody freezes meanwhile ends only when it is thawed.
    ///
    /// # Errors
    /// [`Error::Process`], [`Error::Cgroup`].
    pub fn kill(&self) -> Result<(), Error> {
        match self.signal(Signal::SIGKILL) {
            Ok(()) | Err(Error::Died) => {}
            Err(error) => return Err(error),
        }
        // A frozen process of v1 does not die until it is thawed.
        self.prepared.cgroup.let_die()?;
        Ok(())
    }

    /// Ends it if it runs, and takes away its cgroup; its namespaces go with
    /// their last holder.
    ///
    /// # Errors
    /// [`Error::Process`], [`Error::Cgroup`], [`Error::KeptFrozen`] and
    /// [`Error::StaysAlive`]: it, or its cgroup, is still there.
    pub fn remove(mut self) -> Result<ExitStatus, Error> {
        let status = self.end()?;
        self.prepared.cgroup.remove()?;
        if let Some(listener) = &mut self.prepared.exec {
            listener.take_back();
        }
        Ok(status)
    }

    /// Gives back what was made beforehand, to launch the same server again.
    ///
    /// # Errors
    /// [`Error::Process`] while it runs.
    pub fn into_prepared(mut self) -> Result<Prepared, Error> {
        if self.try_wait()?.is_none() {
            return Err(self.failed(Errno::EBUSY));
        }
        if let Some(listener) = &mut self.prepared.exec {
            listener.take_back();
        }
        Ok(self.prepared)
    }

    fn look(&mut self, timeout: PollTimeout) -> Result<Option<ExitStatus>, Error> {
        if self.status.is_none() {
            self.status = match &self.spawned.status {
                Some(_) => self.ask_spawner(timeout)?,
                None => self.ask_kernel(timeout)?,
            };
        }
        Ok(self.status)
    }

    /// The spawner is the parent: it sends the status.
    fn ask_spawner(&mut self, timeout: PollTimeout) -> Result<Option<ExitStatus>, Error> {
        let Some(socket) = &self.spawned.status else {
            return Ok(None);
        };
        if !self.is_readable(socket.as_fd(), timeout)? {
            return Ok(None);
        }
        match host::receive_answer(socket.as_fd()) {
            Ok(Some((answer, _))) if answer.kind == Answer::ENDED => {
                Ok(Some(ExitStatus::of_answer(&answer)))
            }
            Ok(Some(_)) => Err(self.failed(Errno::EPROTO)),
            // The spawner was ended. Whoever adopted the sandbox may be this
            // very process.
            Ok(None) => self.ask_kernel(timeout),
            Err(error) => Err(self.failed(errno(error))),
        }
    }

    /// The caller is the parent.
    fn ask_kernel(&mut self, timeout: PollTimeout) -> Result<Option<ExitStatus>, Error> {
        if !self.is_readable(self.as_fd(), timeout)? {
            return Ok(None);
        }
        match waitid(Id::PIDFd(self.as_fd()), WaitPidFlag::WEXITED) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(ExitStatus::Exited(code))),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(ExitStatus::Signaled(signal as i32))),
            Ok(_) | Err(Errno::EINTR) => Ok(None),
            // Somebody else has reaped it, or has to.
            Err(Errno::ECHILD) => self.ask_pidfd(),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    /// The pidfd itself remembers, where the kernel does.
    fn ask_pidfd(&mut self) -> Result<Option<ExitStatus>, Error> {
        match host::exit_status(self.as_fd()).map_err(errno) {
            Ok(Some(status)) => Ok(Some(ExitStatus::of_wait(status))),
            // Ended and not yet reaped by whoever inherited it, which may never
            // happen.
            Ok(None) if self.unreaped == UNREAPED_MAX => Ok(Some(ExitStatus::Unknown)),
            Ok(None) => {
                self.unreaped += 1;
                std::thread::sleep(UNREAPED_PAUSE);
                Ok(None)
            }
            Err(Errno::ENOTTY | Errno::EINVAL) => Ok(Some(ExitStatus::Unknown)),
            // Reaped, and its status is not kept.
            Err(Errno::ESRCH) => Ok(Some(ExitStatus::Unknown)),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn is_readable(&self, descriptor: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool, Error> {
        let mut watched = [PollFd::new(descriptor, PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(self.failed(errno)),
        }
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Process {
            pid: self.spawned.pid,
            errno,
        }
    }
}

/// When `limit` is over. `None`: never, as far as a clock can say.
pub(crate) fn end_of(limit: Duration) -> Option<Instant> {
    Instant::now().checked_add(limit)
}

pub(crate) fn is_over(end: Option<Instant>) -> bool {
    end.is_some_and(|end| Instant::now() >= end)
}

/// As long as it is to `end`, and no longer than poll(2) can wait.
pub(crate) fn until(end: Option<Instant>) -> PollTimeout {
    let Some(end) = end else {
        return PollTimeout::MAX;
    };
    let left = end.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.spawned.pidfd.as_fd()
    }
}
