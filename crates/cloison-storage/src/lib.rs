//! One tenant's trees, volumes and images, on descriptors.
//!
//! This crate is mechanism: it knows ids and directories, no tenant. Nothing in
//! it resolves a path that a tenant can influence by name: everything is opened
//! beneath a descriptor, and no link is followed.

mod image;
mod loop_device;
mod volume;

pub use image::{ImageKind, ProviderImage};
pub use loop_device::HostCache;
pub use volume::{
    Attached, Kind, Lacking, Limits, Means, NewVolume, Refused, Space, Volume, VolumeError,
    VolumeName, Volumes,
};
