//! Whether a layer can be had, and what to do where it cannot.

use serde::Serialize;

use super::{Absence, Feature, Kernel, NotNeeded, State};
use crate::{Layer, Waivers};

/// What is to be done with a layer on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerVerdict {
    /// It can be had, and every sandbox gets it.
    Applied,
    /// What it protects from cannot happen here: it is left out, and the
    /// posture says so.
    NotNeeded(NotNeeded),
    /// It cannot be had, and the operator lets the host go without it, for
    /// this reason.
    Waived(String),
    /// It cannot be had: nothing is launched.
    Unavailable(Unavailable),
}

/// A layer cannot be had on this host, for want of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("the layer {layer} needs {feature} (Linux {since}{}): {absence}", named(*option))]
pub struct Unavailable {
    /// The layer.
    pub layer: Layer,
    /// What the kernel lacks.
    pub feature: Feature,
    /// Why it is taken to be lacking.
    #[serde(serialize_with = "super::shown::text")]
    pub absence: Absence,
    /// The version of Linux that brought it.
    pub since: &'static str,
    /// The kernel's build options that it needs.
    pub option: Option<&'static str>,
    /// What the operator can do.
    pub remedy: &'static str,
}

fn named(option: Option<&'static str>) -> String {
    option.map_or_else(String::new, |option| format!(", {option}"))
}

impl Unavailable {
    pub(crate) fn new(layer: Layer, feature: Feature, absence: Absence) -> Self {
        Self {
            layer,
            feature,
            absence,
            since: feature.since(),
            option: feature.option(),
            remedy: absence.remedy().unwrap_or(feature.remedy()),
        }
    }
}

impl Kernel {
    /// What is to be done with `layer` on this host.
    ///
    /// A waiver counts only where the layer cannot be had. A layer is not
    /// needed when none of what it requires is; where only some of it is not
    /// needed, it is applied with the rest: its steps ask
    /// [`Kernel::has`] for each.
    #[must_use]
    pub fn verdict(&self, layer: Layer, waivers: &Waivers) -> LayerVerdict {
        let mut unneeded = None;
        let mut used = layer.requires().is_empty();
        for feature in layer.requires() {
            match self.state(*feature) {
                State::Present => used = true,
                State::NotNeeded(reason) => unneeded = unneeded.or(Some(reason)),
                State::Absent(absence) => {
                    return waivers.reason(layer).map_or_else(
                        || {
                            let missing = Unavailable::new(layer, *feature, absence);
                            LayerVerdict::Unavailable(missing)
                        },
                        |reason| LayerVerdict::Waived(reason.to_owned()),
                    );
                }
            }
        }
        match unneeded {
            Some(reason) if !used => LayerVerdict::NotNeeded(reason),
            _ => LayerVerdict::Applied,
        }
    }

    /// Whether every one of `layers` is applied, not needed or waived.
    ///
    /// # Errors
    /// [`Unavailable`]: the first layer that is none of these.
    pub fn require(&self, layers: &[Layer], waivers: &Waivers) -> Result<(), Unavailable> {
        for layer in layers {
            if let LayerVerdict::Unavailable(missing) = self.verdict(*layer, waivers) {
                return Err(missing);
            }
        }
        Ok(())
    }
}
