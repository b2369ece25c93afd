//! One process tree in one enclosure.
//!
//! A [`Spec`] says all that is decided for one launch. Policy lives above
//! this crate: it knows no tenant.

pub mod cgroup;
mod ids;
mod layer;
mod namespaces;
mod proc_path;
mod spawner;
mod proc;
mod spec;
mod steps;

pub use cgroup::{Cgroup, CgroupError, Hierarchies, Hierarchy};
pub use ids::{IdRange, IdRangeError};
pub use layer::Layer;
pub use namespaces::{NamespaceError, NamespaceStep, NetworkNamespace, NetworkPool, UserNamespace};
pub use spawner::{SpawnError, spawner_pid};
pub use spec::{
    Access, Init, Limits, Mount, Proc, Profile, Root, SandboxName, SandboxNameError, Spec, Sysfs,
    TmpfsSizes,
};
