//! Layers that a host goes without, each with its reason.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Layer;

/// The layers that `host.toml` lets go without, each with its reason.
///
/// Holding one tells you that every layer in it may be waived and that a
/// reason is given. It does not tell you that a layer in it is missing: a
/// waiver counts only where the kernel cannot give the layer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Waivers {
    #[serde(deserialize_with = "crate::spec::without_duplicates")]
    waived: BTreeMap<WaivableLayer, Reason>,
}

/// Why a waiver is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WaiverError {
    /// The layer is one that every sandbox has.
    #[error("the layer {0} cannot be waived: every sandbox has it")]
    NotWaivable(Layer),
    /// No reason is given.
    #[error("a waiver needs a reason: say in one line why this host may go without the layer")]
    NoReason,
    /// The reason has a line break or another control character, which
    /// reports could not show in one line.
    #[error("the reason of a waiver is one line of text, without control characters")]
    NotOneLine,
}

impl Waivers {
    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a waiver, or replaces the reason of one.
    ///
    /// # Errors
    /// [`WaiverError`], each variant.
    pub fn waive(&mut self, layer: Layer, reason: impl Into<String>) -> Result<(), WaiverError> {
        let layer = WaivableLayer::try_from(layer)?;
        self.waived.insert(layer, Reason::try_from(reason.into())?);
        Ok(())
    }

    /// The reason for which `layer` is waived.
    #[must_use]
    pub fn reason(&self, layer: Layer) -> Option<&str> {
        self.waived
            .get(&WaivableLayer(layer))
            .map(|reason| reason.0.as_str())
    }

    /// The waivers, in the order of the layers.
    pub fn iter(&self) -> impl Iterator<Item = (Layer, &str)> {
        self.waived
            .iter()
            .map(|(layer, reason)| (layer.0, reason.0.as_str()))
    }
}

/// A layer that [`Layer::is_waivable`] names. Parsed for itself, so that an
/// error in a file points at the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Layer")]
struct WaivableLayer(Layer);

impl TryFrom<Layer> for WaivableLayer {
    type Error = WaiverError;

    fn try_from(layer: Layer) -> Result<Self, WaiverError> {
        if layer.is_waivable() {
            Ok(Self(layer))
        } else {
            Err(WaiverError::NotWaivable(layer))
        }
    }
}

/// One line of text that is not blank.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
struct Reason(String);

impl TryFrom<String> for Reason {
    type Error = WaiverError;

    fn try_from(reason: String) -> Result<Self, WaiverError> {
        if reason.trim().is_empty() {
            return Err(WaiverError::NoReason);
        }
        if reason.chars().any(char::is_control) {
            return Err(WaiverError::NotOneLine);
        }
        Ok(Self(reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Host {
        waive: Waivers,
    }

    fn parse(line: &str) -> Result<Waivers, String> {
        toml::from_str::<Host>(&format!("[waive]\n{line}\n"))
            .map(|host| host.waive)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn only_waivable_layers_are_waived() {
        for layer in Layer::ALL {
            let parsed = parse(&format!("{layer} = \"a reason\""));
            let mut waivers = Waivers::none();
            let waived = waivers.waive(layer, "a reason");
            if layer.is_waivable() {
                assert_eq!(waived, Ok(()));
                assert_eq!(waivers.reason(layer), Some("a reason"));
                assert_eq!(parsed, Ok(waivers));
            } else {
                assert_eq!(waived, Err(WaiverError::NotWaivable(layer)));
                assert_eq!(waivers, Waivers::none());
                let error = parsed.err().unwrap_or_default();
                let wanted = format!("the layer {layer} cannot be waived");
                assert!(error.contains(&wanted), "{error}");
                assert!(error.contains("line 2, column 1"), "{error}");
            }
        }
    }

    #[test]
    fn a_waiver_without_a_reason_is_refused() {
        for (reason, wanted) in [
            ("\"\"", "needs a reason"),
            ("\" \\t \"", "needs a reason"),
            ("\"two\\nlines\"", "one line of text"),
            ("\"\\u001b[2J\"", "one line of text"),
            ("true", "expected a string"),
        ] {
            let error = parse(&format!("core-scheduling = {reason}"))
                .err()
                .unwrap_or_default();
            assert!(error.contains(wanted), "{reason}: {error}");
            assert!(error.contains("line 2, column 19"), "{reason}: {error}");
        }
    }

    #[test]
    fn an_unknown_layer_is_refused_with_its_place() {
        let error = parse("core-sheduling = \"typo\"").err().unwrap_or_default();
        assert!(
            error.contains("unknown variant `core-sheduling`"),
            "{error}"
        );
        assert!(error.contains("line 2, column 1"), "{error}");
    }
}
