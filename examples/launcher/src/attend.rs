//! Carrying bytes and signals between the operator and a command inside.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use cloison_sandbox::Streams;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::error::{Error, call};
use crate::report::notice;
use crate::signals::{self, Received, Signals};
use crate::streams::{self, Carried, Ends};
use crate::terminal::{self, Terminal};

/// How long the output of a command that has ended may take to arrive, when
/// somebody else still holds it.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(3);

/// A terminal if the operator has one, else pipes and our ends of them.
pub(crate) fn streams_wanted() -> Result<(Streams, Option<Ends>), Error> {
    if terminal::is_wanted() {
        return Ok((Streams::Terminal, None));
    }
    let (streams, ends) = streams::pipes()?;
    Ok((streams, Some(ends)))
}

/// The sandbox's streams, and the operator's terminal if it has one.
pub(crate) struct Connection {
    pub(crate) ends: Ends,
    pub(crate) terminal: Option<Terminal>,
}

impl Connection {
    pub(crate) fn make(terminal: Option<OwnedFd>, ends: Option<Ends>) -> Result<Self, Error> {
        match (terminal, ends) {
            (Some(side), None) => {
                let terminal = Terminal::connect(side)?;
                let ends = streams::of_terminal(terminal.side()?, terminal.side()?)?;
                Ok(Self {
                    ends,
                    terminal: Some(terminal),
                })
            }
            (_, Some(ends)) => Ok(Self {
                ends,
                terminal: None,
            }),
            (None, None) => Err(Error::Start(cloison_sandbox::Error::Died)),
        }
    }
}

/// Hands signals on by `send` until `running` ends, which can then be read.
pub(crate) fn hand_on(
    running: &impl AsFd,
    send: impl Fn(Signal) -> Result<(), Error>,
    terminal: Option<&Terminal>,
    signals: &mut Signals,
) -> Result<(), Error> {
    loop {
        if wait(running, signals)? {
            return Ok(());
        }
        while let Some(received) = signals.next()? {
            match (received, terminal) {
                (Received::ForCommand(signal), _) => send(signal)?,
                (Received::NewSize, Some(terminal)) => terminal.pass_size(),
                (Received::Stop, Some(terminal)) => {
                    terminal.restore()?;
                    signals::stop()?;
                    terminal.set_raw()?;
                    terminal.pass_size();
                }
                (Received::Stop, None) => signals::stop()?,
                (Received::NewSize, None) => {}
            }
        }
    }
}

/// Waits until all output has arrived, or a signal says that nobody wants it.
/// Then it is an error if some was lost.
pub(crate) fn wait_for_output(carried: Carried, signals: &mut Signals) -> Result<(), Error> {
    arrives(&carried, signals, None)?;
    carried.check()
}

/// The same of a command that has ended and may have left children: they go on
/// and may have its output. What it wrote itself arrives all the same.
pub(crate) fn wait_for_own_output(
    mut carried: Carried,
    signals: &mut Signals,
) -> Result<(), Error> {
    let end = Instant::now() + OUTPUT_TIMEOUT;
    if !arrives(&carried, signals, Some(end))? {
        notice(
            "the command has ended, and what it left running holds its output: no more is shown",
        );
        carried.await_no_more();
        arrives(&carried, signals, None)?;
    }
    carried.check()
}

/// Whether all output has arrived, or nobody wants it, before `end`.
fn arrives(carried: &Carried, signals: &mut Signals, end: Option<Instant>) -> Result<bool, Error> {
    loop {
        if wait_until(carried, signals, end)? {
            return Ok(true);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Ok(false);
        }
        while let Some(received) = signals.next()? {
            match received {
                Received::ForCommand(_) => return Ok(true),
                Received::Stop => signals::stop()?,
                Received::NewSize => {}
            }
        }
    }
}

/// Waits for `end` or a signal; whether it was `end`.
fn wait(end: &impl AsFd, signals: &Signals) -> Result<bool, Error> {
    wait_until(end, signals, None)
}

/// The same, until then.
fn wait_until(end: &impl AsFd, signals: &Signals, limit: Option<Instant>) -> Result<bool, Error> {
    let left = |limit: Instant| {
        let left = limit.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
    };
    let timeout = limit.map_or(PollTimeout::NONE, left);
    let mut waiting = [
        PollFd::new(end.as_fd(), PollFlags::POLLIN),
        PollFd::new(signals.as_fd(), PollFlags::POLLIN),
    ];
    match poll(&mut waiting, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(call("waiting")(errno)),
    }
    let [end, _] = waiting;
    Ok(end.revents().is_some_and(|events| !events.is_empty()))
}
