//! One process tree in one enclosure.
//!
//! A [`Spec`] says all that is decided for one launch. Policy lives above
//! this crate: it knows no tenant.

mod ids;
mod layer;
pub mod seccomp;
mod spec;

pub use ids::{IdRange, IdRangeError};
pub use layer::Layer;
pub use spec::{
    Access, Init, Limits, Mount, Proc, Profile, Root, SandboxName, SandboxNameError, Spec, Sysfs,
    TmpfsSizes,
};
