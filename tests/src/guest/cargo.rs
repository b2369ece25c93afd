//! The programs of the workspace, as cargo has built them.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{GuestError, said_by, workspace};

/// Test targets and programs of the workspace by their names, and where they
/// are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    by_name: BTreeMap<String, PathBuf>,
    folder: PathBuf,
}

impl Programs {
    /// Has cargo build them; those that are fresh are found.
    ///
    /// # Errors
    /// [`GuestError::Program`] if something does not compile.
    pub fn build() -> Result<Self, GuestError> {
        let mut found = Self {
            by_name: BTreeMap::new(),
            folder: workspace().join("target/debug"),
        };
        found.take(&["test", "--workspace", "--no-run"])?;
        found.take(&["build", "-p", "cloison-launcher", "--bins"])?;
        Ok(found)
    }

    fn take(&mut self, words: &[&str]) -> Result<(), GuestError> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .current_dir(workspace())
            .args(words)
            .args(["--locked", "--message-format", "json"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let said = said_by(&mut build)?;
        for line in said.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()) {
            let message: serde_json::Value =
                serde_json::from_slice(line).map_err(GuestError::Cargo)?;
            let (Some(path), Some(name)) = (
                message["executable"].as_str(),
                message["target"]["name"].as_str(),
            ) else {
                continue;
            };
            let path = PathBuf::from(path);
            let kind = &message["target"]["kind"][0];
            // The unit tests of a program have its name too.
            if message["profile"]["test"] == (kind == "test") {
                if kind == "bin"
                    && let Some(above) = path.parent()
                {
                    self.folder = above.to_owned();
                }
                self.by_name.insert(name.to_owned(), path);
            }
        }
        Ok(())
    }

    /// Each by its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.by_name
            .iter()
            .map(|(name, path)| (name.as_str(), path.as_path()))
    }

    /// Where they all are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
