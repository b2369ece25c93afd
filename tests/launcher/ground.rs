//! The launcher as it is built here, and how it is started.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cloison_tests::launcher::{self, sample};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATIENCE: Duration = Duration::from_secs(20);
/// The environment variable with the path of another host's settings.
const HOST: &str = "CLOISON_TESTS_HOST";
const STATE: &str = "/run/cloison";

/// The launcher, without input, in an environment that says nothing.
pub(crate) fn cloison(words: &[&str]) -> Command {
    let mut command = Command::new(launcher::path().unwrap());
    command.args(words).stdin(Stdio::null());
    command
}

/// `cloison run` with the waivers of the sample, or with those of a host that
/// lacks more.
pub(crate) fn run(words: &[&str]) -> Command {
    let mut command = cloison(&["run", "--host"]);
    command.arg(host_file()).args(words);
    command
}

fn host_file() -> PathBuf {
    std::env::var_os(HOST).map_or_else(|| sample("host.toml"), PathBuf::from)
}

/// Runs it to its end.
pub(crate) fn end(mut command: Command) -> Ended {
    Ended::new(&command.output().unwrap())
}

/// How a launcher ended and what it wrote.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    pub(crate) fn new(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            code: output.status.code(),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    }

    /// Wants this code, and each of these in the error.
    #[track_caller]
    pub(crate) fn wants(&self, code: i32, fragments: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        for fragment in fragments {
            assert!(self.err.contains(fragment), "{fragment:?} in {self:?}");
        }
    }
}

/// A launcher that runs. One that a failed test forgets is killed; the next
/// start would sweep its sandbox, the end of the stage does.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Starts it and waits until its sandbox runs: one that is only written
    /// down would end with its launcher.
    pub(crate) fn named(name: &str, words: &[&str]) -> Self {
        let mut all = vec!["--name", name, "--"];
        all.extend(words);
        let running = Self::start(&mut run(&all));
        wait_until("the sandbox", || sandbox_of(name).is_some_and(has_executed));
        running
    }

    /// The first line of its output.
    pub(crate) fn line(&mut self) -> String {
        first_line(self.child.stdout.as_mut().unwrap())
    }

    /// The first line of its errors.
    pub(crate) fn error_line(&mut self) -> String {
        first_line(self.child.stderr.as_mut().unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal).unwrap();
    }

    pub(crate) fn end(self) -> Ended {
        Ended::new(&self.child.wait_with_output().unwrap())
    }

    /// Its end, which nobody waits for any longer than this.
    #[track_caller]
    pub(crate) fn end_within(mut self, limit: Duration) -> Ended {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if begun.elapsed() > limit {
                self.child.kill().unwrap();
                panic!("it has not come back: {:?}", self.end());
            }
            thread::sleep(Duration::from_millis(5));
        }
        self.end()
    }

    pub(crate) fn terminate(self) -> Ended {
        self.signal(Signal::SIGTERM);
        self.end()
    }
}

/// A line, and no byte more.
fn first_line(stream: &mut impl Read) -> String {
    let mut line = String::new();
    BufReader::with_capacity(1, stream)
        .read_line(&mut line)
        .unwrap();
    line
}

pub(crate) fn record(name: &str) -> Option<serde_json::Value> {
    let bytes = std::fs::read(format!("{STATE}/{name}.json")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The process 1 of the sandbox of this name, once it is written down.
pub(crate) fn sandbox_of(name: &str) -> Option<i64> {
    record(name)?["sandbox"]["pid"].as_i64()
}

/// Whether a sandbox's process 1 is its init by now.
fn has_executed(pid: i64) -> bool {
    let program = std::fs::read_link(format!("/proc/{pid}/exe"));
    program.is_ok_and(|program| program != launcher::path().unwrap())
}

/// What is written down or locked beneath the state.
pub(crate) fn state() -> Vec<String> {
    let mut names = Vec::new();
    for folder in [STATE.to_owned(), format!("{STATE}/ids")] {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    names.retain(|name| !["lock", "ids", "exec"].contains(&name.as_str()));
    names.sort();
    names
}

/// Where inits listen for commands.
pub(crate) fn exec_sockets() -> Vec<String> {
    let listed = std::fs::read_dir(format!("{STATE}/exec"));
    let names = listed.into_iter().flatten();
    names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

pub(crate) fn lives(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[track_caller]
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
