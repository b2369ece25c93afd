//! `host.toml`.

use cloison_sandbox::Waivers;
use serde::{Deserialize, Serialize};

use super::{FileError, Policy, SettingsFile};
use crate::ids::Pool;

/// The settings of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn host_without_settings_has_the_default_pool() {
        let settings: HostSettings = toml::from_str("").unwrap();
        assert_eq!(settings, HostSettings::default());
        let text = "[id_pool]\nfirst = 1048576\nlast = 2147352575\n";
        let larger: HostSettings = toml::from_str(text).unwrap();
        assert_eq!(larger.id_pool.blocks().count(), 2046);
        assert!(toml::from_str::<HostSettings>("id_pol = 1").is_err());
        assert!(toml::from_str::<HostSettings>("[id_pool]\nfirst = 1\nlast = 2\n").is_err());
    }
}
