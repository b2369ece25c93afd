//! What can go wrong, and the exit code for it.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use cloison::settings::FileError;
use cloison_sandbox::{KernelError, PostureError, SandboxNameError};
use nix::errno::Errno;
use nix::sys::signal::Signal;

use crate::settings::Shown;

/// The sandbox could not be started, or the question not be answered.
pub(crate) const EXIT_OURS: u8 = 125;
/// The command cannot be executed.
pub(crate) const EXIT_NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const EXIT_NOT_FOUND: u8 = 127;

/// Why the launcher did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file of settings is refused: it shows the place itself.
    #[error(transparent)]
    File(Box<Shown>),
    /// The library of tenants refused, or a step failed.
    #[error(transparent)]
    Host(cloison::Error),
    /// The library refused, or a step failed.
    #[error("the sandbox was not started")]
    Start(#[source] cloison_sandbox::Error),
    /// A second command was not started in it.
    #[error("`{program}` was not started in the sandbox {name}")]
    Exec {
        name: String,
        program: String,
        source: cloison_sandbox::ExecError,
    },
    #[error("the sandbox {0} ended while the command ran")]
    EndedAround(String),
    #[error("the kernel could not be asked what it can do")]
    Kernel(#[from] KernelError),
    #[error("no command is given")]
    NoCommand,
    #[error("`{0}` is not found in {place}", place = crate::lookup::PATH)]
    NotOnPath(String),
    #[error("{program} is not in the root of the sandbox")]
    NoProgram { program: String },
    #[error("{program} cannot be executed: {reason}")]
    NotExecutable {
        program: String,
        reason: &'static str,
    },
    #[error("the root {} cannot be opened", path.display())]
    Root { path: PathBuf, source: Errno },
    #[error("the ids of sandboxes clash with the host's own")]
    Clash(#[source] cloison::Clash),
    /// A file or folder of ours, or one that we read, refused.
    #[error("{doing} {}", path.display())]
    Path {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("listening on {address} failed")]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    /// A signal came before the sandbox ran.
    #[error("ended by {0} before the sandbox was started")]
    Signalled(Signal),
    #[error("{doing} failed")]
    System { doing: &'static str, source: Errno },
    #[error("nobody waits to be told: this is no service of `Type=notify`")]
    NotAService,
    #[error("a service is one server, not {0}")]
    NotOneServer(usize),
    #[error("this host has no journal to write to")]
    NoJournal(#[source] io::Error),
    #[error("the exit status is not known: the process that would tell it was ended")]
    StatusUnknown,
    #[error("a name is refused")]
    Name(#[from] SandboxNameError),
    #[error("process {0} ended while it was looked at")]
    Ended(i32),
    #[error("the process cannot be looked at")]
    Posture(#[from] PostureError),
    #[error("writing the output failed")]
    Output(#[source] io::Error),
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::File(Box::new(error.into()))
    }
}

impl From<cloison::Error> for Error {
    fn from(error: cloison::Error) -> Self {
        match error {
            cloison::Error::File(error) => (*error).into(),
            cloison::Error::Path {
                doing,
                path,
                source,
            } => Self::Path {
                doing,
                path,
                source,
            },
            error => Self::Host(error),
        }
    }
}

impl Error {
    /// The exit code for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::NotOnPath(_) | Self::NoProgram { .. } => EXIT_NOT_FOUND,
            Self::NotExecutable { .. } => EXIT_NOT_EXECUTABLE,
            Self::Start(cloison_sandbox::Error::Execute(errno))
            | Self::Exec {
                source: cloison_sandbox::ExecError::Execute(errno),
                ..
            } => match errno {
                Errno::ENOENT => EXIT_NOT_FOUND,
                Errno::EACCES | Errno::ENOEXEC => EXIT_NOT_EXECUTABLE,
                _ => EXIT_OURS,
            },
            Self::Signalled(signal) => u8::try_from(128 + *signal as i32).unwrap_or(EXIT_OURS),
            Self::Host(
                cloison::Error::NoSandbox(_)
                | cloison::Error::NoTenant(_)
                | cloison::Error::NoServer(_)
                | cloison::Error::NoTree(_)
                | cloison::Error::NotRunning(_),
            )
            | Self::Ended(_)
            | Self::Posture(PostureError::Gone(_)) => 1,
            _ => EXIT_OURS,
        }
    }

    /// What the operator can do, where the message does not say it.
    pub(crate) fn remedy(&self) -> Option<String> {
        let fixed = match self {
            Self::Start(cloison_sandbox::Error::Unavailable(missing)) => missing.remedy,
            Self::Exec { source, .. } => return exec_remedy(source).map(str::to_owned),
            Self::NotAService => "leave --notify out, or start it as systemd's unit does",
            Self::NoJournal(_) => {
                "start systemd-journald, or say that what the servers write is to be thrown away: \
                 --output discard"
            }
            Self::NoCommand => {
                "give one: `cloison run ls /`, or a FILE.toml; `cloison run --help` has more"
            }
            Self::NotOnPath(_) => "name the program by its whole path inside the sandbox",
            Self::Host(cloison::Error::RunsAlready { .. }) => {
                "choose another with --name, or end that one first"
            }
            Self::Clash(_) => {
                "change that line, or name an id_pool in host.toml that keeps clear of it"
            }
            Self::Host(cloison::Error::Torn { .. }) => {
                "see that nothing of that sandbox runs, then remove the file; nothing is guessed"
            }
            Self::Host(cloison::Error::UnsafeState { .. }) => {
                "name a directory that only root can enter: --state DIR"
            }
            Self::Host(error) => return error.remedy().map(str::to_owned),
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}

fn exec_remedy(error: &cloison_sandbox::ExecError) -> Option<&'static str> {
    use cloison_sandbox::ExecError;
    match error {
        ExecError::Connect { .. } | ExecError::NoListener => Some(
            "a sandbox has one if it was launched with `init = \"on\"`, by this version or a later one",
        ),
        ExecError::Deadline => Some("`cloison inspect NAME` says whether it is frozen"),
        ExecError::TooMany => Some("end one of them: a signal to its `cloison exec` is handed on"),
        ExecError::Full(_) => Some("end something in it, or raise its limits"),
        ExecError::EndedInside(_) => Some(
            "its own command may signal what is started so: see what that does, or freeze it and \
             look at it from outside",
        ),
        ExecError::Directory { .. } => {
            Some("name a directory that is there inside the sandbox: --directory DIR")
        }
        ExecError::TooLarge { .. } => Some("hand it in as a file, or by standard input"),
        ExecError::Nonsense => {
            Some("freeze it, `cloison freeze NAME`, and look at it from outside")
        }
        _ => None,
    }
}

/// Names what was done to a path.
pub(crate) fn at(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Path {
        doing,
        path,
        source,
    }
}

/// Names the call that failed.
pub(crate) fn call(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |source| Error::System { doing, source }
}
