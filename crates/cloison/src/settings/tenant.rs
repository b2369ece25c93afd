//! `tenant.toml`.

use serde::{Deserialize, Serialize};

use super::{Description, FileError, Policy, SettingsFile};

/// The settings of a tenant, which the operator writes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TenantSettings {
    /// What the operator notes of him.
    pub description: Description,
    /// What this tenant may ask for. `None`: what the host says for everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

impl TenantSettings {
    /// What `file` says.
    ///
    /// # Errors
    /// [`FileError`], with the place.
    pub fn from_file(file: &SettingsFile) -> Result<Self, FileError> {
        file.parse()
    }
}
