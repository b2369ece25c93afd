//! One process tree in one enclosure.
//!
//! A [`Spec`] says all that is decided for one launch. Policy lives above
//! this crate: it knows no tenant.

pub mod cgroup;
mod ids;
mod kernel;
mod layer;
mod namespaces;
pub mod posture;
mod proc;
mod proc_path;
mod spawner;
mod spec;
mod steps;
mod waivers;

pub use cgroup::{Cgroup, CgroupError, Hierarchies, Hierarchy};
pub use ids::{IdRange, IdRangeError};
pub use kernel::{
    Absence, Feature, Kernel, KernelError, LayerVerdict, NotNeeded, State, Unavailable,
};
pub use layer::Layer;
pub use namespaces::{NamespaceError, NamespaceStep, NetworkNamespace, NetworkPool, UserNamespace};
pub use posture::{Difference, Posture, PostureError, SelfReport, Vantage};
pub use spawner::{SpawnError, spawner_pid};
pub use spec::{
    Access, Init, Limits, Mount, Proc, Profile, Root, SandboxName, SandboxNameError, Spec, Sysfs,
    TmpfsSizes,
};
pub use waivers::{WaiverError, Waivers};
