//! Who is who among the processes of a run.

use std::fs;

use nix::sys::ptrace;
use nix::unistd::Pid;

use super::call::word;

/// Processes born into these are a sandbox's; others only make a namespace.
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_THREAD: u64 = 0x1_0000;
const NR_CLONE: u64 = 56;
const NR_CLONE3: u64 = 435;

/// The part that a process plays in a launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Not yet the program: what it is started by.
    Wrapper,
    /// The program, all its threads.
    Caller,
    /// The caller's copy, before it executes.
    Starter,
    /// The spawner.
    Spawner,
    /// A process that the spawner makes a namespace with.
    Maker,
    /// A sandbox's process before it executes.
    Child,
    /// The init.
    Init,
    /// The init's copy, before it executes.
    Starting,
    /// What the sandbox runs: followed, but its calls are its own.
    Command,
    /// Any other process that the caller starts.
    Other,
}

impl Role {
    /// The name that reports use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wrapper => "wrapper",
            Self::Caller => "caller",
            Self::Starter => "starter",
            Self::Spawner => "spawner",
            Self::Maker => "maker",
            Self::Child => "child",
            Self::Init => "init",
            Self::Starting => "starting",
            Self::Command => "command",
            Self::Other => "other",
        }
    }

    /// What `parent`, stopped while it makes it, makes.
    pub(super) fn of_new(self, parent: Pid) -> Self {
        let flags = clone_flags(parent);
        if flags & CLONE_THREAD != 0 {
            return self;
        }
        match self {
            Self::Caller => Self::Starter,
            Self::Spawner if flags & (CLONE_NEWNS | CLONE_NEWPID) != 0 => Self::Child,
            Self::Spawner => Self::Maker,
            // A caller that makes its child itself.
            Self::Init => Self::Starting,
            Self::Starting | Self::Command => Self::Command,
            Self::Wrapper | Self::Starter | Self::Maker | Self::Child | Self::Other => Self::Other,
        }
    }

    /// What it is once it has executed something else.
    pub(super) fn after_exec(self, pid: Pid) -> Self {
        // The static program of ours lies in a memfd of this name.
        let executed = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let is_ours = executed.to_string_lossy().starts_with("/memfd:cloison");
        match self {
            Self::Wrapper => Self::Caller,
            Self::Starter if is_ours => Self::Spawner,
            Self::Child if is_ours => Self::Init,
            Self::Child | Self::Init | Self::Starting | Self::Command => Self::Command,
            Self::Starter | Self::Other => Self::Other,
            Self::Caller | Self::Spawner | Self::Maker => self,
        }
    }
}

/// The flags of the clone that a stopped process is in.
fn clone_flags(parent: Pid) -> u64 {
    let Ok(registers) = ptrace::getregs(parent) else {
        return 0;
    };
    match registers.orig_rax {
        NR_CLONE => registers.rdi,
        NR_CLONE3 => word(parent, registers.rdi).unwrap_or(0),
        _ => 0,
    }
}

/// A thread that is followed.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) role: Role,
    /// The stop that every new one begins with is still to come.
    pub(super) is_new: bool,
    /// The call it is in: its place among the recorded ones, if it is one.
    pub(super) call: Option<InCall>,
}

/// A call that has begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct InCall {
    pub(super) recorded: Option<usize>,
    /// What it will be told.
    pub(super) result: Option<i64>,
}

impl Task {
    pub(super) fn new(role: Role, is_new: bool) -> Self {
        Self {
            role,
            is_new,
            call: None,
        }
    }
}
