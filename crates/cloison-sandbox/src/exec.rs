//! A second command in a running sandbox, started by its init.
//!
//! No process of the host ever enters: the init forks what is asked for, so
//! that it has the namespaces, the filters, the keyring and the outer Landlock
//! domain of process 1. The command of the sandbox is one layer deeper and can
//! neither trace nor read what was started so. Two that were started so are in
//! the same domain and can: see [`Sandbox::exec`](crate::Sandbox::exec).
//!
//! The init lies inside the wall. What it answers is an allegation, read with
//! a deadline and without its descriptors.

mod execution;
mod listener;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cloison_linux::host::{self, attribute};
use cloison_linux::message::{Answer, EXECS_MAX, Place};
use cloison_linux::steps::{IMAGE_BYTES_MAX, NONE, Op, Report};
use nix::errno::Errno;

pub use execution::Execution;
pub use listener::ExecListener;

use crate::error::Refused;
use crate::layers::command::{check_texts, variables};
use crate::layers::mounts::open_peer;
use crate::plan::{Streams, sockets};
use crate::sandbox::ExitStatus;
use crate::spawner::{errno, pair};
use crate::steps::StepList;

/// What is to be started in a running sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program and its arguments. A program without a slash is looked for
    /// inside, in [`Exec::PATH`], by the new process itself.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Where it starts, an absolute path inside.
    pub working_directory: PathBuf,
}

impl Exec {
    /// Where a command without a slash in its name is looked for inside, as
    /// `PATH` has it.
    pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

    /// What runs `command` in `/` with no environment.
    #[must_use]
    pub fn new(command: Vec<String>) -> Self {
        Self {
            command,
            environment: BTreeMap::new(),
            working_directory: PathBuf::from("/"),
        }
    }

    fn check(&self) -> Result<(), Refused> {
        let Some(program) = self.command.first() else {
            return Err(Refused::NoCommand);
        };
        if program.is_empty() || (program.contains('/') && !program.starts_with('/')) {
            return Err(Refused::CommandNotAbsolute(program.clone()));
        }
        check_texts(&self.command, &self.environment, &self.working_directory)
    }

    /// The paths to try, in order.
    fn paths(&self) -> Vec<String> {
        match self.command.first() {
            Some(program) if program.starts_with('/') => vec![program.clone()],
            Some(program) => Self::PATH
                .split(':')
                .map(|directory| format!("{directory}/{program}"))
                .collect(),
            None => Vec::new(),
        }
    }

    /// The steps of the new process.
    fn steps(&self, streams: [OwnedFd; 3], takes_terminal: bool) -> StepList {
        let mut list = StepList::default();
        let kept = streams.map(|stream| list.own(stream));
        list.push(None, Op::ResetSignals, []);
        list.push(None, Op::StartSession, []);
        if takes_terminal {
            let [stdin, ..] = kept;
            list.push(None, Op::TakeTerminal, [stdin.into()]);
        }
        let slots = list.slots(kept);
        list.push(
            None,
            Op::PlaceDescriptors,
            [slots.into(), 3.into(), NONE.into()],
        );
        let directory = list.text(self.working_directory.as_os_str().as_encoded_bytes());
        list.push(None, Op::EnterDirectory, [directory.into()]);
        // A sandbox that was frozen meanwhile must not run this later, when
        // nobody waits for it any more.
        list.push(None, Op::Report, []);
        list.push(None, Op::Wait, []);
        let paths = list.list(self.paths());
        let arguments = list.list(&self.command);
        let environment = list.list(variables(&self.environment));
        list.push(
            None,
            Op::ExecuteFound,
            [paths.into(), arguments.into(), environment.into()],
        );
        list
    }
}

