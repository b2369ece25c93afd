//! `cloison stop`, `freeze` and `thaw`: a running sandbox, whoever launched it.

use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{CgroupError, SandboxName};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::cli;
use crate::error::{Error, call};
use crate::report::print;
use crate::running::Running;
use crate::signals::Signals;
use crate::state::State;

/// How long a killed sandbox, and then its launcher, may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
/// How often a killed sandbox is thawed until it has ended.
const THAW_INTERVAL: Duration = Duration::from_millis(2);

/// Ends a sandbox; gives the exit code.
pub(crate) fn stop(options: &cli::Stop) -> Result<u8, Error> {
    let running = Running::find(&options.state.directory, &options.name)?;
    let limit = Duration::from_secs(options.timeout_s.into());
    let is_frozen = is_frozen(&running)?;
    let heard = !is_frozen && !limit.is_zero();
    if heard {
        signal(&running, options.signal)?;
    }
    let by_itself = heard && has_ended(&running, limit)?;
    if !by_itself {
        kill(&running)?;
    }
    leave_nothing(&options.state.directory, &options.name)?;
    let how = match (by_itself, is_frozen) {
        (true, _) => format!("ended by {}", options.signal),
        (false, true) => "was frozen and is killed".to_owned(),
        (false, false) if limit.is_zero() => "is killed".to_owned(),
        (false, false) => format!("did not end within {} s and is killed", limit.as_secs()),
    };
    print(&format!("{} {how}\n", options.name))?;
    Ok(0)
}

/// Freezes a sandbox; gives the exit code.
pub(crate) fn freeze(options: &cli::Freeze) -> Result<u8, Error> {
    let running = Running::find(&options.state.directory, &options.name)?;
    let frozen = running.living_cgroup()?.freeze();
    frozen.map_err(|source| running.out_of_control(source.into()))?;
    Ok(0)
}

/// Thaws a sandbox; gives the exit code.
pub(crate) fn thaw(options: &cli::Thaw) -> Result<u8, Error> {
    let running = Running::find(&options.state.directory, &options.name)?;
    let thawed = running.living_cgroup()?.thaw();
    thawed.map_err(|source| running.out_of_control(source.into()))?;
    Ok(0)
}

fn is_frozen(running: &Running) -> Result<bool, Error> {
    let cgroup = running.cgroup()?;
    match cgroup.map(|cgroup| cgroup.is_frozen()) {
        Some(Ok(is_frozen)) => Ok(is_frozen),
        None | Some(Err(CgroupError::NoFreezer)) => Ok(false),
        Some(Err(source)) => Err(running.out_of_control(source.into())),
    }
}

fn signal(running: &Running, signal: Signal) -> Result<(), Error> {
    let number = rustix::process::Signal::from_named_raw(signal as i32);
    let number = number.ok_or(call("naming the signal")(Errno::EINVAL))?;
    match rustix::process::pidfd_send_signal(&running.pidfd, number) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(errno) => {
            let errno = Errno::from_raw(errno.raw_os_error());
            Err(call("sending the signal")(errno))
        }
    }
}

/// Ends process 1, and with it every process of its pid namespace. A frozen one
/// of version 1 dies only when it is thawed, and runs nothing before.
fn kill(running: &Running) -> Result<(), Error> {
    signal(running, Signal::SIGKILL)?;
    let end = Instant::now() + END_TIMEOUT;
    // Somebody may freeze it meanwhile.
    loop {
        // Its launcher may have removed what it left by now.
        match running.cgroup()?.map(|cgroup| cgroup.thaw()) {
            None | Some(Ok(()) | Err(CgroupError::NoFreezer)) => {}
            Some(Err(_)) if has_ended(running, Duration::ZERO)? => {}
            Some(Err(source)) => return Err(running.out_of_control(source.into())),
        }
        if has_ended(running, THAW_INTERVAL)? {
            return Ok(());
        }
        if Instant::now() >= end {
            let name = running.record.name.clone();
            return Err(if is_frozen(running)? {
                Error::KeptFrozen(name)
            } else {
                Error::StaysAlive(name)
            });
        }
    }
}

fn has_ended(running: &Running, limit: Duration) -> Result<bool, Error> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut watched = [PollFd::new(running.pidfd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut watched, timeout) {
            Ok(0) if Instant::now() >= end => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(call("waiting for the sandbox")(errno)),
        }
    }
}

/// Waits until the launcher has removed what it made; a dead one's is removed
/// here.
fn leave_nothing(directory: &Path, name: &SandboxName) -> Result<(), Error> {
    let end = Instant::now() + END_TIMEOUT;
    loop {
        let Some(launcher) = State::launcher_of(directory, name)? else {
            return Ok(());
        };
        if !launcher.lives().map_err(call("looking for a launcher"))? {
            let mut signals = Signals::take()?;
            return State::open(directory)?.tidy(|| signals.ending());
        }
        if Instant::now() > end {
            return Err(Error::LauncherStays {
                name: name.clone(),
                launcher: launcher.pid,
            });
        }
        thread::sleep(PAUSE);
    }
}
