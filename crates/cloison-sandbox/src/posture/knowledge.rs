//! How a field is known.

use serde::Serialize;

/// How a field of a posture is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Knowledge {
    /// The kernel says it of the process.
    Read,
    /// The process said it of itself before it ran anything foreign.
    SelfReported,
    /// It is not known.
    Unreadable(Reason),
}

/// Why a field is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reason {
    /// No interface of the kernel tells it of another process, nor of
    /// oneself without effect.
    NoInterface,
    /// A plan refuses it, so that a sandbox starts without it; of a running
    /// process it is not read.
    PlanRefuses,
    /// The process has not reported it.
    NotReported,
    /// This kernel does not show it.
    NotShown,
    /// What the kernel showed is not in the form that it documents.
    Malformed,
    /// The kernel refused, with this error number.
    Refused(i32),
}

impl std::fmt::Display for Knowledge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read => f.write_str("read"),
            Self::SelfReported => f.write_str("self-reported"),
            Self::Unreadable(reason) => write!(f, "unreadable: {reason}"),
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoInterface => f.write_str("no interface of the kernel tells"),
            Self::PlanRefuses => f.write_str("a plan refuses one, and nobody looks later"),
            Self::NotReported => f.write_str("not reported"),
            Self::NotShown => f.write_str("not shown by this kernel"),
            Self::Malformed => f.write_str("not in the documented form"),
            Self::Refused(errno) => write!(f, "{:?}", nix::errno::Errno::from_raw(*errno)),
        }
    }
}
