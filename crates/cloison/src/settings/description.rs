//! What an operator notes of a tenant.

use serde::{Deserialize, Serialize};

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
mod tests {
    use super::*;

    #[test]
    fn description_is_one_short_line() {
        assert!("customer no. 17".parse::<Description>().is_ok());
        assert!("a\nb".parse::<Description>().is_err());
        assert!("x".repeat(201).parse::<Description>().is_err());
    }
}
