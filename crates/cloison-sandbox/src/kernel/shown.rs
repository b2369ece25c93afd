//! How a kernel is shown: to people and to programs.

use std::fmt;

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{Feature, Kernel, State};

/// One feature as programs read it.
#[derive(Serialize)]
struct Entry {
    feature: Feature,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    since: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    option: Option<&'static str>,
    /// Only where it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
    /// Only where it is absent and optional.
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<&'static str>,
}

impl Entry {
    fn new(feature: Feature, state: State) -> Self {
        let absent = match state {
            State::Absent(absence) => Some(absence),
            State::Present | State::NotNeeded(_) => None,
        };
        Self {
            feature,
            state: state.word(),
            reason: state.reason(),
            since: feature.since(),
            option: feature.option(),
            remedy: absent.map(|absence| absence.remedy().unwrap_or(feature.remedy())),
            lost: feature.lost_without().filter(|_| absent.is_some()),
        }
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::NotNeeded(_) => "not-needed",
            Self::Absent(_) => "absent",
        }
    }

    fn reason(self) -> Option<String> {
        match self {
            Self::Present => None,
            Self::NotNeeded(reason) => Some(reason.to_string()),
            Self::Absent(absence) => Some(absence.to_string()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::NotNeeded(reason) => write!(f, "not needed: {reason}"),
            Self::Absent(absence) => write!(f, "absent: {absence}"),
        }
    }
}

impl fmt::Display for Kernel {
    /// One line for each feature.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Linux {}", self.release())?;
        for (feature, state) in self.states() {
            write!(f, "\n{:<24} {state}", feature.name())?;
        }
        Ok(())
    }
}

impl Serialize for Kernel {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let features: Vec<Entry> = self
            .states()
            .map(|(feature, state)| Entry::new(feature, state))
            .collect();
        let mut kernel = serializer.serialize_struct("Kernel", 2)?;
        kernel.serialize_field("release", self.release())?;
        kernel.serialize_field("features", &features)?;
        kernel.end()
    }
}

/// Serialises what can be displayed as its text.
pub(super) fn text<T: fmt::Display, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}