/// Why nothing was started in a running sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// What is asked for cannot be.
    #[error("what is to be started is refused")]
    Refused(#[from] Refused),
    /// The sandbox has no init that listens.
    #[error("the sandbox has no init that listens for commands, and nobody else may enter it")]
    NoListener,
    /// The socket at a path could not be made.
    #[error("the socket {}: {errno}", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// The directory of a socket lets others in.
    #[error("{} is not safe to listen in: only its owner, this user, may enter it", .0.display())]
    OpenDirectory(PathBuf),
    /// Nobody listens at the path: the sandbox has ended, or has no init.
    #[error("nobody listens at {}: {errno}", path.display())]
    Connect {
        /// The path.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// Command and environment do not fit into one request.
    #[error("command and environment take {bytes} bytes: at most {bytes_max} can be")]
    TooLarge {
        /// What they take, with what else is in the request.
        bytes: usize,
        /// What they may take.
        bytes_max: usize,
    },
    /// Something that the start is made of could not be made.
    #[error("making {what}: {errno}")]
    Prepare {
        /// What.
        what: &'static str,
        /// Why.
        errno: Errno,
    },
    /// As many commands run as an init minds that were started so, and have
    /// somebody who waits for them.
    #[error("{EXECS_MAX} commands that were started so run in it, and its init minds no more")]
    TooMany,
    /// The init could make no process: the sandbox is at a limit, or the host.
    #[error("the init could make no process for it: {0}")]
    Full(Errno),
    /// The working directory could not be entered.
    #[error("the working directory {} cannot be entered: {errno}", path.display())]
    Directory {
        /// The directory, a path inside.
        path: PathBuf,
        /// Why.
        errno: Errno,
    },
    /// A step of the new process failed.
    #[error("{step}: {errno}")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The command could not be executed.
    #[error("the command cannot be executed: {0}")]
    Execute(Errno),
    /// The init did not answer in time: the sandbox is frozen, starved or
    /// hostile. Nothing was started and nothing will be.
    #[error("the sandbox's init did not answer in time: is it frozen?")]
    Deadline,
    /// The sandbox ended before the command started.
    #[error("the sandbox ended before the command started")]
    Ended,
    /// The new process ended before it executed the command, and the sandbox
    /// runs on: its command, of the same user, may signal it.
    #[error("something inside ended it before the command started: {}", how(*.0))]
    EndedInside(ExitStatus),
    /// What came is no answer of an init of ours.
    #[error("the sandbox's init gives answers that make no sense: it was taken over")]
    Nonsense,
}

/// The way to the init of a running sandbox, for whoever can reach its path:
/// also one that did not launch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecSocket {
    path: PathBuf,
}

impl ExecSocket {
    /// The one at `path`, which an [`ExecListener`] made. Nothing is opened.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a command in the sandbox, as [`Sandbox::exec`] does, which says
    /// who may read it. When [`Execution`] is dropped while it runs, it gets
    /// `SIGHUP`, as when a terminal hangs up.
    ///
    /// With [`Streams::Terminal`] the command gets a terminal of its own, of a
    /// devpts that nothing inside can reach by name: the sandbox's command, of
    /// the same user, could open one in `/dev/pts` and read what is typed.
    ///
    /// [`Sandbox::exec`]: crate::Sandbox::exec
    ///
    /// # Errors
    /// [`ExecError`]: nothing was started.
    pub fn start(&self, exec: &Exec, streams: Streams) -> Result<Execution, ExecError> {
        self.start_in(exec, streams, None)
    }

    /// The same with sockets of `network` among the streams.
    pub(crate) fn start_in(
        &self,
        exec: &Exec,
        streams: Streams,
        network: Option<BorrowedFd<'_>>,
    ) -> Result<Execution, ExecError> {
        exec.check()?;
        sockets::check_streams(&streams, network).map_err(refused)?;
        let (terminal, streams) = match streams {
            Streams::Descriptors {
                stdin,
                stdout,
                stderr,
            } => (None, [stdin, stdout, stderr]),
            Streams::Terminal => {
                let (ours, theirs) = open_terminal().map_err(prepare("a terminal"))?;
                (Some(ours), theirs)
            }
        };
        let list = exec.steps(streams, terminal.is_some());
        let (connection, report) = self.send(&list)?;
        match await_start(exec, &list, &report) {
            Ok(()) => {}
            Err(ExecError::Ended) => return Err(why_ended(&connection)),
            Err(error) => return Err(error),
        }
        Ok(Execution::started(connection, terminal))
    }

    fn send(&self, list: &StepList) -> Result<(OwnedFd, OwnedFd), ExecError> {
        let block = list.finish();
        if block.len() * 8 > IMAGE_BYTES_MAX {
            return Err(ExecError::TooLarge {
                bytes: block.len() * 8,
                bytes_max: IMAGE_BYTES_MAX,
            });
        }
        let connection = listener::connect(&self.path)?;
        let (report, theirs) = pair().map_err(prepare("a pair of sockets"))?;
        // A step list of this kind owns all its descriptors.
        let descriptors: Vec<BorrowedFd<'_>> = list.all_owned().collect();
        send(report.as_fd(), &block, &descriptors)?;
        match send(connection.as_fd(), &[0], &[theirs.as_fd()]) {
            Ok(()) => Ok((connection, report)),
            Err(ExecError::Ended) => Err(why_ended(&connection)),
            Err(error) => Err(error),
        }
    }
}

