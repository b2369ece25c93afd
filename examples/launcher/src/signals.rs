//! The signals that are handed on.

use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::error::{Error, call};

/// What the command gets to hear of.
const HANDED_ON: [Signal; 6] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals that this process has taken for itself.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: SignalFd,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// One that the command gets.
    ForCommand(Signal),
    /// The operator's terminal has another size.
    NewSize,
    /// The operator wants this program to stand still.
    Stop,
}

impl Signals {
    /// Blocks them, for this thread and those that it starts.
    pub(crate) fn take() -> Result<Self, Error> {
        let mut set = SigSet::empty();
        for signal in HANDED_ON {
            set.add(signal);
        }
        set.add(Signal::SIGWINCH);
        set.add(Signal::SIGTSTP);
        set.thread_block().map_err(call("blocking signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let descriptor = SignalFd::with_flags(&set, flags).map_err(call("signalfd"))?;
        Ok(Self { descriptor })
    }

    /// Whether one has come that ends a launcher whose sandbox does not run
    /// yet.
    pub(crate) fn ending(&mut self) -> Result<(), Error> {
        while let Some(received) = self.next()? {
            match received {
                Received::ForCommand(signal) => return Err(Error::Signalled(signal)),
                Received::Stop => stop()?,
                Received::NewSize => {}
            }
        }
        Ok(())
    }

    /// The next one that has come.
    pub(crate) fn next(&mut self) -> Result<Option<Received>, Error> {
        let Some(info) = self
            .descriptor
            .read_signal()
            .map_err(call("reading a signal"))?
        else {
            return Ok(None);
        };
        let signal = i32::try_from(info.ssi_signo)
            .map_err(|_| nix::errno::Errno::ERANGE)
            .and_then(Signal::try_from)
            .map_err(call("reading a signal"))?;
        Ok(Some(match signal {
            Signal::SIGWINCH => Received::NewSize,
            Signal::SIGTSTP => Received::Stop,
            signal => Received::ForCommand(signal),
        }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Stands still until somebody lets this process go on.
pub(crate) fn stop() -> Result<(), Error> {
    raise(Signal::SIGSTOP).map_err(call("stopping"))
}
