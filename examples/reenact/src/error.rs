//! Why the re-enactment could not be played to its end.

use std::io;
use std::path::PathBuf;

use cloison_escape::stage::{Refusal, StageError};
use cloison_sandbox::{IdRangeError, KernelError, SandboxNameError};
use linux_keyutils::KeyError;
use nix::errno::Errno;

use crate::tenants;

/// Why the re-enactment could not be played to its end. None of these is a
/// result: what was measured then says nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ReenactError {
    /// This is no place to play: the machine could be reached from it.
    #[error("this is not a stage")]
    Refused(#[source] Refusal),
    /// The stage could not be made.
    #[error("making the stage")]
    Stage(#[source] StageError),
    /// This program does not find itself, to start itself on the stage.
    #[error("finding this program")]
    Itself(#[source] io::Error),
    /// A file or folder of the ground could not be made.
    #[error("making {path} on the ground", path = path.display())]
    Ground { path: PathBuf, source: io::Error },
    /// A mount of the ground could not be made.
    #[error("mounting the ground: {step}")]
    Mount {
        step: &'static str,
        #[source]
        errno: Errno,
    },
    /// A key that is a canary could not be made.
    #[error("adding the key of {tenant}")]
    Key {
        tenant: &'static str,
        source: KeyError,
    },
    /// A tenant's server could not be started.
    #[error("starting the server of {tenant}")]
    Start {
        tenant: &'static str,
        source: io::Error,
    },
    /// The kernel could not be asked what it can do.
    #[error("asking the kernel what it can do")]
    Kernel(#[source] KernelError),
    /// What all sandboxes need could not be made.
    #[error("preparing the sandboxes")]
    Walls(#[source] cloison_sandbox::Error),
    /// A tenant's sandbox could not be made or removed.
    #[error("the sandbox of {tenant}")]
    Enclose {
        tenant: &'static str,
        source: cloison_sandbox::Error,
    },
    /// A range of ids is none.
    #[error("handing out ids")]
    Ids(#[source] IdRangeError),
    /// A tenant's name is none for a sandbox.
    #[error("naming a sandbox")]
    Name(#[source] SandboxNameError),
    /// The relay of a tenant could not be made.
    #[error("making the relay of {tenant}")]
    Relay {
        tenant: &'static str,
        source: io::Error,
    },
    /// A server does not answer before anything was done to it.
    #[error("the server of {tenant} does not answer {wait_s} s after its start")]
    NotReady { tenant: &'static str, wait_s: u64 },
    /// A tenant is not whole before the attack: the measuring is wrong.
    #[error("{tenant} is not whole before the attack: {found}")]
    NotWhole { tenant: &'static str, found: String },
    /// The request that begins the attack was refused.
    #[error("the server of {tenant} answered {status} to the request that begins the attack")]
    NotBegun { tenant: &'static str, status: u16 },
    /// No tenant has this name.
    #[error("no tenant is named {0:?}: one of {names}", names = tenants::NAMES.join(", "))]
    NoSuchTenant(String),
    /// The output could not be written.
    #[error("writing the output")]
    Output(#[source] io::Error),
}

impl ReenactError {
    /// For `map_err` on what is done to `path`.
    pub(crate) fn ground(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Ground { path, source }
    }

    /// For `map_err` on a mount call.
    pub(crate) fn mount(step: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::Mount { step, errno }
    }
}
