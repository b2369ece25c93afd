//! Processes of the stage that play the host or a neighbour.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use cloison_sandbox::{Exec, Execution, Sandbox, Streams};

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

/// A process in a running sandbox that its init started.
#[derive(Debug)]
pub(super) struct Executed {
    // It lives as long as both are there.
    _execution: Execution,
    _stdin: PipeWriter,
    line: String,
}

impl Executed {
    /// Starts the program in the role of a victim that holds `secret`.
    pub(super) fn start(sandbox: &Sandbox, secret: &str) -> Result<Self, ProbeError> {
        let what = "making a pipe";
        let (hears, stdin) = std::io::pipe().map_err(canary(what))?;
        let (says, stdout) = std::io::pipe().map_err(canary(what))?;
        let stdout = OwnedFd::from(stdout);
        let streams = Streams::Descriptors {
            stdin: hears.into(),
            stderr: stdout.try_clone().map_err(canary(what))?,
            stdout,
        };
        let command = [
            "/attempt".to_owned(),
            "victim".to_owned(),
            format!("token={secret}"),
            "record=/tmp/record".to_owned(),
        ];
        let mut exec = Exec::new(command.into());
        exec.environment
            .insert("SECRET".to_owned(), secret.to_owned());
        let execution = sandbox.exec(&exec, streams).map_err(ProbeError::Exec)?;
        let mut line = String::new();
        BufReader::new(says)
            .read_line(&mut line)
            .map_err(canary("reading what a victim says"))?;
        Ok(Self {
            _execution: execution,
            _stdin: stdin,
            line,
        })
    }

    /// The line that it said: where it is, as the sandbox knows it.
    pub(super) fn said(&self) -> &str {
        &self.line
    }

    /// Its number inside.
    pub(super) fn pid(&self) -> Option<i32> {
        said(&self.line).get("pid")?.parse().ok()
    }
}

/// Makes the canary key in a new session keyring of this process, which must
/// have one thread; gives the key's number.
pub(super) fn take_key(attempt: &Path, token: &str) -> Result<String, ProbeError> {
    let mut said = said_by(attempt, "key", &[format!("token={token}")])?;
    said.remove("serial").ok_or(ProbeError::Role {
        role: "key",
        said: String::new(),
    })
}

/// What the program says in a role that ends by itself.
pub(super) fn said_by(
    attempt: &Path,
    role: &'static str,
    words: &[String],
) -> Result<BTreeMap<String, String>, ProbeError> {
    let output = Command::new(attempt)
        .arg(role)
        .args(words)
        .output()
        .map_err(canary("asking a role"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(said(&text))
    } else {
        Err(ProbeError::Role { role, said: text })
    }
}

fn said(line: &str) -> BTreeMap<String, String> {
    line.split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}
