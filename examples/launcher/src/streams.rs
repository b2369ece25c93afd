//! What goes between the caller's streams and the sandbox's.
//!
//! The sandbox gets pipes of our own, or a terminal of its own, and never a
//! descriptor of the caller's: a file handed in could be opened anew for
//! writing through `/proc/self/fd` and emptied, a terminal be typed into, a
//! socket be connected elsewhere.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::thread;

use cloison_sandbox::Streams;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use crate::error::{Error, call};

const BUFFER_BYTES: usize = 64 << 10;

/// The most that can be in a pipe or a terminal when its writer has ended:
/// `/proc/sys/fs/pipe-max-size`, to which he may have set it.
const PENDING_BYTES_MAX: usize = 1 << 20;

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

/// Output that is being carried.
#[derive(Debug)]
pub(crate) struct Carried {
    /// It can be read, as at its end, when all output has arrived.
    arrived: OwnedFd,
    /// As long as this is open, more output is waited for.
    awaited: Option<OwnedFd>,
    /// What went wrong first.
    lost: Arc<OnceLock<io::Error>>,
}

impl Carried {
    /// From now on only what is there already is carried: whoever else has the
    /// other side may go on for ever.
    pub(crate) fn await_no_more(&mut self) {
        self.awaited = None;
    }

    /// Whether everything that came was written, or nobody wanted it.
    pub(crate) fn check(self) -> Result<(), Error> {
        match self.lost.get() {
            Some(error) => Err(Error::Output(copy(error))),
            None => Ok(()),
        }
    }
}

impl AsFd for Carried {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}

/// An error of a system call is no more than its number.
fn copy(error: &io::Error) -> io::Error {
    error
        .raw_os_error()
        .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

impl Ends {
    /// Starts to carry bytes, each stream by a thread of its own.
    pub(crate) fn carry(self) -> Result<Carried, Error> {
        let (arrived, pending) = io::pipe().map_err(failed("making a pipe"))?;
        let (over, awaited) = io::pipe().map_err(failed("making a pipe"))?;
        let lost = Arc::new(OnceLock::new());
        let input = duplicate(io::stdin())?;
        start(move || {
            // A command that reads no more is none of ours.
            let _unread = carry(input, self.input, None);
        })?;
        for (from, to) in self.outputs {
            let pending = pending.try_clone().map_err(failed("duplicating a pipe"))?;
            let over = over.try_clone().map_err(failed("duplicating a pipe"))?;
            let lost = Arc::clone(&lost);
            start(move || {
                if let Err(error) = carry(from, to, Some(over.as_fd())) {
                    // One is enough to tell of.
                    let _told = lost.set(error);
                }
                drop(pending);
            })?;
        }
        Ok(Carried {
            arrived: arrived.into(),
            awaited: Some(awaited.into()),
            lost,
        })
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
/// learns of it as both descriptors are closed. When `over` is at its end, what
/// can be in `from` is carried and no more.
///
/// An error: what came could not be written, though somebody wants it.
fn carry(from: OwnedFd, to: OwnedFd, over: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let (mut from, mut to) = (File::from(from), File::from(to));
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = None;
    loop {
        if let Some(over) = over {
            match wait(from.as_fd(), over, left.is_some())? {
                Waited::Something => {}
                Waited::Nothing => return Ok(()),
                Waited::Over => {
                    left = Some(PENDING_BYTES_MAX);
                    continue;
                }
            }
        }
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if is_passing(&error, from.as_fd()) => continue,
            // A terminal whose other side is closed gives EIO.
            Err(_) => return Ok(()),
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while !rest.is_empty() {
            match to.write(rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(error) if is_passing(&error, to.as_fd()) => {}
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        left = match left {
            Some(left) if left <= length => return Ok(()),
            left => left.map(|left| left - length),
        };
    }
}

/// What there is to carry.
enum Waited {
    Something,
    /// No more is waited for, and nothing is there.
    Nothing,
    /// From now on no more is waited for.
    Over,
}

fn wait(from: BorrowedFd<'_>, over: BorrowedFd<'_>, is_over: bool) -> io::Result<Waited> {
    let mut waiting = [
        PollFd::new(from, PollFlags::POLLIN),
        PollFd::new(over, PollFlags::POLLIN),
    ];
    loop {
        let polled = if is_over {
            let [from, _] = &mut waiting;
            poll(std::slice::from_mut(from), PollTimeout::ZERO)
        } else {
            poll(&mut waiting, PollTimeout::NONE)
        };
        match polled {
            Ok(0) => return Ok(Waited::Nothing),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        let [from, over] = waiting;
        let has_come = |end: PollFd<'_>| end.revents().is_some_and(|events| !events.is_empty());
        return Ok(if !is_over && has_come(over) {
            Waited::Over
        } else if has_come(from) {
            Waited::Something
        } else {
            Waited::Nothing
        });
    }
}

/// Whether it is worth trying again; waits until it is.
fn is_passing(error: &io::Error, descriptor: BorrowedFd<'_>) -> bool {
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
