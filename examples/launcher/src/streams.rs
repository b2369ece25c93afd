//! What goes between the caller's streams and the sandbox's.
//!
//! The sandbox gets pipes of our own, or a terminal of its own, and never a
//! descriptor of the caller's: a file handed in could be opened anew for
//! writing through `/proc/self/fd` and emptied, a terminal be typed into, a
//! socket be connected elsewhere.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use cloison_sandbox::Streams;
use nix::errno::Errno;
use nix::sys::stat::fstat;

use crate::error::{Error, call};

const BUFFER_BYTES: usize = 64 << 10;

/// Our ends of a sandbox's streams.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Where the caller's input goes.
    pub(crate) input: OwnedFd,
    /// What comes out, each with where it goes.
    pub(crate) outputs: Vec<(OwnedFd, OwnedFd)>,
}

/// Pipes for all three streams.
pub(crate) fn pipes() -> Result<(Streams, Ends), Error> {
    let pipe = || io::pipe().map_err(failed("making a pipe"));
    let (stdin, input) = pipe()?;
    let (output, stdout) = pipe()?;
    let mut outputs = vec![(output.into(), duplicate(io::stdout())?)];
    let stderr = if leads_to_the_same(io::stdout(), io::stderr())? {
        // In one pipe both keep their order.
        stdout.try_clone().map_err(failed("duplicating a pipe"))?
    } else {
        let (output, stderr) = pipe()?;
        outputs.push((output.into(), duplicate(io::stderr())?));
        stderr
    };
    let streams = Streams::Descriptors {
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: stderr.into(),
    };
    let input = input.into();
    Ok((streams, Ends { input, outputs }))
}

/// The ends for a terminal of the sandbox's own: `side` and `other_side` are
/// our side of it.
pub(crate) fn of_terminal(side: OwnedFd, other_side: OwnedFd) -> Result<Ends, Error> {
    Ok(Ends {
        input: side,
        outputs: vec![(other_side, duplicate(io::stdout())?)],
    })
}

impl Ends {
    /// Starts to carry bytes, each stream by a thread of its own. What is
    /// given back can be read, as at its end, when all output has arrived.
    pub(crate) fn carry(self) -> Result<OwnedFd, Error> {
        let (arrived, pending) = io::pipe().map_err(failed("making a pipe"))?;
        let input = duplicate(io::stdin())?;
        start(move || {
            carry(input, self.input);
        })?;
        for (from, to) in self.outputs {
            let pending = pending.try_clone().map_err(failed("duplicating a pipe"))?;
            start(move || {
                carry(from, to);
                drop(pending);
            })?;
        }
        Ok(arrived.into())
    }
}

fn start(body: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    // Nobody waits for it: it ends with its stream, or with this process.
    thread::Builder::new()
        .spawn(body)
        .map(|_running| ())
        .map_err(failed("starting a thread"))
}

/// Carries bytes until one side has no more, or takes no more. The other side
/// learns of it as both descriptors are closed.
fn carry(from: OwnedFd, to: OwnedFd) {
    let (mut from, mut to) = (File::from(from), File::from(to));
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if is_passing(&error, from.as_fd()) => continue,
            // A terminal whose other side is closed gives EIO.
            Err(_) => return,
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if is_passing(&error, to.as_fd()) => {}
                Err(_) => return,
            }
        }
    }
}

/// Whether it is worth trying again; waits until it is.
fn is_passing(error: &io::Error, descriptor: BorrowedFd<'_>) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    match error.kind() {
        ErrorKind::Interrupted => true,
        // Whoever shares the caller's descriptor has set it so.
        ErrorKind::WouldBlock => {
            let mut waiting = [PollFd::new(
                descriptor,
                PollFlags::POLLIN | PollFlags::POLLOUT,
            )];
            poll(&mut waiting, PollTimeout::from(100_u16)).is_ok()
        }
        _ => false,
    }
}

fn leads_to_the_same(one: impl AsFd, other: impl AsFd) -> Result<bool, Error> {
    let look = |stream: BorrowedFd<'_>| fstat(stream).map_err(call("looking at a stream"));
    let (one, other) = (look(one.as_fd())?, look(other.as_fd())?);
    Ok((one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

fn duplicate(stream: impl AsFd) -> Result<OwnedFd, Error> {
    stream
        .as_fd()
        .try_clone_to_owned()
        .map_err(failed("duplicating a stream"))
}

fn failed(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |error| call(doing)(Errno::from_raw(error.raw_os_error().unwrap_or(0)))
}
