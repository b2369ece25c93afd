//! One tenant's trees, volumes and images, on descriptors.
//!
//! This crate is mechanism: it knows ids and directories, no tenant. Nothing in
//! it resolves a path that a tenant can influence by name: everything is opened
//! beneath a descriptor, and no link is followed.
//!
//! - [`tree`]: a tree is counted, searched for ids, removed.
//! - [`copy`]: a provider's tree becomes a tenant's, each file an inode of its own.
//! - [`unpack`]: an archive becomes a tree, inside a sandbox of the tenant's.

mod beneath;
pub mod copy;
mod devices;
mod escaped;
pub mod tree;
pub mod unpack;

pub use devices::Devices;
pub use escaped::EscapedName;
