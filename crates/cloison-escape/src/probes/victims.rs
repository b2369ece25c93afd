//! Processes of the stage that play the host or a neighbour.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::error::{ProbeError, canary};

/// A process that plays a part until it is ended.
#[derive(Debug)]
pub(super) struct Victim {
    child: Child,
    // It lives as long as this is open.
    stdin: Option<ChildStdin>,
    /// What it said when it was ready.
    said: BTreeMap<String, String>,
}

impl Victim {
    /// Starts the program at `attempt` in a role that says one line of
    /// `KEY=VALUE` words and then waits.
    pub(super) fn start(
        attempt: &Path,
        role: &'static str,
        words: &[String],
    ) -> Result<Self, ProbeError> {
        let mut child = Command::new(attempt)
            .arg(role)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(canary("starting a victim"))?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(canary("reading what a victim says"))?;
        }
        let mut victim = Self {
            child,
            stdin,
            said: said(&line),
        };
        if victim.said.is_empty() {
            victim.end()?;
            return Err(ProbeError::Role { role, said: line });
        }
        Ok(victim)
    }

    /// What it said of `key`; empty if nothing, which no probe accepts.
    pub(super) fn value(&self, key: &str) -> &str {
        self.said.get(key).map_or("", String::as_str)
    }

    /// Ends it and waits for its end.
    pub(super) fn end(&mut self) -> Result<(), ProbeError> {
        drop(self.stdin.take());
        self.child
            .wait()
            .map(|_| ())
            .map_err(canary("waiting for a victim"))
    }
}

/// Makes the canary key in a new session keyring of this process, which must
/// have one thread; gives the key's number.
pub(super) fn take_key(attempt: &Path, token: &str) -> Result<String, ProbeError> {
    let output = Command::new(attempt)
        .arg("key")
        .arg(format!("token={token}"))
        .output()
        .map_err(canary("making a key"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match said(&text).remove("serial") {
        Some(serial) => Ok(serial),
        None => Err(ProbeError::Role {
            role: "key",
            said: text,
        }),
    }
}

fn said(line: &str) -> BTreeMap<String, String> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
