//! Tenants on one host: who is who, and what is theirs.
//!
//! This crate is policy. A host knows its tenants; each owns a [`Block`] of
//! ids that nobody else has, a storage root, and servers. How a server is
//! enclosed is `cloison-sandbox`'s, how its trees are kept `cloison-storage`'s.

mod error;
mod holders;
mod host;
mod ids;
mod names;
pub mod runtime;
pub mod settings;
mod state;

pub use cloison_storage::Devices;
pub use cloison_storage::copy::{Copied, Options as CopyOptions, Way as CopyWay};
pub use error::Error;
pub use holders::Holder;
pub use host::{Defined, Host, Removal, Retired, ServerStatus, Tenant, TenantState, TreeStatus};
pub use ids::{Block, Clash, Documented, Pool, PoolError, Slot, SlotError, clashes};
pub use names::{NameError, ServerId, ServerName, TenantName, TreeName};
pub use settings::{Description, HostSettings, Policy, ServerSettings, TenantSettings};
pub use state::{Exclusive, StateDirectory};
