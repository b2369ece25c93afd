//! One process tree in one enclosure.
//!
//! A [`Spec`] says all that is decided for one launch. Policy lives above
//! this crate: it knows no tenant.

pub mod cgroup;
mod error;
mod held;
mod ids;
mod kernel;
mod layer;
mod layers;
mod namespaces;
mod plan;
pub mod posture;
mod proc;
mod proc_path;
mod sandbox;
pub mod seccomp;
mod spawner;
mod spec;
mod steps;
mod waivers;

pub use cgroup::{Cgroup, CgroupError, Hierarchies, Hierarchy};
pub use error::{Error, Refused};
pub use held::Held;
pub use ids::{IdRange, IdRangeError};
pub use kernel::{
    Absence, Feature, Kernel, KernelError, LayerVerdict, NotNeeded, State, Unavailable,
};
pub use layer::Layer;
pub use namespaces::{NamespaceError, NamespaceStep, NetworkNamespace, NetworkPool, UserNamespace};
pub use plan::{Io, Plan, Prepared, Streams, Weakening};
pub use posture::{Difference, Posture, PostureError, SelfReport, Vantage};
pub use sandbox::{ExitStatus, Sandbox};
pub use spawner::{SpawnError, spawner_pid};
pub use spec::{
    Access, Init, Limits, Mount, Proc, Profile, Root, SandboxName, SandboxNameError, Spec, Sysfs,
    Tcp, TmpfsSizes,
};
pub use waivers::{WaiverError, Waivers};
