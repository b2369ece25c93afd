//! The programs of the workspace, as cargo has built them.

use std::collections::BTreeMap;
use std::env;
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::archive::Archive;
use super::{GuestError, Work, freight, said_by, workspace};

/// Test targets and programs of the workspace by their names, where they are,
/// and the archive that all guests start with, packed once.
#[derive(Debug)]
pub struct Programs {
    by_name: BTreeMap<String, PathBuf>,
    /// The only one that guests are brought, if it is only one.
    target: Option<String>,
    folder: PathBuf,
    work: Work,
}

impl Programs {
    /// Has cargo build them; those that are fresh are found.
    ///
    /// # Errors
    /// [`GuestError::Program`] if something does not compile.
    pub fn build() -> Result<Self, GuestError> {
        let mut found = Self {
            by_name: BTreeMap::new(),
            target: None,
            folder: workspace().join("target/debug"),
            work: Work::make("programs")?,
        };
        found.take(&["test", "--workspace", "--no-run"])?;
        found.take(&[
            "build",
            "-p",
            "cloison-launcher",
            "-p",
            "cloison-orchestrator",
            "--bins",
        ])?;
        found.pack()?;
        Ok(found)
    }

    /// The same with one test target alone.
    ///
    /// # Errors
    /// As [`Programs::build`].
    pub fn of_target(name: &str) -> Result<Self, GuestError> {
        let mut found = Self {
            by_name: BTreeMap::new(),
            target: Some(name.to_owned()),
            folder: workspace().join("target/debug"),
            work: Work::make("programs")?,
        };
        found.take(&["test", "--workspace", "--test", name, "--no-run"])?;
        found.pack()?;
        Ok(found)
    }

    fn pack(&self) -> Result<(), GuestError> {
        let path = self.archive();
        let failed = |source| GuestError::File {
            path: path.clone(),
            source,
        };
        let file = BufWriter::new(File::create(&path).map_err(failed)?);
        let mut archive = Archive::new(file);
        freight::load(&mut archive, self, &self.work.0)?;
        archive.finish().map_err(failed).map(drop)
    }

    pub(super) fn archive(&self) -> PathBuf {
        self.work.0.join("archive")
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

    /// Whether guests are brought the program of that name, of those that they
    /// are brought when there are many.
    pub(super) fn brings(&self, name: &str, many: &[&str]) -> bool {
        match &self.target {
            Some(target) => name == target,
            None => many.contains(&name),
        }
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
