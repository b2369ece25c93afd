//! One run under the fault tool, and what it left.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cloison_tests::Snapshot;
use cloison_tests::fault::{Fault, Role, RunError, Trace, Traced, traced};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde_json::Value;

pub(crate) const WRAPPER: &str = env!("CARGO_BIN_EXE_traced");
pub(crate) const CALLER: &str = env!("CARGO_BIN_EXE_fault_caller");
/// What the command writes.
const RAN: &str = "ran\n";
/// The canary.
const CANARY: &str = "/tmp/canary";
/// What belongs to a rich one.
const RICH: &str = "/tmp/fault";
/// The first range of the default pool: the ids of the sandbox, and those of its
/// tree.
const IDS: u32 = 1_879_048_192;
/// The library's own deadlines have 10 s, one after the other at worst.
const LIMIT: Duration = Duration::from_secs(60);

/// A program to be run under the tool, and how it is run again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    pub(crate) canary: Canary,
}

/// Where the command says that it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// In the file.
    File,
    /// On the output of the program.
    Output,
}

impl Subject<'_> {
    /// The caller of the library, with a habit.
    pub(crate) fn caller<T>(habit: &str, act: impl FnOnce(Subject<'_>) -> T) -> T {
        act(Subject {
            program: Path::new(CALLER),
            arguments: &["fault", CANARY, "-", habit],
            canary: Canary::File,
        })
    }

    /// The same with all that a sandbox can have, beneath a folder that is
    /// made for it, and with every verb.
    pub(crate) fn rich<T>(act: impl FnOnce(Subject<'_>) -> T) -> T {
        furnish();
        let acted = act(Subject {
            program: Path::new(CALLER),
            arguments: &["fault", CANARY, RICH, "good"],
            canary: Canary::File,
        });
        fs::remove_dir_all(RICH).unwrap();
        acted
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command.args(self.arguments);
        command
    }
}

/// A tenant's tree, a place for what is written over it, and one to listen in.
fn furnish() {
    let folder = Path::new(RICH);
    let own = |path: &Path| lchown(path, Some(IDS), Some(IDS)).unwrap();
    let points = ["proc", "dev", "tmp", "run", "sys", "usr", "etc", "srv"];
    let below = points.map(|name| Path::new("tree").join(name));
    fs::create_dir_all(folder).unwrap();
    for directory in ["tree", "state", "exec"].iter().map(Path::new) {
        fs::create_dir(folder.join(directory)).unwrap();
    }
    for directory in &below {
        fs::create_dir(folder.join(directory)).unwrap();
        own(&folder.join(directory));
    }
    for name in ["bin", "lib", "lib64"] {
        let link = folder.join("tree").join(name);
        symlink(format!("usr/{name}"), &link).unwrap();
        own(&link);
    }
    fs::write(folder.join("tree/srv/canary"), "").unwrap();
    for path in ["tree", "state", "tree/srv/canary"] {
        own(&folder.join(path));
    }
    let private = fs::Permissions::from_mode(0o700);
    fs::set_permissions(folder.join("exec"), private).unwrap();
}

/// What the caller said of itself in its last two lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) launch: Value,
    pub(crate) descriptors: Value,
}

impl Said {
    fn of(text: &str) -> Option<Self> {
        let mut lines = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        let said = Self {
            launch: lines.next()?,
            descriptors: lines.next()?,
        };
        Some(said)
    }

    pub(crate) fn error(&self) -> Option<&str> {
        self.launch["error"].as_str()
    }

    /// The posture of a launch that succeeded, without what differs from one
    /// launch to the next.
    pub(crate) fn posture(&self) -> Option<[Value; 2]> {
        let held = comparable(self.launch.get("posture")?.clone(), &[])?;
        // What the init does first is not done at once.
        let not_yet = ["descriptors", "signals-blocked"];
        let running = comparable(self.launch.get("running")?.clone(), &not_yet)?;
        Some([held, running])
    }
}

/// A posture in which the fields of these names say only whether they were read.
fn comparable(mut posture: Value, unsettled: &[&str]) -> Option<Value> {
    let facts = posture.as_array_mut()?;
    for fact in facts {
        let is_unsettled = unsettled.iter().any(|name| fact["field"] == *name);
        if is_unsettled && fact["known"].get("unreadable").is_none() {
            fact["value"] = "some value".into();
        }
        let is_namespace = fact["field"].as_str().is_some_and(|field| {
            field.ends_with("namespace") || field.ends_with("namespace-owner")
        });
        if is_namespace && fact["value"].is_number() {
            fact["value"] = "some namespace".into();
        }
        without_numbers(&mut fact["value"]);
    }
    Some(posture)
}

/// Devices and pipes have other numbers each time.
fn without_numbers(value: &mut Value) {
    match value {
        Value::Array(entries) => entries.iter_mut().for_each(without_numbers),
        Value::Object(entry) => {
            if entry.get("device").is_some_and(Value::is_number) {
                entry.insert("device".to_owned(), "some device".into());
            }
            if let Some(Value::String(target)) = entry.get_mut("target") {
                target.retain(|c| !c.is_ascii_digit());
                // A terminal has its mount's path only once that is attached.
                if target == "/dev/pts/" {
                    *target = "/".to_owned();
                }
            }
        }
        _ => {}
    }
}

