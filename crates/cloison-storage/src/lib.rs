//! One tenant's trees, volumes and images, on descriptors.
//!
//! This crate is mechanism: it knows ids and directories, no tenant. Nothing in
//! it resolves a path that a tenant can influence by name: everything is opened
//! beneath a descriptor, and no link is followed.
//!
//! - [`tree`]: a tree is counted, searched for ids, removed.
//! - [`copy`]: a provider's tree becomes a tenant's, each file an inode of its own.
//! - [`unpack`]: an archive becomes a tree, inside a sandbox of the tenant's.
//! - [`Volumes`]: file systems of a tenant's own, whose bounds hold.
//! - [`ProviderImage`]: an image of the provider's, mounted once for each tenant.

mod beneath;
pub mod copy;
mod devices;
mod escaped;
mod image;
mod loop_device;
pub mod tree;
pub mod unpack;
mod volume;

pub use devices::Devices;
pub use escaped::EscapedName;
pub use image::{ImageKind, ProviderImage};
pub use loop_device::HostCache;
pub use volume::{
    Attached, Kind, Lacking, Limits, Means, NewVolume, Refused, Space, Volume, VolumeError,
    VolumeName, Volumes,
};
