//! What can go wrong, by what the caller can do.

use std::io;
use std::path::PathBuf;

use cloison_sandbox::{CgroupError, IdRange, SandboxName};
use nix::errno::Errno;

use crate::holders::Holder;
use crate::host::TenantState;
use crate::ids::{Block, Clash, Pool};
use crate::names::{ServerId, TenantName, TreeName};
use crate::settings::{FileError, PolicyError};

/// Why something was not done. Nothing of it was done then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory of ours, or one that we read, refused.
    #[error("{doing} {}", path.display())]
    Path {
        /// What was to be done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of settings is refused.
    #[error(transparent)]
    File(#[from] Box<FileError>),
    /// The directory of state is not safe to keep state in.
    #[error("{} is not safe to keep state in: {reason}", path.display())]
    UnsafeState {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A file of the state that this library did not write so.
    #[error("{} is not a file of this library, or is damaged", path.display())]
    Torn {
        /// The file.
        path: PathBuf,
        /// Where it stops making sense.
        source: Option<serde_json::Error>,
    },
    /// A file of the state that a later version wrote.
    #[error("{} is of format {found}; this version knows up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest that is known here.
        known: u32,
    },
    /// A file of the state that another host wrote.
    #[error("{} was written by another host", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A sandbox of that name runs already.
    #[error("a sandbox named {name} runs already: its launcher is process {launcher}")]
    RunsAlready {
        /// The name.
        name: SandboxName,
        /// Who launched it.
        launcher: i32,
    },
    /// Another sandbox that runs has these ids.
    #[error("the ids from {} belong to another sandbox that runs", .0.first())]
    IdsTaken(IdRange),
    /// No range of ids is free.
    #[error("every range of ids of the pool belongs to a sandbox that runs")]
    RangesExhausted,
    /// No sandbox of that name runs.
    #[error("no sandbox named {0} runs")]
    NoSandbox(SandboxName),
    /// It is being launched.
    #[error("the sandbox {0} is being launched, and does not run yet")]
    BeingLaunched(SandboxName),
    /// Nothing was ever launched with this directory.
    #[error("there is no directory {}, in which records would be", .0.display())]
    NoState(PathBuf),
    /// What died left something that cannot be removed.
    #[error("what a dead launcher left of the sandbox {name} cannot be removed")]
    Remains {
        /// Of which sandbox.
        name: SandboxName,
        /// Why.
        source: CgroupError,
    },
    /// The sandbox was refused, or a step of its launch failed. All is undone.
    #[error("the sandbox was not started")]
    Launch(#[source] cloison_sandbox::Error),
    /// The sandbox runs, or ran, and could not be handled.
    #[error("the sandbox {name} is out of control")]
    Control {
        /// Which.
        name: SandboxName,
        /// Why.
        source: cloison_sandbox::Error,
    },
    /// It was killed and has not ended.
    #[error("the sandbox {0} was killed and does not end: a process of it is stuck in the kernel")]
    StaysAlive(SandboxName),
    /// It was killed and cannot end.
    #[error("the sandbox {0} was killed and cannot end: somebody keeps it frozen")]
    KeptFrozen(SandboxName),
    /// It has ended, and its launcher has not noticed.
    #[error("the sandbox {name} has ended, but its launcher, process {launcher}, stays")]
    LauncherStays {
        /// Which.
        name: SandboxName,
        /// The launcher.
        launcher: i32,
    },
    /// The socket for `exec` could not be made.
    #[error("a socket to listen for commands was not made")]
    ExecListener(#[source] cloison_sandbox::ExecError),
    /// A call of the kernel's failed.
    #[error("{doing} failed")]
    System {
        /// What was to be done.
        doing: &'static str,
        /// What it said.
        source: Errno,
    },
    /// Somebody else has changed the state for too long.
    #[error("another process has held {} for too long", .0.display())]
    Locked(PathBuf),
    /// Nobody has this name.
    #[error("there is no tenant {0}")]
    NoTenant(TenantName),
    /// Somebody has this name already.
    #[error("there is a tenant {tenant} already, and he is {}", state.name())]
    NameTaken {
        /// The name.
        tenant: TenantName,
        /// What is there of him.
        state: TenantState,
    },
    /// It cannot be done to a tenant in this state.
    #[error("the tenant {tenant} is not present but {}", state.name())]
    NotPresent {
        /// Who.
        tenant: TenantName,
        /// What is there of him.
        state: TenantState,
    },
    /// No block is left for one more tenant.
    #[error(
        "the pool of ids, {} to {}, has no block left for one more tenant{}",
        pool.ids().start(),
        pool.ids().end(),
        told_of_waiting(*waiting, first_held.as_ref())
    )]
    PoolExhausted {
        /// The pool.
        pool: Pool,
        /// How many of its blocks were a tenant's who is no more.
        waiting: usize,
        /// What still has an id of the first of them.
        first_held: Option<Holder>,
    },
    /// A tenant's block is none of the pool's.
    #[error(
        "the ids {block} of the tenant {tenant} are no block of the pool, which is {} to {}",
        pool.ids().start(),
        pool.ids().end()
    )]
    PoolChanged {
        /// The pool as it is now.
        pool: Pool,
        /// The block.
        block: Block,
        /// Whose it is, or was.
        tenant: TenantName,
    },
    /// A line of the host's own names ids of the pool.
    #[error("the pool of ids clashes with the host's own")]
    Clash(#[source] Clash),
    /// A server asks for more than its tenant may have.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No server of this name is defined.
    #[error("there is no server {0}")]
    NoServer(ServerId),
    /// It is defined, and does not run.
    #[error("the server {0} does not run")]
    NotRunning(ServerId),
    /// The tenant has as many servers as he may have.
    #[error("the tenant {tenant} has {most} servers, and may have no more")]
    ServersExhausted {
        /// Whose.
        tenant: TenantName,
        /// How many he may have.
        most: u8,
    },
    /// A base that somebody else could change.
    #[error("{} is not the host root's alone to change", .0.display())]
    BaseNotOurs(PathBuf),
    /// There is a tree of this name.
    #[error("there is a tree {0} already")]
    TreeThere(TreeName),
    /// There is none.
    #[error("there is no tree {0}")]
    NoTree(TreeName),
    /// Somebody else is making or removing it.
    #[error("somebody else makes or removes {}", .0.display())]
    TreeBusy(PathBuf),
    /// A server is defined with it.
    #[error("the tree {tree} is the root of {}", listed(servers))]
    TreeInUse {
        /// The tree.
        tree: TreeName,
        /// Of which servers.
        servers: Vec<ServerId>,
    },
    /// Some of it could not be removed.
    #[error("{left} entries of the tree {tree} could not be removed")]
    TreeLeft {
        /// The tree.
        tree: TreeName,
        /// How many.
        left: u64,
    },
    /// A base was not copied.
    #[error("the base was not copied")]
    Copy(#[source] cloison_storage::copy::Error),
    /// A tenant's files could not be removed.
    #[error("removing {}", path.display())]
    Removal {
        /// Where they are.
        path: PathBuf,
        /// Why.
        source: cloison_storage::tree::Error,
    },
    /// A tree could not be walked.
    #[error("a tree could not be walked")]
    Tree(#[source] cloison_storage::tree::Error),
    /// Ids that no file of a tenant's may carry.
    #[error("the ids from {0} are not for files of a tenant's")]
    NoDiskIds(u32),
    /// Servers of a tenant run.
    #[error("servers of the tenant {tenant} run: {}", listed(servers))]
    ServersRun {
        /// Whose.
        tenant: TenantName,
        /// Which.
        servers: Vec<ServerId>,
    },
    /// Something has ids that must be nobody's.
    #[error("{holder} has one of the ids {block}")]
    IdsInUse {
        /// The ids.
        block: Block,
        /// What has one.
        holder: Holder,
    },
    /// There is something where a new tenant's storage would be.
    #[error("{} is there already, and no tenant's", .0.display())]
    StorageInTheWay(PathBuf),
    /// The storage could not be mounted with its flags.
    #[error("{} cannot be made nosuid, nodev and noexec", path.display())]
    StorageMount {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A tenant's root is not as it was made.
    #[error("{} is not a tenant's root: {reason}", path.display())]
    UnsafeStorage {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
}

fn told_of_waiting(waiting: usize, first_held: Option<&Holder>) -> String {
    match (waiting, first_held) {
        (0, _) => String::new(),
        (_, None) => format!("; {waiting} wait to be handed out again"),
        (_, Some(holder)) => format!(
            "; {waiting} wait to be handed out again, the first because {holder} has one of its ids"
        ),
    }
}

fn listed(servers: &[ServerId]) -> String {
    let names: Vec<String> = servers.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// Names the call that failed.
pub(crate) fn call(doing: &'static str) -> impl FnOnce(Errno) -> Error {
    move |source| Error::System { doing, source }
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Box::new(error).into()
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

impl Error {
    /// What an operator can do.
    #[must_use]
    pub fn remedy(&self) -> Option<&'static str> {
        Some(match self {
            Self::UnsafeState { .. } => "name a directory that only root can enter",
            Self::Torn { .. } => {
                "bring the file back from a backup of this host; nothing is guessed"
            }
            Self::Newer { .. } => "use the version that wrote it, or a later one",
            Self::Foreign { .. } => {
                "each host has a state of its own: name another directory, or bring back that of \
                 this host"
            }
            Self::RunsAlready { .. } => "choose another name, or end that one first",
            Self::IdsTaken(_) => "leave `ids` out of the file: a free range is taken then",
            Self::RangesExhausted => "end a sandbox first: a host has room for 4094",
            Self::Launch(cloison_sandbox::Error::Unavailable(missing)) => missing.remedy,
            Self::BeingLaunched(_) => "again in a moment; or end its launcher",
            Self::NoState(_) => "name the directory that its launcher was given: --state DIR",
            Self::StaysAlive(_) => "see what it waits for: `cat /proc/PID/stack`; then again",
            Self::KeptFrozen(_)
            | Self::Control {
                source: cloison_sandbox::Error::KeptFrozen(_),
                ..
            } => "end what freezes it, or thaw the cgroup above it; then again",
            Self::LauncherStays { .. } => {
                "end that launcher: what it left is removed at the next start"
            }
            Self::Locked(_) => "look who holds it: `lslocks`",
            Self::NoTenant(_) => "see who there is: `cloison tenant list`",
            Self::NameTaken { state, .. } | Self::NotPresent { state, .. } => state.remedy(),
            Self::PoolExhausted { .. } => {
                "name a larger id_pool in host.toml: the default one with an earlier `first`, a \
                 multiple of 1048576, has one tenant more for each; or end what has the ids that \
                 wait"
            }
            Self::PoolChanged { .. } => {
                "give host.toml the id_pool back that it had; a larger one takes the old one in, \
                 and begins whole blocks of 1048576 before it"
            }
            Self::Clash(_) => {
                "change that line, or name an id_pool in host.toml that keeps clear of it"
            }
            Self::Policy(_) => {
                "ask for less, or change the rule in host.toml or in the tenant's file"
            }
            Self::BaseNotOurs(_) => {
                "name a directory that belongs to root, and that nobody else can write to"
            }
            Self::TreeThere(_) => "remove it first: `cloison tree remove TENANT TREE`",
            Self::NoTree(_) => "see which there are: `cloison tree list TENANT`",
            Self::TreeBusy(_) => {
                "wait for that one; what a dead one left is replaced by the next `cloison tree add`"
            }
            Self::TreeInUse { .. } => "take those servers down first: `cloison down TENANT/SERVER`",
            Self::TreeLeft { .. } => {
                "see what holds it, as a mount or an immutable file; then add a tree of this name \
                 to replace it"
            }
            Self::NoServer(_) => "see which there are: `cloison ps`",
            Self::NotRunning(_) => "start it: `cloison up TENANT/SERVER`",
            Self::ServersExhausted { .. } => {
                "take one down, or raise `policy.servers_max`; no tenant has more than 15"
            }
            Self::ServersRun { .. } => "stop them first",
            Self::IdsInUse { .. } => "end it, then again",
            Self::StorageInTheWay(_) => {
                "see whose it is, and move it away: nothing of nobody's is removed"
            }
            Self::StorageMount { .. } => {
                "as root, Linux 5.12 or later; or mount a file system of its own there with these \
                 options"
            }
            Self::UnsafeStorage { .. } => {
                "see who changed it, and bring it back from a backup of this host"
            }
            Self::File(_)
            | Self::Path { .. }
            | Self::NoSandbox(_)
            | Self::Remains { .. }
            | Self::Control { .. }
            | Self::ExecListener(_)
            | Self::Launch(_)
            | Self::Copy(_)
            | Self::Tree(_)
            | Self::Removal { .. }
            | Self::NoDiskIds(_)
            | Self::System { .. } => return None,
        })
    }
}