fn send(
    socket: BorrowedFd<'_>,
    words: &[u64],
    descriptors: &[BorrowedFd<'_>],
) -> Result<(), ExecError> {
    match host::send_request(socket, words, descriptors).map_err(errno) {
        Ok(()) => Ok(()),
        Err(Errno::EPIPE | Errno::ECONNRESET) => Err(ExecError::Ended),
        Err(Errno::EAGAIN) => Err(ExecError::Deadline),
        Err(errno) => Err(prepare("the request")(errno)),
    }
}

/// Lets the new process go on once it is ready, and sees it execute.
/// [`ExecError::Ended`]: it has ended, whoever did that.
fn await_start(exec: &Exec, list: &StepList, report: &OwnedFd) -> Result<(), ExecError> {
    match receive(exec, list, report)? {
        Some(found) if found.kind == Report::HELD => {}
        Some(_) => return Err(ExecError::Nonsense),
        None => return Err(ExecError::Ended),
    }
    match nix::unistd::write(report, b"1") {
        Ok(_) => {}
        Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ExecError::Ended),
        Err(errno) => return Err(prepare("the start")(errno)),
    }
    match receive(exec, list, report)? {
        // End of file: the socket went away with the exec.
        None => Ok(()),
        Some(_) => Err(ExecError::Nonsense),
    }
}

fn receive(exec: &Exec, list: &StepList, report: &OwnedFd) -> Result<Option<Report>, ExecError> {
    match host::receive_report(report.as_fd()).map_err(errno) {
        Ok(Some(found)) if found.kind == Report::FAILED => Err(failed(exec, list, &found)),
        Ok(found) => Ok(found),
        // What was sent to it, it has not read.
        Err(Errno::ECONNRESET) => Err(ExecError::Ended),
        Err(Errno::EAGAIN) => Err(ExecError::Deadline),
        Err(Errno::EPROTO) => Err(ExecError::Nonsense),
        Err(errno) => Err(prepare("the answer")(errno)),
    }
}

fn failed(exec: &Exec, list: &StepList, report: &Report) -> ExecError {
    let errno = Errno::from_raw(report.errno);
    let step = usize::try_from(report.step)
        .ok()
        .and_then(|at| list.steps().get(at));
    match step {
        Some(step) if step.op == Op::ExecuteFound => ExecError::Execute(errno),
        Some(step) if step.op == Op::EnterDirectory => ExecError::Directory {
            path: exec.working_directory.clone(),
            errno,
        },
        Some(step) => ExecError::Step {
            step: crate::plan::describe(step.op),
            errno,
        },
        None => ExecError::Nonsense,
    }
}

/// What the init says of a process that ended before it executed anything, or
/// was never made. An init that is gone says nothing.
fn why_ended(connection: &OwnedFd) -> ExecError {
    match execution::answer(connection) {
        Ok(Some(answer)) => match answer.kind {
            Answer::REFUSED if answer.detail == Place::Table as i32 => ExecError::TooMany,
            Answer::REFUSED => ExecError::Full(Errno::from_raw(answer.code)),
            Answer::ENDED => ExecError::EndedInside(ExitStatus::of_answer(&answer)),
            _ => ExecError::Nonsense,
        },
        Ok(None) | Err(Errno::ECONNRESET) => ExecError::Ended,
        Err(Errno::EAGAIN) => ExecError::Deadline,
        Err(Errno::EPROTO) => ExecError::Nonsense,
        Err(errno) => prepare("what the init says")(errno),
    }
}

fn how(status: ExitStatus) -> String {
    match status {
        ExitStatus::Exited(code) => format!("code {code}"),
        ExitStatus::Signaled(signal) => format!("signal {signal}"),
        ExitStatus::Unknown => "nobody knows how".to_owned(),
    }
}

/// Our side of a new terminal, and its other side three times.
fn open_terminal() -> Result<(OwnedFd, [OwnedFd; 3]), Errno> {
    let devpts = host::new_mount(
        c"devpts",
        &[
            (c"mode", Some(c"600")),
            (c"ptmxmode", Some(c"600")),
            (c"max", Some(c"1")),
        ],
        attribute::NO_SUID | attribute::NO_EXEC,
    )
    .map_err(errno)?;
    let (ours, theirs) = open_peer(&devpts)?;
    let copy = || {
        let copied = theirs.try_clone();
        copied.map_err(|error| crate::spawner::io_errno(&error))
    };
    Ok((ours, [copy()?, copy()?, theirs]))
}

fn prepare(what: &'static str) -> impl FnOnce(Errno) -> ExecError {
    move |errno| ExecError::Prepare { what, errno }
}

fn refused(error: crate::Error) -> ExecError {
    match error {
        crate::Error::Refused(refused) => ExecError::Refused(refused),
        crate::Error::Prepare { what, errno } => ExecError::Prepare { what, errno },
        _ => ExecError::Nonsense,
    }
}
