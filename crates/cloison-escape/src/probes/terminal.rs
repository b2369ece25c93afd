//! The terminal of whoever launches a sandbox.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{setsid, ttyname};

use super::error::{ProbeError, canary, canary_errno};

/// A terminal that controls this process's session.
#[derive(Debug)]
pub(super) struct VictimTerminal {
    /// The side that programs read their input from.
    slave: File,
    // The terminal hangs up when its other side closes.
    _master: OwnedFd,
}

impl VictimTerminal {
    /// The one of this process. It stays open until the process ends, which
    /// would get SIGHUP at its end otherwise.
    pub(super) fn of_this_process() -> Result<&'static Self, ProbeError> {
        static TERMINAL: OnceLock<VictimTerminal> = OnceLock::new();
        if let Some(terminal) = TERMINAL.get() {
            return Ok(terminal);
        }
        let opened = Self::open()?;
        Ok(TERMINAL.get_or_init(|| opened))
    }

    /// Opens one and makes it the terminal of this process's session: a new
    /// one, unless the process leads one already.
    fn open() -> Result<Self, ProbeError> {
        let what = "opening a terminal";
        let pair = openpty(None, None).map_err(canary_errno(what))?;
        let path = ttyname(&pair.slave).map_err(canary_errno(what))?;
        match setsid() {
            Ok(_) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(canary_errno("starting a session")(errno)),
        }
        // The leader of a session without a terminal gets the one it opens.
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(canary(what))?;
        // Input is there to be read without the end of a line, and reading
        // where there is none does not wait.
        let mut settings = tcgetattr(&slave).map_err(canary_errno(what))?;
        cfmakeraw(&mut settings);
        tcsetattr(&slave, SetArg::TCSANOW, &settings).map_err(canary_errno(what))?;
        fcntl(&slave, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(canary_errno(what))?;
        Ok(Self {
            slave,
            _master: pair.master,
        })
    }

    /// The terminal as a sandbox's standard input.
    pub(super) fn input(&self) -> Result<OwnedFd, ProbeError> {
        self.slave
            .try_clone()
            .map(OwnedFd::from)
            .map_err(canary("handing in the terminal"))
    }

    /// Takes the input that waits to be read.
    pub(super) fn take_input(&self) -> Result<Vec<u8>, ProbeError> {
        let mut input = Vec::new();
        let mut piece = [0; 512];
        loop {
            match (&self.slave).read(&mut piece) {
                Ok(0) => return Ok(input),
                Ok(count) => input.extend_from_slice(piece.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(input),
                Err(error) => return Err(canary("reading the terminal")(error)),
            }
        }
    }
}
