//! One case: its name, what it does, how it ended.

use std::env;
use std::fmt::Display;
use std::panic;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The argument before the name of the case that a process is started for.
pub(crate) const ARGUMENT: &str = "--cloison-case";
/// The same for a process that makes the case a stage of its own.
pub(crate) const OWN_STAGE: &str = "--cloison-own-stage";
/// The exit code of a case that kept its promise: not the one with which a
/// process ends that did not get to say so.
pub(crate) const EXIT_PASSED: u8 = 76;
/// The exit code of a case that was skipped, and said why.
pub(crate) const EXIT_SKIPPED: u8 = 77;
/// What a line that says why a case was skipped starts with.
pub(crate) const SKIPPED: &str = "SKIPPED: ";
/// What a line starts with that is shown also of a case that passed.
pub const REPORT: &str = "REPORT: ";

/// The environment variable that says how many times as long a case may last:
/// a guest's processor is emulated.
pub(crate) const SLOWER: &str = "CLOISON_SLOWER";

const LIMIT_S: u64 = 60;

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: fn() -> Outcome,
    pub(crate) limit_s: u64,
}

impl Case {
    /// A case that may last a minute.
    #[must_use]
    pub const fn new(name: &'static str, run: fn() -> Outcome) -> Self {
        Self {
            name,
            run,
            limit_s: LIMIT_S,
        }
    }

    /// The same case, with another limit.
    #[must_use]
    pub const fn lasting_s(self, limit_s: u64) -> Self {
        Self { limit_s, ..self }
    }

    pub(crate) fn limit(&self) -> Duration {
        Duration::from_secs(slowed(self.limit_s))
    }
}

/// How long something may last here that may last `limit_s` on a machine.
pub(crate) fn slowed(limit_s: u64) -> u64 {
    limit_s.saturating_mul(u64::from(times_slower()))
}

/// How many times as long things may last here as on a machine.
pub(crate) fn times_slower() -> u32 {
    let slower = env::var(SLOWER).ok().and_then(|times| times.parse().ok());
    slower.unwrap_or(1)
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The promise was kept.
    Passed,
    /// This host lacks something: what.
    Skipped(String),
    /// The promise was broken: how.
    Failed(String),
}

impl<E: Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => Self::Failed(error.to_string()),
        }
    }
}

/// Broken for each of the faults that were found; kept where there is none.
impl From<Vec<String>> for Outcome {
    fn from(faults: Vec<String>) -> Self {
        if faults.is_empty() {
            Self::Passed
        } else {
            Self::Failed(faults.join("\n"))
        }
    }
}

/// The case that this process was started for, by which argument.
pub(crate) fn named_in_arguments() -> Option<(&'static str, String)> {
    let mut arguments = env::args().skip(1);
    let first = arguments.next()?;
    let argument = [ARGUMENT, OWN_STAGE]
        .into_iter()
        .find(|one| *one == first)?;
    Some((argument, arguments.next()?))
}

/// Runs one case in this process.
pub(crate) fn play(cases: &[Case], name: &str) -> ExitCode {
    let Some(case) = cases.iter().find(|case| case.name == name) else {
        eprintln!("there is no case {name}");
        return ExitCode::FAILURE;
    };
    // A thread's panic is nobody's but for this, unless somebody joins it.
    let panicked: &'static AtomicBool = Box::leak(Box::default());
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |about| {
        panicked.store(true, Ordering::SeqCst);
        told(about);
    }));
    match (case.run)() {
        Outcome::Passed if panicked.load(Ordering::SeqCst) => {
            eprintln!("a thread panicked");
            ExitCode::FAILURE
        }
        Outcome::Passed => ExitCode::from(EXIT_PASSED),
        Outcome::Skipped(reason) => skipped(&reason),
        Outcome::Failed(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Says so on a line of its own, whatever was written before.
pub(crate) fn skipped(reason: &str) -> ExitCode {
    println!("\n{SKIPPED}{reason}");
    ExitCode::from(EXIT_SKIPPED)
}
