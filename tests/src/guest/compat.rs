//! What was seen in guests, written down: for the closing table of `.ci/run`
//! and for the table in the README.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{GuestError, GuestKernel, workspace};

/// The lines between which the README's table stands.
const FIRST: &str = "<!-- made by cargo xtask compat -->";
const LAST: &str = "<!-- end of what cargo xtask compat made -->";

/// What one kernel did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// All of its version.
    pub release: String,
    /// Whether a sandbox of the profile `app` starts and all of its tests pass.
    pub starts: bool,
    /// The layers that it lacks and that may be waived.
    pub waived: Vec<String>,
    /// The layers that it lacks and that cannot be waived, with the features.
    pub refused: Vec<String>,
    /// The optional features that it lacks.
    pub without: Vec<String>,
    /// Test cases that kept their promise, in all targets.
    pub passed: usize,
    /// Those that did not.
    pub failed: usize,
    /// Those that the kernel cannot run, with the reason.
    pub skipped: Vec<(String, String)>,
}

/// What all kernels did, by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllSeen(pub BTreeMap<String, Seen>);

impl AllSeen {
    /// What the last run of the tests in guests wrote down.
    ///
    /// # Errors
    /// [`GuestError::File`] if there is none, or it is torn.
    pub fn read() -> Result<Self, GuestError> {
        let path = file();
        let failed = |source| GuestError::File {
            path: path.clone(),
            source,
        };
        let bytes = fs::read(&path).map_err(failed)?;
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))
    }

    /// Writes it down.
    ///
    /// # Errors
    /// [`GuestError::File`].
    pub fn write(&self) -> Result<(), GuestError> {
        let path = file();
        let failed = |source| GuestError::File {
            path: path.clone(),
            source,
        };
        let bytes = serde_json::to_vec_pretty(self).map_err(|error| failed(error.into()))?;
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, bytes).map_err(failed)
    }

    /// One line for each kernel: tests run, failed, skipped and why.
    #[must_use]
    pub fn counts(&self) -> String {
        let mut text = String::new();
        for (_, seen) in self.in_order() {
            let skipped = seen.skipped.len();
            text.push_str(&format!(
                "{:<28} {:>5} {:>7} {:>8}\n",
                seen.release,
                seen.passed + seen.failed,
                seen.failed,
                skipped
            ));
            for (name, reason) in &seen.skipped {
                text.push_str(&format!("  {name}: {reason}\n"));
            }
        }
        text
    }

    /// The README's table: nothing in it that a new test would change.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = "| kernel | `app` | lacks, and may be waived | lacks, and is optional |\n\
             | --- | --- | --- | --- |\n"
            .to_owned();
        for (kernel, seen) in self.in_order() {
            let starts = if seen.starts {
                "starts".to_owned()
            } else {
                format!("refused: {}", seen.refused.join("; "))
            };
            text.push_str(&format!(
                "| {kernel} | {starts} | {} | {} |\n",
                listed(&seen.waived),
                listed(&seen.without)
            ));
        }
        text
    }

    /// `readme` with this table in its place; `None` where it has no such
    /// place.
    #[must_use]
    pub fn spliced(&self, readme: &str) -> Option<String> {
        let (before, rest) = readme.split_once(FIRST)?;
        let (_, after) = rest.split_once(LAST)?;
        Some(format!("{before}{FIRST}\n{}{LAST}{after}", self.table()))
    }

    fn in_order(&self) -> impl Iterator<Item = (GuestKernel, &Seen)> {
        GuestKernel::ALL
            .into_iter()
            .filter_map(|kernel| Some((kernel, self.0.get(kernel.name())?)))
    }
}

fn listed(names: &[String]) -> String {
    match names {
        [] => "-".to_owned(),
        names => names.join(", "),
    }
}

fn file() -> PathBuf {
    workspace().join("target/guests/seen.json")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn the_table_goes_between_its_lines_and_changes_nothing_else() {
        let mut all = AllSeen::default();
        let seen = Seen {
            starts: true,
            without: vec!["x".to_owned()],
            ..Seen::default()
        };
        all.0.insert("6.1".to_owned(), seen);
        let readme = format!("a\n{FIRST}\nold\n{LAST}\nb\n");
        let spliced = all.spliced(&readme).unwrap();
        assert!(spliced.contains("| 6.1 | starts | - | x |\n"), "{spliced}");
        assert!(!spliced.contains("old"));
        assert!(spliced.starts_with("a\n") && spliced.ends_with("\nb\n"));
        assert_eq!(all.spliced(&spliced), Some(spliced.clone()));
        assert_eq!(all.spliced("no place"), None);
    }
}