/// One run: what was seen, what was said, what was left.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) trace: Trace,
    /// `None`: the caller did not get to say anything.
    pub(crate) said: Option<Said>,
    pub(crate) text: String,
    /// What the command wrote.
    pub(crate) ran: bool,
    /// Each thing that must not be.
    pub(crate) wrong: Vec<String>,
    pub(crate) lasted: Duration,
}

impl Run {
    /// How often the caller had written one byte before the fault, or before
    /// anything was executed: the last of these lets the sandbox start.
    pub(crate) fn bytes_told(&self) -> usize {
        let end = match &self.trace.hit {
            Some(hit) => Some(hit.at),
            None => self.trace.executed_at,
        };
        let calls = self.trace.calls.iter().take(end.unwrap_or(0));
        calls
            .filter(|call| {
                let [_, _, length, ..] = call.arguments;
                call.role == Role::Caller && call.name() == "write" && length == 1
            })
            .count()
    }

    pub(crate) fn ending(&self) -> String {
        format!("{:?}", self.trace.ending(Role::Caller))
    }
}

/// Runs it under the tool.
pub(crate) fn run(subject: Subject<'_>, fault: Option<Fault>) -> Run {
    run_within(subject, fault, LIMIT)
}

/// The same with another deadline.
pub(crate) fn run_within(subject: Subject<'_>, fault: Option<Fault>, limit: Duration) -> Run {
    let before = Snapshot::of_stage();
    let (traced, output) = start(subject, fault);
    let begun = Instant::now();
    let mut run = finish(traced, output, begun, limit);
    run.wrong.extend(left_since(&before));
    run
}

/// Runs it under the tool until it has ended, then once more, without: what the
/// first one left, the second one removes.
pub(crate) fn run_twice(subject: Subject<'_>, fault: Fault) -> (Run, String) {
    let before = Snapshot::of_stage();
    let (traced, output) = start(subject, Some(fault));
    let begun = Instant::now();
    let in_time = traced.wait_for_caller(LIMIT);
    // What a second sandbox runs is none of the first's.
    let first_ran = fs::read_to_string(CANARY).unwrap_or_default();
    let second = again(subject);
    let second_ran = match subject.canary {
        Canary::File => fs::read_to_string(CANARY).unwrap_or_default(),
        Canary::Output if second.contains(RAN) => RAN.to_owned(),
        Canary::Output => String::new(),
    };
    let mut run = finish(traced, output, begun, LIMIT);
    run.ran = first_ran == RAN;
    if !in_time {
        run.wrong.push("the first one did not end".to_owned());
    }
    if first_ran != RAN && !first_ran.is_empty() {
        run.wrong
            .push(format!("the first command wrote {first_ran:?}"));
    }
    if second_ran != RAN {
        run.wrong
            .push(format!("the second command wrote {second_ran:?}: {second}"));
    }
    run.wrong.extend(left_since(&before));
    run.wrong
        .extend(state().map(|left| format!("left: {left}")));
    (run, second)
}

fn start(subject: Subject<'_>, fault: Option<Fault>) -> (Traced, File) {
    remove_canary();
    let output = File::from(memfd_create(c"said", MFdFlags::MFD_CLOEXEC).unwrap());
    let arguments: Vec<_> = subject.arguments.iter().map(Into::into).collect();
    let mut command = traced(Path::new(WRAPPER), subject.program.as_os_str(), &arguments);
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output.try_clone().unwrap());
    (Traced::start(command, fault), output)
}

fn finish(traced: Traced, mut output: File, begun: Instant, limit: Duration) -> Run {
    let (trace, wrong) = match traced.end(limit.saturating_sub(begun.elapsed())) {
        Ok(trace) => (trace, Vec::new()),
        Err(error) => {
            let why = error.to_string();
            match error {
                RunError::Hang { trace, .. } => (trace, vec![why]),
                error => (Trace::default(), vec![format!("{error:?}")]),
            }
        }
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    Run {
        trace,
        said: Said::of(&text),
        text,
        ran: fs::read_to_string(CANARY).is_ok_and(|text| text == RAN),
        wrong,
        lasted: begun.elapsed(),
    }
}

/// The same program, not traced: what it said.
fn again(subject: Subject<'_>) -> String {
    remove_canary();
    let output = subject.command().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    format!(
        "{} {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    )
}

fn remove_canary() {
    if Path::new(CANARY).exists() {
        fs::remove_file(CANARY).unwrap();
    }
}

fn left_since(before: &Snapshot) -> Vec<String> {
    let left = Snapshot::settled(Snapshot::of_stage, before);
    let left: Vec<String> = left
        .iter()
        .map(|difference| format!("left: {difference}"))
        // Keys know no stage: this one is a probe's, on another.
        .filter(|left| !left.contains("cloison-canary"))
        .collect();
    if !left.is_empty() {
        before.restore();
    }
    left
}

/// Tries `ready` until it says yes, for at most five seconds.
pub(crate) fn eventually(mut ready: impl FnMut() -> bool) -> bool {
    (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        ready()
    })
}

/// What is written down, locked or listened to beneath the launcher's state.
fn state() -> impl Iterator<Item = String> {
    let folders = ["/run/cloison", "/run/cloison/ids", "/run/cloison/exec"];
    let entries = folders
        .into_iter()
        .flat_map(|folder| fs::read_dir(folder).into_iter().flatten());
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.is_dir() && !path.ends_with("lock"))
        .map(|path| path.display().to_string())
}
