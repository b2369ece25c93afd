//! The runner: one process for each case, and what it left.

use std::collections::BTreeSet;
use std::env;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::case::{ARGUMENT, Case, EXIT_PASSED, EXIT_SKIPPED, OWN_STAGE, REPORT, SKIPPED, skipped};
use crate::snapshot::Snapshot;

/// The environment variable that names the cases that this host is expected
/// to skip.
pub const EXPECTED_SKIPS: &str = "CLOISON_EXPECT_SKIPS";

const PAUSE: Duration = Duration::from_millis(2);
const OUTPUT_BYTES_MAX: usize = 64 << 10;

#[derive(Default)]
struct Count {
    passed: AtomicUsize,
    failed: AtomicUsize,
    skipped: AtomicUsize,
}

enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Where cases run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stages {
    /// One after the other on the stage where this process is: what one case
    /// leaves must not be laid at another's door.
    This,
    /// Each on a stage that is made for it, so many at once.
    Own(usize),
}

/// Runs the cases that the arguments choose and prints the closing line.
pub(crate) fn run(cases: &'static [Case], stages: Stages) -> ExitCode {
    let mut arguments = Arguments::from_args();
    let (judge, threads): (fn(&Case) -> io::Result<Verdict>, _) = match stages {
        Stages::This => (judge, 1),
        Stages::Own(at_once) => (judge_apart, at_once),
    };
    arguments.test_threads = Some(threads);
    let count = Arc::new(Count::default());
    let declared = Arc::new(declared_skips());
    let trials = cases
        .iter()
        .map(|case| {
            let (count, declared) = (Arc::clone(&count), Arc::clone(&declared));
            Trial::test(case.name, move || {
                let verdict = judge(case);
                conclude(case, verdict, &count, &declared)
            })
        })
        .collect();
    let list = arguments.list;
    let conclusion = libtest_mimic::run(&arguments, trials);
    if list {
        return ExitCode::SUCCESS;
    }
    let [passed, failed, skipped] =
        [&count.passed, &count.failed, &count.skipped].map(|count| count.load(Ordering::SeqCst));
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 || conclusion.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Runs one case on the stage where this process is, and tells whoever made the
/// stage for it.
pub(crate) fn run_one(cases: &[Case], name: &str) -> ExitCode {
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name}");
        return ExitCode::FAILURE;
    };
    match judge(case).unwrap_or_else(not_run) {
        Verdict::Passed => ExitCode::from(EXIT_PASSED),
        Verdict::Skipped(reason) => skipped(&reason),
        Verdict::Failed(reason) => {
            println!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn not_run(error: io::Error) -> Verdict {
    Verdict::Failed(format!("the runner could not run it: {error}"))
}

fn conclude(
    case: &Case,
    verdict: io::Result<Verdict>,
    count: &Count,
    declared: &BTreeSet<String>,
) -> Result<(), Failed> {
    match verdict.unwrap_or_else(not_run) {
        Verdict::Passed => {
            count.passed.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        Verdict::Skipped(reason) if declared.contains(case.name) => {
            count.skipped.fetch_add(1, Ordering::SeqCst);
            println!("{}: {SKIPPED}{reason}", case.name);
            Ok(())
        }
        Verdict::Skipped(reason) => {
            count.failed.fetch_add(1, Ordering::SeqCst);
            Err(format!(
                "{SKIPPED}{reason}\nnot declared: a host that lacks this says so in {EXPECTED_SKIPS}"
            )
            .into())
        }
        Verdict::Failed(reason) => {
            count.failed.fetch_add(1, Ordering::SeqCst);
            Err(reason.into())
        }
    }
}

fn declared_skips() -> BTreeSet<String> {
    env::var(EXPECTED_SKIPS)
        .unwrap_or_default()
        .split(|c: char| c.is_whitespace() || c == ',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn judge(case: &Case) -> io::Result<Verdict> {
    let before = Snapshot::of_stage();
    let (mut child, output) = start(ARGUMENT, case)?;
    let mut reports = Reports {
        output: &output,
        shown: 0,
        skipped: None,
    };
    let status = wait(&mut child, case.limit(), &mut reports)?;
    if status.is_none() {
        child.kill()?;
        child.wait()?;
    }
    while reports.relay()? {}
    let left = Snapshot::settled(Snapshot::of_stage, &before);
    for difference in &left {
        difference.undo();
    }
    let output = read(&output)?;
    let mut reasons = failures(case, status, reports.skipped.is_some());
    reasons.extend(
        left.iter()
            .map(|difference| format!("left behind: {difference}")),
    );
    if !reasons.is_empty() {
        let reasons = reasons.join("\n");
        return Ok(Verdict::Failed(format!("{reasons}\n{output}")));
    }
    Ok(match reports.skipped {
        Some(reason) => Verdict::Skipped(reason),
        None => Verdict::Passed,
    })
}

/// Has the case judged on a stage of its own, whose measures bound how long.
fn judge_apart(case: &Case) -> io::Result<Verdict> {
    let (mut child, output) = start(OWN_STAGE, case)?;
    let status = child.wait()?;
    let output = read(&output)?;
    // The last thing that it says.
    let skipped = output.lines().rev();
    let skipped = skipped.filter_map(|line| line.strip_prefix(SKIPPED)).next();
    let reasons = failures(case, Some(status), skipped.is_some());
    if !reasons.is_empty() {
        let reasons = reasons.join("\n");
        return Ok(Verdict::Failed(format!("{reasons}\n{output}")));
    }
    if status.code() == Some(i32::from(EXIT_SKIPPED)) {
        return Ok(Verdict::Skipped(skipped.unwrap_or_default().to_owned()));
    }
    for line in output.lines() {
        println!("{}: {line}", case.name);
    }
    Ok(Verdict::Passed)
}

/// A process of this program for one case, and where it writes.
fn start(argument: &str, case: &Case) -> io::Result<(Child, File)> {
    // Not a pipe: a process left behind would hold it open. Not a file either:
    // that would be left behind itself.
    let output = File::from(memfd_create(c"case", MFdFlags::MFD_CLOEXEC)?);
    let child = Command::new("/proc/self/exe")
        .args([argument, case.name])
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output.try_clone()?)
        .spawn()?;
    Ok((child, output))
}

/// Why a case that ended so did not keep its promise.
fn failures(case: &Case, status: Option<ExitStatus>, says_why: bool) -> Vec<String> {
    let Some(status) = status else {
        let limit = case.limit().as_secs();
        return vec![format!("it lasted longer than {limit} s")];
    };
    let is = |code: u8| status.code() == Some(code.into());
    let reason = match (status.code(), status.signal()) {
        _ if is(EXIT_PASSED) || is(EXIT_SKIPPED) && says_why => return Vec::new(),
        (Some(0), _) => "it ended before it returned".to_owned(),
        (Some(code), _) => format!("it exited with {code}"),
        (None, signal) => format!("it was ended by signal {}", signal.unwrap_or(0)),
    };
    vec![reason]
}

fn wait(
    child: &mut Child,
    limit: Duration,
    reports: &mut Reports<'_>,
) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(PAUSE),
            status => return Ok(status),
        }
        reports.relay()?;
    }
}

