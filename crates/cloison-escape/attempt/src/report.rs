//! What was tried, and how it ended.

use std::fs::File;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::foreign_abi;
use crate::sys::{self, Errno};

/// The exit code of a probe that got through in at least one way.
const THROUGH: u8 = 10;
/// The exit code of a probe that could not be tried: never a pass.
const UNTRIED: u8 = 20;
/// How long one way may take before it counts as not tried.
const WAY_TIMEOUT_MS: i32 = 5_000;

/// The answer of who looked and saw it.
const SEEN: &[u8; 1] = b"!";

/// Whether somebody looks from outside at each way that gets through.
static WATCHED: AtomicBool = AtomicBool::new(false);
/// Whether this way was looked at.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// The way that this process tries.
static WAY: OnceLock<String> = OnceLock::new();

/// From now on [`hold`] waits.
pub(crate) fn watch() {
    WATCHED.store(true, Ordering::Relaxed);
}

/// The name of the way that this process tries.
pub(crate) fn own_way() -> &'static str {
    WAY.get().map_or("", String::as_str)
}

/// Holds still, once in each way, until it was looked at from outside: says
/// `holding PID NAME` and reads one byte of standard input. What a way changes
/// and sets back it holds changed.
pub(crate) fn hold() {
    // Who does not look learns of the way by its verdict, and misses it.
    is_seen();
}

/// The same for what no process can know of itself: whether it was seen from
/// outside. Who does not look has seen nothing.
pub(crate) fn is_seen() -> bool {
    if !WATCHED.load(Ordering::Relaxed) || SHOWN.swap(true, Ordering::Relaxed) {
        return false;
    }
    println!("holding {} {}", sys::own_pid(), own_way());
    let mut answer = [0];
    std::io::stdin().read_exact(&mut answer).is_ok() && answer == *SEEN
}

/// Why a probe or a role could not begin.
pub(crate) struct CouldNotTry(pub(crate) String);

/// How one way ended.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It reached the canary; the text is the evidence.
    Through(String),
    /// Something refused; the text names the call and its answer.
    Stopped(String),
    /// This kernel has no such thing, for anybody. Neither stop nor success.
    Absent(String),
    /// The way was not open to a fair attempt: an error, never a pass.
    Untried(String),
}

impl Verdict {
    /// `call` was refused with `errno`.
    pub(crate) fn stopped(call: &str, errno: Errno) -> Self {
        Self::Stopped(format!("{call} {errno}"))
    }

    /// As [`Self::stopped`] from an error of the standard library.
    pub(crate) fn refused(call: &str, error: &std::io::Error) -> Self {
        Self::stopped(call, Errno::of(error))
    }

    /// Through if `answer` is a success, with `evidence`.
    pub(crate) fn of(call: &str, answer: sys::Answer, evidence: &str) -> Self {
        match answer {
            Ok(_) => Self::Through(evidence.to_owned()),
            Err(errno) => Self::stopped(call, errno),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Through(_) => "through",
            Self::Stopped(_) => "stopped",
            Self::Absent(_) => "absent",
            Self::Untried(_) => "untried",
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Through(text)
            | Self::Stopped(text)
            | Self::Absent(text)
            | Self::Untried(text) => text,
        }
    }

    fn decode(line: &str) -> Option<Self> {
        let (word, text) = line.split_once(' ')?;
        let text = text.to_owned();
        match word {
            "through" => Some(Self::Through(text)),
            "stopped" => Some(Self::Stopped(text)),
            "absent" => Some(Self::Absent(text)),
            "untried" => Some(Self::Untried(text)),
            _ => None,
        }
    }
}

/// The ways tried so far, each on a line of standard output: verdict, name
/// of the way, colon, evidence or refusal.
#[derive(Default)]
pub(crate) struct Report {
    /// What the names of the ways begin with.
    prefix: &'static str,
    through: usize,
    stopped: usize,
    untried: usize,
}

impl Report {
    /// The names of the ways that follow begin so.
    pub(crate) fn begin_with(&mut self, prefix: &'static str) {
        self.prefix = prefix;
    }

    /// Tries one way in a process of its own, since a filter may kill for it
    /// and since what it changes in itself must not help the next way.
    pub(crate) fn way(&mut self, name: &str, attempt: impl FnOnce() -> Verdict) {
        let name = format!("{}{name}", self.prefix);
        let verdict = in_child(&name, attempt);
        self.note(&name, &verdict);
    }

    /// Records a verdict found without an attempt of its own.
    pub(crate) fn note(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Through(_) => self.through += 1,
            Verdict::Stopped(_) => self.stopped += 1,
            Verdict::Absent(_) => {}
            Verdict::Untried(_) => self.untried += 1,
        }
        let text = verdict.text().escape_default();
        println!("{} {name}: {text}", verdict.word());
    }

    /// The exit code that the lines amount to. A way that could not be tried
    /// spoils a clean result: what was not tried is not known to be stopped.
    pub(crate) fn conclude(&self) -> ExitCode {
        if self.through > 0 {
            ExitCode::from(THROUGH)
        } else if self.untried > 0 || self.stopped == 0 {
            ExitCode::from(UNTRIED)
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// Says why nothing was tried.
pub(crate) fn could_not_try(reason: &CouldNotTry) -> ExitCode {
    println!("untried all: {}", reason.0);
    ExitCode::from(UNTRIED)
}

/// Runs `attempt` in a forked child and brings its verdict back. One that got
/// through is looked at before the child ends.
fn in_child(name: &str, attempt: impl FnOnce() -> Verdict) -> Verdict {
    let (reader, mut writer) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => return Verdict::Untried(format!("pipe: {error}")),
    };
    let child = match sys::fork() {
        Ok(Some(child)) => child,
        Ok(None) => {
            WAY.get_or_init(|| name.to_owned());
            let verdict = attempt();
            if matches!(verdict, Verdict::Through(_)) {
                hold();
            }
            let line = format!("{} {}", verdict.word(), verdict.text());
            let sent = writer.write_all(line.as_bytes());
            sys::exit(if sent.is_ok() { 0 } else { 1 });
        }
        Err(errno) => return Verdict::Untried(format!("fork {errno}")),
    };
    drop(writer);
    let reader = File::from(std::os::fd::OwnedFd::from(reader));
    let line = read_to_end_within(reader, WAY_TIMEOUT_MS);
    if line.is_none() {
        sys::kill_own_child(child);
    }
    let status = sys::wait(child);
    let Some(line) = line else {
        return Verdict::Untried(format!("no end after {WAY_TIMEOUT_MS} ms"));
    };
    match (Verdict::decode(&line), status) {
        (Some(verdict), _) => verdict,
        (None, Ok(sys::Ended::Signal(sys::SIGSYS))) => {
            Verdict::Stopped("killed by SIGSYS".to_owned())
        }
        (None, Ok(sys::Ended::Exit(foreign_abi::NO_GATE))) => {
            Verdict::Absent("int 0x80 faults: no 32-bit interface".to_owned())
        }
        (None, other) => Verdict::Untried(format!("ended without a verdict: {other:?}")),
    }
}

/// What the child wrote until it closed its end; `None` if it never did.
fn read_to_end_within(mut reader: File, timeout_ms: i32) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        if !sys::readable_within(&reader, timeout_ms) {
            return None;
        }
        let mut piece = [0_u8; 4096];
        match reader.read(&mut piece) {
            Ok(0) => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(_) => return Some(String::new()),
        }
    }
}
