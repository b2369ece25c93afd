//! The launcher as it is built here.

use std::process::{Command, Stdio};

use cloison_tests::launcher::{self, sample};

/// The launcher, without input.
pub(crate) fn cloison(words: &[&str]) -> Command {
    let mut command = Command::new(launcher::path().unwrap());
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
