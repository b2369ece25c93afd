//! One file a layer, or a group of layers that one step serves.
//!
//! Each has the same parts in the same order: what it decides, which steps it
//! adds, what its posture should read. What it requires of the kernel stands
//! in one table (`kernel/requirements.rs`); how it is read back in `posture`.
//! The order of all steps stands in `plan/compose.rs`.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod command;
pub(crate) mod covers;
pub(crate) mod descriptors;
pub(crate) mod inherited;
pub(crate) mod landlock;
pub(crate) mod late;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod own_root;
pub(crate) mod proc_files;
pub(crate) mod rlimits;
pub(crate) mod root;
pub(crate) mod seccomp;
pub(crate) mod session;
pub(crate) mod speculation;
pub(crate) mod tree;
