//! The launcher as it is built here.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::guest::workspace;
use crate::is_first;

/// Builds the launcher, and the orchestrator beside it, in the profile of this
/// program, where the run begins.
///
/// # Errors
/// What kept it from being built, in words.
pub fn build() -> Result<(), String> {
    if !is_first() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace())
        .args(["build", "--quiet", "--locked", "-p", "cloison-launcher"])
        .args(["-p", "cloison-orchestrator", "--bins", "--target-dir"])
        .arg(folder()?.join(".."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    match build.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("building the launcher ended with {status}")),
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    }
}

/// Where [`build`] puts it.
///
/// # Errors
/// This program's own path is not known.
pub fn path() -> Result<PathBuf, String> {
    Ok(folder()?.join("cloison"))
}

/// Where [`build`] puts the orchestrator.
///
/// # Errors
/// This program's own path is not known.
pub fn orchestrator() -> Result<PathBuf, String> {
    Ok(folder()?.join("orchestrator"))
}

/// A file of `examples/`.
#[must_use]
pub fn sample(name: &str) -> PathBuf {
    workspace().join("examples").join(name)
}

/// Where cargo puts the programs of this profile.
fn folder() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own.parent().and_then(Path::parent);
    Ok(folder
        .ok_or("cargo did not put this program here")?
        .to_owned())
}
