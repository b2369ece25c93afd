//! The end of a sandbox, whoever launched it.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{CgroupError, SandboxName};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::{Running, Runtime};
use crate::error::{Error, call};

/// How long a killed sandbox, and then its launcher, may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// How often a killed sandbox is thawed until it has ended.
const THAW_INTERVAL: Duration = Duration::from_millis(2);

/// How a sandbox was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself when it heard the signal.
    ByItself,
    /// It did not end in time, or was given none, and was killed.
    Killed,
    /// It stood still, could hear nothing, and was killed.
    KilledFrozen,
}

impl Running {
    /// Asks its command to end, by `signal`, and ends all of it when that has
    /// not happened within `limit`. A frozen one is not let run to hear a
    /// signal: it is killed at once.
    ///
    /// # Errors
    /// [`Error::Control`], [`Error::KeptFrozen`], [`Error::StaysAlive`]: it may
    /// be called again.
    pub fn stop(&self, signal: Signal, limit: Duration) -> Result<Ending, Error> {
        let is_frozen = self.is_frozen()?;
        let heard = !is_frozen && !limit.is_zero();
        if heard {
            self.signal(signal)?;
        }
        if heard && self.has_ended(limit)? {
            return Ok(Ending::ByItself);
        }
        self.kill()?;
        Ok(if is_frozen {
            Ending::KilledFrozen
        } else {
            Ending::Killed
        })
    }

    /// Lets nothing in it run, until [`Running::thaw`].
    ///
    /// # Errors
    /// [`Error::Control`], [`Error::NoSandbox`].
    pub fn freeze(&self) -> Result<(), Error> {
        let frozen = self.living_cgroup()?.freeze();
        frozen.map_err(|source| self.out_of_control(source.into()))
    }

    /// Lets it run again.
    ///
    /// # Errors
    /// [`Error::Control`], [`Error::NoSandbox`].
    pub fn thaw(&self) -> Result<(), Error> {
        let thawed = self.living_cgroup()?.thaw();
        thawed.map_err(|source| self.out_of_control(source.into()))
    }

    /// Whether it stands still. Where the host has no freezer, nothing does.
    ///
    /// # Errors
    /// [`Error::Control`].
    pub fn is_frozen(&self) -> Result<bool, Error> {
        match self.cgroup()?.map(|cgroup| cgroup.is_frozen()) {
            Some(Ok(is_frozen)) => Ok(is_frozen),
            None | Some(Err(CgroupError::NoFreezer)) => Ok(false),
            Some(Err(source)) => Err(self.out_of_control(source.into())),
        }
    }

    /// Sends a signal to its process 1; an init hands it on. One that has ended
    /// hears nothing, and that is no error.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn signal(&self, signal: Signal) -> Result<(), Error> {
        let number = rustix::process::Signal::from_named_raw(signal as i32);
        let number = number.ok_or(call("naming the signal")(Errno::EINVAL))?;
        match rustix::process::pidfd_send_signal(&self.pidfd, number) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => {
                let errno = Errno::from_raw(errno.raw_os_error());
                Err(call("sending the signal")(errno))
            }
        }
    }

    /// Ends process 1, and with it every process of its pid namespace. A frozen
    /// one of version 1 dies only when it is thawed, and runs nothing before.
    ///
    /// # Errors
    /// [`Error::Control`], [`Error::KeptFrozen`], [`Error::StaysAlive`].
    pub fn kill(&self) -> Result<(), Error> {
        self.signal(Signal::SIGKILL)?;
        let end = Instant::now() + END_TIMEOUT;
        // Somebody may freeze it meanwhile.
        loop {
            // Its launcher may have removed what it left by now.
            match self.cgroup()?.map(|cgroup| cgroup.thaw()) {
                None | Some(Ok(()) | Err(CgroupError::NoFreezer)) => {}
                Some(Err(_)) if self.has_ended(Duration::ZERO)? => {}
                Some(Err(source)) => return Err(self.out_of_control(source.into())),
            }
            if self.has_ended(THAW_INTERVAL)? {
                return Ok(());
            }
            if Instant::now() >= end {
                let name = self.record.name.clone();
                return Err(if self.is_frozen()? {
                    Error::KeptFrozen(name)
                } else {
                    Error::StaysAlive(name)
                });
            }
        }
    }

    /// Whether its process 1 has ended, or does within `limit`.
    ///
    /// # Errors
    /// [`Error::System`].
    pub fn has_ended(&self, limit: Duration) -> Result<bool, Error> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut watched = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut watched, timeout) {
                Ok(0) if Instant::now() >= end => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(call("waiting for the sandbox")(errno)),
            }
        }
    }
}

impl Runtime {
    /// Waits until the launcher of `name`, which has ended, has removed what it
    /// made; what nobody will remove is removed here.
    ///
    /// # Errors
    /// [`Error::LauncherStays`], [`Error::Remains`]; what `go_on` gives.
    pub fn leave_nothing<E: From<Error>>(
        directory: &Path,
        name: &SandboxName,
        go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        let end = Instant::now() + END_TIMEOUT;
        loop {
            let Some(record) = Self::written_of(directory, name)? else {
                return Ok(());
            };
            let runtime = Self::open(directory)?;
            if record.stays {
                let exclusive = runtime.lock(go_on)?;
                return match Self::written_of(directory, name)? {
                    Some(record) if !record.life()?.has_processes() => {
                        Ok(runtime.forget_ended(&exclusive, &record)?)
                    }
                    // Somebody has started it anew.
                    Some(_) | None => Ok(()),
                };
            }
            if !record.launcher_lives()? {
                return runtime.tidy(go_on);
            }
            if Instant::now() > end {
                return Err(Error::LauncherStays {
                    name: name.clone(),
                    launcher: record.launcher.pid,
                }
                .into());
            }
            thread::sleep(PAUSE);
        }
    }
}
