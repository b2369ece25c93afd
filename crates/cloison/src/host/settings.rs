//! What an operator decides of a host and of a tenant.

use cloison_sandbox::Waivers;
use serde::{Deserialize, Serialize};

use crate::ids::Pool;

/// The settings of a host: plain data, as `host.toml` has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostSettings {
    /// The ids that are handed out to tenants.
    pub id_pool: Pool,
    /// The layers that this host goes without, each with its reason.
    pub waive: Waivers,
}

/// The settings of a tenant: plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantSettings {
    /// What the operator notes of him.
    pub description: Description,
}

/// A line of text about a tenant: at most 200 bytes, no control character.
/// Empty is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Description(String);

/// Why a text is no [`Description`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a description is one line of at most {max} bytes, without control characters", max = Description::BYTES_MAX)]
pub struct DescriptionError;

impl Description {
    /// The longest.
    pub const BYTES_MAX: usize = 200;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Description {
    type Error = DescriptionError;

    fn try_from(text: String) -> Result<Self, DescriptionError> {
        if text.len() > Self::BYTES_MAX || text.chars().any(char::is_control) {
            Err(DescriptionError)
        } else {
            Ok(Self(text))
        }
    }
}

impl std::str::FromStr for Description {
    type Err = DescriptionError;

    fn from_str(text: &str) -> Result<Self, DescriptionError> {
        text.to_owned().try_into()
    }
}

impl From<Description> for String {
    fn from(description: Description) -> Self {
        description.0
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

    #[test]
    fn description_is_one_short_line() {
        assert!("customer no. 17".parse::<Description>().is_ok());
        assert!("a\nb".parse::<Description>().is_err());
        assert!("x".repeat(201).parse::<Description>().is_err());
    }
}
