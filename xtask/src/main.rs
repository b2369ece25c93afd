//! What cargo cannot do.
//!
//! `cargo xtask docs` writes the documents that are made from the code;
//! `cargo xtask compared` the one that is made by trying, which needs root and
//! what `.ci/fetch` gets. `cargo xtask guest KERNEL -- COMMAND...` runs a
//! command under another kernel; `cargo xtask compat` writes what the tests saw
//! in guests into the README, `cargo xtask kernels` prints their counts.

mod error;
mod guest;
mod layers;
mod limits;
mod probes;
mod races;
mod seccomp;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use error::Error;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [command] if command == "docs" => write().map(|()| ExitCode::SUCCESS),
        [command] if command == "compared" => compared().map(|()| ExitCode::SUCCESS),
        [command] if command == "compat" => guest::compat().map(|()| ExitCode::SUCCESS),
        [command] if command == "kernels" => guest::kernels().map(|()| ExitCode::SUCCESS),
        [command, rest @ ..] if command == "guest" => guest::run(rest),
        _ => Err(Error::Usage),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{}", cloison_tests::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Every document that is made, or has a made part: where it stands, and its
/// text.
fn documents() -> Result<[(&'static str, String); 4], Error> {
    let path = from_root("SECURITY.md");
    let security = fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    Ok([
        ("docs/layers.md", layers::document()?),
        ("docs/limits.md", limits::document()?),
        ("docs/seccomp.md", seccomp::document()),
        ("SECURITY.md", probes::spliced(&security)?),
    ])
}

fn write() -> Result<(), Error> {
    for (path, text) in documents()? {
        let path = from_root(path);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(failed)?;
        }
        fs::write(&path, text).map_err(failed)?;
    }
    Ok(())
}

/// Tries each call under both profiles, on the stage, and writes what came of
/// it to `docs/seccomp-compared.md`.
fn compared() -> Result<(), Error> {
    const CASE: &str = "app_reaches_fewer_calls_than_docker_default";
    let status = Command::new(env!("CARGO"))
        .args(["test", "--locked", "-p", "cloison-tests", "--test"])
        .args(["seccomp", "--", CASE])
        .env("CLOISON_WRITE_PAGE", "1")
        .status()
        .map_err(Error::Trial)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Tried(status))
    }
}

fn from_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    /// The first line that is not as the code says, from 1.
    fn stale(written: &str, fresh: &str) -> Option<usize> {
        let (mut written, mut fresh) = (written.split('\n'), fresh.split('\n'));
        for line in 1.. {
            match (written.next(), fresh.next()) {
                (None, None) => return None,
                (old, new) if old != new => return Some(line),
                _ => {}
            }
        }
        None
    }

    #[test]
    fn documents_are_as_the_code_says() {
        for (path, fresh) in super::documents().unwrap() {
            let written = fs::read_to_string(super::from_root(path)).unwrap_or_default();
            let line = stale(&written, &fresh);
            assert_eq!(line, None, "{path} is stale: run `cargo xtask docs`");
        }
    }

    #[test]
    fn a_stale_document_is_noticed() {
        assert_eq!(stale("a\nb\n", "a\nb\n"), None);
        assert_eq!(stale("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(stale("", "a\n"), Some(1));
        assert_eq!(stale("a\n", "a\nb\n"), Some(2));
        assert_eq!(stale("a\nb\n", "a\n"), Some(2));
        assert_eq!(stale("a", "a\n"), Some(2));
    }
}