/// What a case reports, shown as it comes: a case that is cut off has still
/// said how far it came.
struct Reports<'a> {
    output: &'a File,
    /// How many bytes have been looked at.
    shown: u64,
    /// Why the case says that it is skipped, wherever in its output.
    skipped: Option<String>,
}

impl Reports<'_> {
    /// Shows those in the whole lines that have come, and says whether any
    /// line has.
    fn relay(&mut self) -> io::Result<bool> {
        if self.output.metadata()?.len() == self.shown {
            return Ok(false);
        }
        let mut bytes = vec![0; OUTPUT_BYTES_MAX];
        let read = self.output.read_at(&mut bytes, self.shown)?;
        bytes.truncate(read);
        let end = bytes.iter().rposition(|byte| *byte == b'\n');
        // A line that is longer than all that is looked at is no report.
        let whole = match end {
            Some(end) => end + 1,
            None if read == OUTPUT_BYTES_MAX => read,
            None => return Ok(false),
        };
        bytes.truncate(whole);
        let text = harmless(&bytes);
        for line in text.lines() {
            if let Some(report) = line.strip_prefix(REPORT) {
                println!("{report}");
            }
            if let Some(reason) = line.strip_prefix(SKIPPED) {
                self.skipped = Some(reason.to_owned());
            }
        }
        self.shown += whole as u64;
        Ok(true)
    }
}

/// The end of what the case wrote, as far as a terminal may see it.
fn read(output: &File) -> io::Result<String> {
    let length = output.metadata()?.len();
    let mut bytes = vec![0; OUTPUT_BYTES_MAX];
    let start = length.saturating_sub(OUTPUT_BYTES_MAX as u64);
    let read = output.read_at(&mut bytes, start)?;
    Ok(harmless(bytes.get(..read).unwrap_or_default()))
}

fn harmless(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
