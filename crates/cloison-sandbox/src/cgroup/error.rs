//! What can go wrong with a cgroup.

use std::path::PathBuf;

use nix::errno::Errno;

use super::Hierarchy;
use crate::{Feature, SandboxName};

/// What an operator does where controllers are not handed on.
pub(crate) const DELEGATE: &str = "run this program with a delegated cgroup (systemd: Delegate=yes), in a \
                        cgroup of its own beneath it";

/// Why a cgroup was not found, made, frozen, emptied or removed.
///
/// Paths are escaped: they are fit to be shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CgroupError {
    /// A file of `/proc` could not be read.
    #[error("{path} cannot be read")]
    Proc {
        /// The file.
        path: String,
        /// What the kernel said.
        source: Errno,
    },
    /// A file of `/proc` is not in the form that the kernel documents.
    #[error("{path} is not in the form that the kernel documents")]
    Malformed {
        /// The file.
        path: String,
    },
    /// The host has no cgroup hierarchy at all.
    #[error("no cgroup hierarchy is mounted")]
    NoHierarchy,
    /// A hierarchy exists, but no mount of it shows the caller's own cgroup,
    /// or the one that was noted.
    #[error("no mount of the cgroup hierarchy {hierarchy} shows the cgroup {path}")]
    NotVisible {
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// The path there.
        path: String,
    },
    /// What was noted as a sandbox's cgroup cannot be one.
    #[error("{path} in the hierarchy {hierarchy} is no cgroup of the sandbox {name}")]
    NotOurs {
        /// The sandbox.
        name: SandboxName,
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// What was noted.
        path: String,
    },
    /// There is a cgroup of this name.
    #[error("the cgroup {path} exists already in the hierarchy {hierarchy}")]
    Conflict {
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// Its path there.
        path: String,
    },
    /// There is no cgroup of this name.
    #[error("there is no cgroup of the sandbox {name}")]
    Absent {
        /// The sandbox.
        name: SandboxName,
    },
    /// No hierarchy of the host can keep a limit that is asked for.
    #[error("no cgroup hierarchy of this host keeps a limit that is asked for: it lacks {feature}")]
    Lacking {
        /// What is lacking, with its remedy.
        feature: Feature,
    },
    /// The cgroup beneath which a sandbox's is made cannot hand controllers on.
    #[error(
        "the cgroup {path} cannot hand controllers on to a sandbox's: it holds processes, or was \
         not delegated; {DELEGATE}"
    )]
    NotDelegated {
        /// Its path in the hierarchy of version 2.
        path: String,
    },
    /// What limits are asked for is no block device of the host.
    #[error("{}: {source}", path.display())]
    Device {
        /// The path.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
    /// The kernel refused a limit.
    #[error(
        "`{setting}`: writing {file} of the cgroup {path} failed: {source}{}",
        remedy.map_or_else(String::new, |remedy| format!("; {remedy}"))
    )]
    Limit {
        /// The setting, as a file spells it.
        setting: &'static str,
        /// What the operator can do, where that is known.
        remedy: Option<&'static str>,
        /// The file.
        file: String,
        /// The cgroup's path.
        path: String,
        /// What the kernel said.
        source: Errno,
    },
    /// No hierarchy can freeze.
    #[error("no mounted cgroup hierarchy can freeze")]
    NoFreezer,
    /// The kernel refused a step.
    #[error("{step} the cgroup {path} in the hierarchy {hierarchy} failed")]
    Step {
        /// What was done.
        step: CgroupStep,
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// Its path there.
        path: String,
        /// What the kernel said.
        source: Errno,
    },
    /// A step was not done in time.
    #[error("{step} the cgroup {path} in the hierarchy {hierarchy} was not done in time")]
    Deadline {
        /// What was waited for.
        step: CgroupStep,
        /// The hierarchy.
        hierarchy: Hierarchy,
        /// Its path there.
        path: String,
    },
}

/// One thing that is done with a cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CgroupStep {
    /// Making its directory.
    Make,
    /// Opening its directory or its list of processes.
    Open,
    /// Giving it the parent's processors and memory nodes.
    FillCpuset,
    /// Having the cgroup above hand its controllers on.
    HandOn,
    /// Allowing a server's devices and no others.
    AllowDevices,
    /// Reading one of its files.
    Read,
    /// Freezing it.
    Freeze,
    /// Thawing it.
    Thaw,
    /// Ending its processes.
    Kill,
    /// Removing its directory.
    Remove,
}

impl std::fmt::Display for CgroupStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Make => "making",
            Self::Open => "opening",
            Self::FillCpuset => "filling the cpuset of",
            Self::HandOn => "having controllers for",
            Self::AllowDevices => "allowing devices in",
            Self::Read => "reading",
            Self::Freeze => "freezing",
            Self::Thaw => "thawing",
            Self::Kill => "emptying",
            Self::Remove => "removing",
        })
    }
}
