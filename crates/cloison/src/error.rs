//! What can go wrong, by what the caller can do.

use std::io;
use std::path::PathBuf;

use crate::holders::Holder;
use crate::host::TenantState;
use crate::ids::{Block, Clash, Pool};
use crate::names::{ServerId, TenantName};

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
            Self::Path { .. } => return None,
        })
    }
}
