//! The fault tool: runs a program, follows every process that comes of it,
//! and lets one system call go wrong.
//!
//! The program is traced (ptrace(2)) from its first instruction, with all that
//! it starts, through clone, exec, new namespaces and a non-dumpable memfd.
//! Each process has a [`Role`]. A run without a [`Fault`] records every call
//! by role; a run with one makes the n-th call of a role fail, or ends the
//! whole process at the entry of it. Either way the [`Trace`] says what was
//! hit, how each process ended, and, where one never did, who hangs.
//!
//! What a run should have left alone (cgroups, mounts, files) is the test's to
//! compare: [`crate::Snapshot`] does that.
//!
//! To point it at other code, write a small program that does the thing once,
//! and bracket what matters with [`mark`]:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use cloison_tests::fault::{Deed, Fault, Role, Traced, traced};
//!
//! let limit = Duration::from_secs(30);
//! // `wrapper` is the program `traced` of this package.
//! # let wrapper = std::path::Path::new("traced");
//! let run = |fault| Traced::start(traced(wrapper, "/usr/bin/true".as_ref(), &[]), fault).end(limit);
//! let calls = run(None).unwrap().calls.len();
//! for nth in 0..calls {
//!     let trace = run(Some(Fault::at(Role::Caller, nth, Deed::Kill))).unwrap();
//!     assert!(trace.hit.is_some());
//! }
//! ```
//!
//! Counts are never to be relied on: a run may make a call more or less than
//! the one before. A loop over `nth` ends with the first run that was not hit.
//!
//! # Kernel
//! x86-64; root, or the tracer of its own children.
//!
//! # Source
//! ptrace(2)

mod call;
mod plausible;
mod task;
mod tracer;

use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

pub use call::Call;
pub use plausible::{Injection, plausible};
pub use task::Role;
pub use tracer::{Ending, Hit, RunError, Trace, Traced};

/// Process ids from here on are no process's: signal 0 to one is a mark.
const MARKS: i32 = 0x7fff_ff00;
/// The last phase that can be marked.
const PHASE_MAX: u8 = 0xff;

/// Tells the tool, if it is looking, that a phase of the program begins: calls
/// made from here on belong to it. A program starts in phase 0.
///
/// It is a signal 0 to a process that cannot exist, which changes nothing.
///
/// # Panics
/// If there is such a process.
pub fn mark(phase: u8) {
    let told = kill(Pid::from_raw(MARKS + i32::from(phase)), None);
    assert_eq!(told, Err(Errno::ESRCH), "nobody has this number");
}

/// What goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Whose call.
    pub role: Role,
    /// In which phases calls count.
    pub phases: RangeInclusive<u8>,
    /// Which of those calls, from 0.
    pub nth: usize,
    /// What becomes of it.
    pub deed: Deed,
}

impl Fault {
    /// The `nth` call of `role` in the whole run.
    #[must_use]
    pub fn at(role: Role, nth: usize, deed: Deed) -> Self {
        Self {
            role,
            phases: 0..=PHASE_MAX,
            nth,
            deed,
        }
    }

    /// The same, counted in these phases only.
    #[must_use]
    pub fn within(self, phases: RangeInclusive<u8>) -> Self {
        Self { phases, ..self }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is not made, and fails so.
    Fail(Errno),
    /// It fails in its n-th [`plausible`] way; if there is none, nothing
    /// happens and the run counts as hit.
    FailPlausibly(usize),
    /// It is not made: SIGKILL ends the process.
    Kill,
}

/// The command that runs `program` under the tool. `wrapper` is the program
/// `traced` of this package (`env!("CARGO_BIN_EXE_traced")`).
#[must_use]
pub fn traced(wrapper: &Path, program: &OsStr, arguments: &[OsString]) -> Command {
    let mut command = Command::new(wrapper);
    command.arg(program).args(arguments);
    command
}
