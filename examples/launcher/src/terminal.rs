//! The operator's terminal and the sandbox's own.

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use rustix::termios::{tcgetwinsize, tcsetwinsize};

use crate::error::{Error, call};

/// Whether the sandbox gets a terminal: all three streams are one.
pub(crate) fn is_wanted() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// The operator's terminal, which hands every key on to the sandbox's.
///
/// Dropping it sets the terminal back.
#[derive(Debug)]
pub(crate) struct Terminal {
    before: Termios,
    sandbox: OwnedFd,
}

impl Terminal {
    /// Sets the operator's terminal raw. `sandbox` is our side of the other.
    pub(crate) fn connect(sandbox: OwnedFd) -> Result<Self, Error> {
        let before = tcgetattr(io::stdin()).map_err(call("reading the terminal's modes"))?;
        let terminal = Self { before, sandbox };
        terminal.pass_size();
        terminal.set_raw()?;
        Ok(terminal)
    }

    /// Gives the sandbox's terminal the size of the operator's.
    pub(crate) fn pass_size(&self) {
        // A terminal without a size (of a serial line) leaves the other as it
        // is; there is nobody to tell.
        if let Ok(size) = tcgetwinsize(io::stdin()) {
            match tcsetwinsize(&self.sandbox, size) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Another descriptor of our side of the sandbox's terminal.
    pub(crate) fn side(&self) -> Result<OwnedFd, Error> {
        self.sandbox.as_fd().try_clone_to_owned().map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
            call("duplicating the sandbox's terminal")(errno)
        })
    }

    pub(crate) fn set_raw(&self) -> Result<(), Error> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw).map_err(call("setting the terminal raw"))
    }

    /// Sets the operator's terminal back.
    pub(crate) fn restore(&self) -> Result<(), Error> {
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.before)
            .map_err(call("setting the terminal back"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // A terminal that is gone cannot be set back and need not be.
        match self.restore() {
            Ok(()) | Err(_) => {}
        }
    }
}
