//! Why a probe said nothing.

use std::io;

use cloison_sandbox::Layer;
use nix::errno::Errno;

use super::Malformed;

/// Why it is not known whether a probe gets through. Never a pass.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The canary could not be made, or taken away.
    #[error("the canary: {what}")]
    Canary {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A helper that plays the host did not say what it should.
    #[error("the {role} said {said:?}")]
    Role {
        /// Its part.
        role: &'static str,
        /// Its output.
        said: String,
    },
    /// The sandbox to try it in could not be launched or asked.
    #[error("the sandbox without {}", names(.without))]
    Sandbox {
        /// The layers that were taken away.
        without: Vec<Layer>,
        /// Why.
        #[source]
        source: Box<cloison_sandbox::Error>,
    },
    /// No second command could be started in a sandbox.
    #[error("the command that is tried on")]
    Exec(#[source] cloison_sandbox::ExecError),
    /// The program did not end in time, and was ended.
    #[error("the attempt did not end in {limit_s} s in the sandbox without {}", names(.without))]
    Deadline {
        /// The layers that were taken away.
        without: Vec<Layer>,
        /// The time it had.
        limit_s: u64,
    },
    /// The program's output is none.
    #[error("in the sandbox without {}", names(.without))]
    Malformed {
        /// The layers that were taken away.
        without: Vec<Layer>,
        /// What is wrong with it.
        #[source]
        source: Malformed,
    },
    /// Ways could not be tried, so it is not known whether they are stopped.
    #[error("not tried in the sandbox without {}: {}", names(.without), .ways.join("; "))]
    Untried {
        /// The layers that were taken away.
        without: Vec<Layer>,
        /// The ways, with the reason of each.
        ways: Vec<String>,
    },
    /// What the program says and what was seen from outside differ.
    #[error("in the sandbox without {} word and sight differ: {}", names(.without), .ways.join("; "))]
    Contradicted {
        /// The layers that were taken away.
        without: Vec<Layer>,
        /// Where, a line each.
        ways: Vec<String>,
    },
    /// The kernel could not be probed, or no ids are free.
    #[error("the range of ids for the sandboxes")]
    Ids(#[from] cloison_sandbox::IdRangeError),
    /// The name of the sandboxes is none.
    #[error("the name of the sandboxes")]
    Name(#[from] cloison_sandbox::SandboxNameError),
}

fn names(layers: &[Layer]) -> String {
    if layers.is_empty() {
        return "nothing".to_owned();
    }
    let names: Vec<_> = layers.iter().map(|layer| layer.name()).collect();
    names.join(", ")
}

/// Says what was being done to a canary when it failed.
pub(super) fn canary<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> ProbeError {
    move |source| ProbeError::Canary {
        what,
        source: source.into(),
    }
}

/// The same for an error number.
pub(super) fn canary_errno(what: &'static str) -> impl FnOnce(Errno) -> ProbeError {
    canary(what)
}
