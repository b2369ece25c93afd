//! `host.toml`.

use cloison_sandbox::Waivers;
use serde::{Deserialize, Serialize};

use super::{FileError, Policy, SettingsFile};
use crate::ids::Pool;

/// The settings of a host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostSettings {
    /// The layers that this host goes without, each with its reason.
    pub waive: Waivers,
    /// The ids that it hands out to tenants.
    pub id_pool: Pool,
    /// What a tenant may ask for.
    pub policy: Policy,
}

impl HostSettings {
    /// What `file` says.
    ///
    /// # Errors
    /// [`FileError`], with the place.
    pub fn from_file(file: &SettingsFile) -> Result<Self, FileError> {
        file.parse()
    }
}
