//! What is known of a feature.

use nix::errno::Errno;

use super::Feature;
use crate::cgroup::DELEGATE;

/// What is known of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was tried, and its result was used.
    Present,
    /// What it protects from cannot happen here.
    NotNeeded(NotNeeded),
    /// It cannot be had.
    Absent(Absence),
}

/// Why a feature is not needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotNeeded {
    /// No core has a second thread in use.
    #[error("no core of this machine runs two threads (SMT is off)")]
    SmtOff,
    /// The processor does not have the flaw.
    #[error("this processor is not affected")]
    NotAffected,
    /// The kernel restricts every process already.
    #[error("the kernel restricts every process already")]
    RestrictedForAll,
    /// No hierarchy of version 2 exists to be born in.
    #[error("this host has no cgroup hierarchy of version 2")]
    NoUnifiedHierarchy,
}

/// Why a feature cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Absence {
    /// The kernel refused.
    #[error("the kernel refused it: {0}")]
    Refused(Errno),
    /// It was given, but what it should stop went through, or what it should
    /// allow failed.
    #[error("the kernel gave it, but it has no effect")]
    Powerless,
    /// It is there, but the boot options withhold it from processes.
    #[error("the kernel withholds it from processes")]
    Withheld,
    /// It could not be tried without another feature, which is absent.
    #[error("it cannot be tried without {0}")]
    Needs(Feature),
    /// This kernel's Landlock is too old.
    #[error("it needs Landlock ABI {needed}, and this kernel has {found}")]
    LandlockTooOld {
        /// The ABI that brought it.
        needed: i64,
        /// The ABI of this kernel.
        found: i64,
    },
    /// No cgroup hierarchy that could do it is mounted.
    #[error("no cgroup hierarchy that can do it is mounted")]
    NoHierarchy,
    /// A hierarchy is mounted, but not so that the caller's own cgroup is
    /// beneath the mount.
    #[error("no mount of a cgroup hierarchy shows this program's own cgroup")]
    OwnCgroupHidden,
    /// The cgroup beneath which sandboxes' own are made hands no controllers
    /// on.
    #[error(
        "the cgroup around this program hands no controllers on: it holds processes, or was not delegated"
    )]
    NotDelegated,
    /// The process that tried it ended, or did not answer in time.
    #[error("the process that tried it ended or hung")]
    NoAnswer,
    /// It was not tried.
    #[error("it was not tried")]
    NotTried,
    /// [`Kernel::without`](super::Kernel::without) took it away.
    #[error("it was taken away for a test")]
    TakenAway,
}

impl Absence {
    /// What the operator can do, where that is another thing than the feature's
    /// own remedy.
    pub(super) fn remedy(self) -> Option<&'static str> {
        match self {
            Self::NotDelegated => Some(DELEGATE),
            _ => None,
        }
    }
}

impl State {
    /// Whether what the feature is for is given: present, or not needed.
    #[must_use]
    pub fn is_met(self) -> bool {
        !matches!(self, Self::Absent(_))
    }
}

impl From<Result<(), Absence>> for State {
    fn from(tried: Result<(), Absence>) -> Self {
        match tried {
            Ok(()) => Self::Present,
            Err(absence) => Self::Absent(absence),
        }
    }
}
