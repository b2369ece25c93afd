//! What this kernel can do, tried and not guessed from its version.

mod calls;
mod cgroups;
mod feature;
mod group;
mod probe;
mod process;
mod processor;
mod requirements;
mod shown;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod users;
mod verdict;

use std::collections::BTreeMap;

pub use feature::Feature;
pub use probe::KernelError;
pub use state::{Absence, NotNeeded, State};
pub use verdict::{LayerVerdict, Unavailable};

/// What the kernel of this host can do for the process that asked.
///
/// A plain value: it is passed to a plan, compared, and changed for tests
/// ([`Kernel::without`]). Holding one tells you what worked when it was
/// probed, with the rights of the caller at that time. It does not tell you
/// that nothing has changed since: an operator may turn SMT on, or set a
/// sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    release: String,
    states: BTreeMap<Feature, State>,
}

impl Kernel {
    /// What the kernel calls itself, as uname(2) gives it: for people, never
    /// for a decision.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What is known of `feature`.
    #[must_use]
    pub fn state(&self, feature: Feature) -> State {
        self.states
            .get(&feature)
            .copied()
            .unwrap_or(State::Absent(Absence::NotTried))
    }

    /// Whether `feature` can be used.
    ///
    /// `false` also where it is not needed: a step that uses it would fail.
    #[must_use]
    pub fn has(&self, feature: Feature) -> bool {
        self.state(feature) == State::Present
    }

    /// The same kernel without `feature`: for tests of what happens on one.
    #[must_use]
    pub fn without(mut self, feature: Feature) -> Self {
        self.states
            .insert(feature, State::Absent(Absence::TakenAway));
        self
    }

    /// A kernel that can do everything: for tests, and for plans that are
    /// compiled but not launched.
    #[must_use]
    pub fn complete() -> Self {
        Self {
            release: "complete".to_owned(),
            states: Feature::ALL
                .iter()
                .map(|feature| (*feature, State::Present))
                .collect(),
        }
    }

    /// Every feature with what is known of it.
    pub fn states(&self) -> impl Iterator<Item = (Feature, State)> {
        Feature::ALL
            .iter()
            .map(|feature| (*feature, self.state(*feature)))
    }
}
