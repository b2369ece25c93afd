//! The stage: the enclosure that plays the host in every privileged test.
//!
//! A weakened sandbox lets its attacker reach the host on purpose. That host
//! must be one that may be harmed. So an outer process makes a place with
//! mount, pid, network, ipc, uts and cgroup namespaces of its own, inside
//! cgroups that bound memory, processes and processor time, with a `/dev` of
//! its own, and ends it when its time is over. Inside, all rights are kept: no user namespace, no
//! filter, no dropped capability. The tests run there and see it as the host.
//!
//! One program plays all parts, and asks [`enter`] which one it has:
//!
//! ```text
//! outside          the program as the user started it
//!   | Enclosure::run: cgroups, a socket, starts the program again
//! first process    process 1 of the stage
//!   | placed in the cgroups; unshares; waits until the outer process has
//!   | compared its namespaces; mounts, names, timer; starts the program again
//! inside           the tests; checks the stage itself before it is one
//! ```
//!
//! When the outer process ends, for any reason, the stage ends with it. What a
//! killed outer process leaves are empty cgroups; the next run removes them.
//!
//! # Kernel
//! Where the devices controller of version 1 is mounted, no device opens but
//! those of the stage's `/dev`; elsewhere a root on the stage can make the node
//! of any. As each bound, it holds against accidents: a root on the stage can
//! lift it, and the tests' runner tells of that.
//!
//! Mounts of `/tmp` and `/run` of the machine are hidden on the stage: a
//! program that lies there cannot start itself by its path.

mod devices;
mod enclosure;
mod first_process;
mod hierarchies;
mod namespaces;
mod outer_cgroup;
mod refusal;
pub mod rtnetlink;

use std::env;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::signal::SigSet;

pub use enclosure::{Enclosure, Limits};
pub use first_process::FirstProcess;
pub use namespaces::{Machine, Namespace, NamespaceId, NamespaceIds, NamespaceIdsError};
pub use refusal::Refusal;

/// The environment variable that says which part the program plays.
pub const ROLE: &str = "CLOISON_STAGE_ROLE";
/// The environment variable with the ids of the machine's namespaces.
pub const MACHINE: &str = "CLOISON_STAGE_MACHINE";

const ROLE_FIRST: &str = "first-process";
const ROLE_INSIDE: &str = "inside";

/// The exit code of a stage whose time is over, that of timeout(1).
pub const EXIT_TIME_OVER: u8 = 124;
/// The exit code of a program that could not make its stage.
pub const EXIT_NO_STAGE: u8 = 125;

/// Which part this process plays.
#[derive(Debug)]
pub enum Place {
    /// On the machine: make an [`Enclosure`] and run the program there.
    Outside,
    /// Process 1 of a stage in the making: let it [`FirstProcess::run`].
    First(FirstProcess),
    /// On a stage.
    Inside(Stage),
}

/// Holding one tells you that the process that got it is on a stage: six
/// namespaces of its own, no way out of the network, no device of the machine
/// in `/dev`, limits on memory, processes, processor time and wall-clock time.
///
/// It does not tell you that a test has not undone one of these since.
#[derive(Debug)]
pub struct Stage {
    machine: Machine,
}

impl Stage {
    /// The namespaces that the stage differs from.
    #[must_use]
    pub const fn machine(&self) -> &Machine {
        &self.machine
    }
}

/// Finds out which part this process plays. Call it first thing in `main`,
/// while the process has one thread.
///
/// # Errors
/// The environment says that this is a stage, and it is none.
pub fn enter() -> Result<Place, Refusal> {
    let role = env::var(ROLE);
    match role.as_deref() {
        Err(_) => Ok(Place::Outside),
        Ok(ROLE_FIRST) => Ok(Place::First(FirstProcess::new())),
        Ok(_) => {
            let machine = handed_in()?;
            refusal::verify(&machine)?;
            // The outer process blocks those that it watches for.
            SigSet::empty()
                .thread_set_mask()
                .map_err(|errno| Refusal::Unreadable {
                    what: "the signal mask",
                    source: errno.into(),
                })?;
            Ok(Place::Inside(Stage { machine }))
        }
    }
}

fn handed_in() -> Result<Machine, Refusal> {
    env::var(MACHINE)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Refusal::Unreadable {
            what: MACHINE,
            source: io::ErrorKind::InvalidData.into(),
        })
}

/// Why a stage could not be made, or did not end by itself.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StageError {
    /// It would not have been a stage.
    #[error("the stage is refused")]
    Refused(#[from] Refusal),
    /// Only root can make one.
    #[error("a stage can only be made by root")]
    NotRoot,
    /// The cgroups of this process cannot be found.
    #[error("the cgroup hierarchies cannot be read")]
    CgroupsUnreadable(#[source] io::Error),
    /// No hierarchy has a controller that a stage is bounded by.
    #[error("no mounted cgroup hierarchy has the controller {controller}")]
    NoController {
        /// The controller.
        controller: &'static str,
    },
    /// A cgroup could not be made, bounded or removed.
    #[error("the cgroup file {} refused", path.display())]
    Cgroup {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A namespace or a mount could not be made.
    #[error("{step} failed")]
    Step {
        /// What was being done.
        step: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The program could not be started.
    #[error("{} cannot be started", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stage did what its protocol does not know.
    #[error("the first process of the stage ended or answered out of turn")]
    OutOfTurn,
    /// The stage was ended because its time was over.
    #[error("the time of the stage, {seconds} s, is over")]
    TimeOver {
        /// Its limit.
        seconds: u64,
    },
}

impl StageError {
    /// The exit code of a program that ends for this reason.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(refusal) => refusal.exit_code(),
            Self::TimeOver { .. } => EXIT_TIME_OVER,
            _ => EXIT_NO_STAGE,
        }
    }
}

fn step(step: &'static str) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::Step { step, source }
}

fn call(step: &'static str) -> impl FnOnce(Errno) -> StageError {
    move |errno| StageError::Step {
        step,
        source: errno.into(),
    }
}
