//! The launcher as it is built here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cloison_escape::stage::ROLE;

/// Builds the launcher, where this is not yet the stage.
pub(crate) fn build() -> Result<(), String> {
    if std::env::var_os(ROLE).is_some() {
        return Ok(());
    }
    let cargo = std::env::var_os("CARGO").ok_or("run by cargo, which sets CARGO")?;
    let mut build = Command::new(cargo);
    build
        .current_dir(workspace())
        .args(["build", "--quiet", "--locked", "-p", "cloison-launcher"])
        .args(["--bins", "--target-dir"])
        .arg(folder().join(".."));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    match build.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("building the launcher ended with {status}")),
        Err(error) => Err(format!("cargo cannot be started: {error}")),
    }
}

/// Where cargo puts the programs of this profile.
fn folder() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().to_owned()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) fn sample(name: &str) -> PathBuf {
    workspace().join("examples").join(name)
}

/// The launcher, without input.
pub(crate) fn cloison(words: &[&str]) -> Command {
    let mut command = Command::new(folder().join("cloison"));
    command.args(words).stdin(Stdio::null());
    command
}

/// `cloison run` with the waivers of the sample.
pub(crate) fn run(words: &[&str]) -> Command {
    let mut command = cloison(&["run", "--host"]);
    command.arg(sample("host.toml")).args(words);
    command
}

/// How a launcher ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs it to its end.
pub(crate) fn end(mut command: Command) -> Ended {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended {
        code: output.status.code(),
        out: text(&output.stdout),
        err: text(&output.stderr),
    }
}
