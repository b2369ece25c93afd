//! Each number tried below a filter, in a process of its own.
//!
//! The trial filters refuse with an error number that no kernel code gives
//! ([`REFUSED`]): whatever else comes back comes from the call itself, so that
//! a filter's EPERM is never mistaken for the kernel's, and a refused number
//! is never counted as reached because it failed for another reason.

use std::collections::BTreeSet;
use std::error::Error;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use cloison_sandbox::seccomp::{Profile, ProfileError};
use nix::sys::signal::Signal;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, TargetArch, sock_filter,
};

use cloison_tests::docker;

/// The first argument of the process that filters itself.
pub(crate) const ARGUMENT: &str = "--below-trial-filter";
/// One above the last number that is tried.
pub(crate) const NUMBERS_END: u32 = 601;

/// The trial filters' answer: the kernel passes it on (up to 4095) and gives
/// it nowhere itself.
const REFUSED: u32 = 4094;
/// After this a call counts as blocked, and so as reached.
const DEADLINE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_micros(500);
const OURS: &str = "app";

/// A profile under trial.
#[derive(Clone, Debug)]
pub(crate) enum Side {
    /// Our `app`.
    Ours,
    /// The profile of Docker's in this file.
    Docker(PathBuf),
}

impl Side {
    fn word(&self) -> &Path {
        match self {
            Self::Ours => Path::new(OURS),
            Self::Docker(file) => file,
        }
    }

    fn of_word(word: &str) -> Self {
        match word {
            OURS => Self::Ours,
            file => Self::Docker(file.into()),
        }
    }

    fn filter(&self) -> Result<BpfProgram, Box<dyn Error>> {
        match self {
            Self::Ours => Ok(of_ours()?),
            Self::Docker(file) => Ok(of_numbers(&docker_numbers(file)?)?),
        }
    }
}

/// What the profile in `file` allows on this kernel.
pub(crate) fn docker_numbers(file: &Path) -> Result<BTreeSet<u32>, Box<dyn Error>> {
    let kernel = docker::running_kernel().ok_or("the kernel has no version")?;
    Ok(docker::allowed(&fs::read_to_string(file)?, kernel)?)
}

/// A filter that lets exactly these numbers through.
fn of_numbers(allowed: &BTreeSet<u32>) -> Result<BpfProgram, BackendError> {
    let rules = allowed
        .iter()
        .map(|number| (i64::from(*number), Vec::new()));
    let filter = SeccompFilter::new(
        rules.collect(),
        SeccompAction::Errno(REFUSED),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    filter.try_into()
}

/// The very program of profile `app`, without its rules over arguments, with
/// [`REFUSED`] in place of its error numbers.
fn of_ours() -> Result<BpfProgram, ProfileError> {
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let mut profile = Profile::app();
    for rule in Profile::app().rules() {
        profile = profile.without_rule(rule.name)?;
    }
    let filters = profile.compile()?;
    let instructions = filters.programs.iter().flatten();
    Ok(instructions
        .map(|one| {
            let refuses = one.code == RETURN && one.k & 0xffff_0000 == ERRNO;
            sock_filter {
                code: one.code,
                jt: one.jt,
                jf: one.jf,
                k: if refuses { ERRNO | REFUSED } else { one.k },
            }
        })
        .collect())
}

/// Puts the filter on this process and becomes the attempt. `words` are the
/// side, the program and the number.
pub(crate) fn become_attempt(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [side, attempt, number] = words else {
        return Err("three words were expected".into());
    };
    seccompiler::apply_filter(&Side::of_word(side).filter()?)?;
    let mut command = Command::new(attempt);
    command.arg("number").arg(format!("number={number}"));
    Err(command.exec().into())
}

/// The numbers that come through the filter.
pub(crate) fn reached(side: &Side, attempt: &Path) -> Result<BTreeSet<u32>, String> {
    let mut reached = BTreeSet::new();
    for number in 0..NUMBERS_END {
        let failed = |error| format!("call {number} under {side:?}: {error}");
        if is_reached(side, attempt, number).map_err(failed)? {
            reached.insert(number);
        }
    }
    Ok(reached)
}

fn is_reached(side: &Side, attempt: &Path, number: u32) -> Result<bool, Box<dyn Error>> {
    let mut child = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .arg(side.word())
        .arg(attempt)
        .arg(number.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait()? {
            None if Instant::now() < deadline => thread::sleep(PAUSE),
            None => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            status => break status,
        }
    };
    let mut lines = String::new();
    if let Some(mut stdout) = child.stdout.take() {
        stdout.read_to_string(&mut lines)?;
    }
    let Some(answer) = lines.strip_prefix(&format!("trying {number}\n")) else {
        return Err(format!("never tried, {status:?}: {lines:?}").into());
    };
    // Refused, or the filter ended the process; all else came from the call:
    // an answer, another end, no end.
    let refused = answer == format!("answer -{REFUSED}\n");
    let killed = status.and_then(|status| status.signal()) == Some(Signal::SIGSYS as i32);
    Ok(!refused && !killed)
}
