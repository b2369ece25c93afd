//! The files that an operator writes: `host.toml`, `tenant.toml`, `server.toml`.
//!
//! An unknown key is refused, with the one that may be meant. What is wrong is
//! told with its place in the file.

mod description;
mod file;
mod host;
mod place;
mod policy;
mod server;
mod tenant;

pub use description::{Description, DescriptionError};
pub use file::{FileError, SettingsFile};
pub use host::HostSettings;
pub use policy::{Policy, PolicyError};
pub use server::{ServerPlace, ServerRoot, ServerSettings, TreeAccess};
pub use tenant::TenantSettings;
