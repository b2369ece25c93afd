//! Each number tried below a filter, in a process of its own.
//!
//! The trial filters refuse with an error number that no kernel code gives
//! ([`REFUSED`]): whatever else comes back comes from the call itself, so that
//! a filter's EPERM is never mistaken for the kernel's, and a refused number
//! is never counted as reached because it failed for another reason.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Read as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use cloison_sandbox::seccomp::{self, Profile, ProfileError};
use nix::sys::signal::Signal;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
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

    fn filter(&self, with: Rules) -> Result<BpfProgram, Box<dyn Error>> {
        Ok(match (self, with) {
            (Self::Ours, with) => of_ours(with)?,
            (Self::Docker(file), Rules::None) => of_numbers(&docker_numbers(file)?)?,
            (Self::Docker(file), Rules::All) => of_dockers(file)?,
        })
    }
}

/// Whether a filter under trial looks at arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// A number counts as reachable if any arguments pass.
    None,
    /// As the profile is.
    All,
}

/// What is tried: a call, with arguments of its own or with none that it can
/// use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) arguments: Option<[u32; 6]>,
}

impl Call {
    /// The last word of the process that filters itself; empty is none.
    fn word(self) -> String {
        let words = self.arguments.iter().flatten().map(u32::to_string);
        words.collect::<Vec<_>>().join(",")
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

/// Docker's profile in `file` with its rules over arguments.
fn of_dockers(file: &Path) -> Result<BpfProgram, Box<dyn Error>> {
    let kernel = docker::running_kernel().ok_or("the kernel has no version")?;
    let mut allowed: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    // One rule without conditions allows all.
    let mut whole = BTreeSet::new();
    for rule in docker::rules(&fs::read_to_string(file)?, kernel)? {
        if rule.action != "SCMP_ACT_ALLOW" {
            continue;
        }
        let conditions: Vec<SeccompCondition> = rule
            .args
            .iter()
            .flatten()
            .map(condition)
            .collect::<Result<_, _>>()?;
        for number in rule
            .names
            .iter()
            .filter_map(|name| seccomp::call_number(name))
        {
            let rules = allowed.entry(i64::from(number)).or_default();
            if conditions.is_empty() {
                whole.insert(i64::from(number));
            } else {
                rules.push(SeccompRule::new(conditions.clone())?);
            }
        }
    }
    for number in whole {
        allowed.insert(number, Vec::new());
    }
    let filter = SeccompFilter::new(
        allowed,
        SeccompAction::Errno(REFUSED),
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

fn condition(argument: &docker::Argument) -> Result<SeccompCondition, Box<dyn Error>> {
    let (operator, value) = match argument.op.as_str() {
        "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, argument.value),
        "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(argument.value), argument.value_two),
        other => return Err(format!("docker's profile compares by {other}").into()),
    };
    let index = u8::try_from(argument.index)?;
    let length = SeccompCmpArgLen::Qword;
    Ok(SeccompCondition::new(index, length, operator, value)?)
}

/// The very program of profile `app`, with [`REFUSED`] in place of its error
/// numbers.
fn of_ours(with: Rules) -> Result<BpfProgram, ProfileError> {
    const RETURN: u16 = 0x06;
    const ERRNO: u32 = 0x0005_0000;
    let mut profile = Profile::app();
    if with == Rules::None {
        for rule in Profile::app().rules() {
            profile = profile.without_rule(rule.name)?;
        }
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
/// side, the program, the number and the arguments.
pub(crate) fn become_attempt(words: &[String]) -> Result<(), Box<dyn Error>> {
    let [side, attempt, number, arguments] = words else {
        return Err("four words were expected".into());
    };
    let mut command = Command::new(attempt);
    command.arg("number").arg(format!("number={number}"));
    let with = if arguments.is_empty() {
        Rules::None
    } else {
        command.arg(format!("arguments={arguments}"));
        Rules::All
    };
    seccompiler::apply_filter(&Side::of_word(side).filter(with)?)?;
    Err(command.exec().into())
}

/// The numbers that come through the filter.
pub(crate) fn reached(side: &Side, attempt: &Path) -> Result<BTreeSet<u32>, String> {
    let calls = (0..NUMBERS_END).map(|number| Call {
        number,
        arguments: None,
    });
    let calls: Vec<Call> = calls.collect();
    let reached = are_reached(side, attempt, &calls)?;
    let reached = calls.iter().zip(reached).filter(|(_, reached)| *reached);
    Ok(reached.map(|(call, _)| call.number).collect())
}

/// For each call, whether it comes through the filter.
pub(crate) fn are_reached(
    side: &Side,
    attempt: &Path,
    calls: &[Call],
) -> Result<Vec<bool>, String> {
    let try_one = |call: &Call| {
        let failed = |error| format!("{call:?} under {side:?}: {error}");
        is_reached(side, attempt, *call).map_err(failed)
    };
    calls.iter().map(try_one).collect()
}

fn is_reached(side: &Side, attempt: &Path, call: Call) -> Result<bool, Box<dyn Error>> {
    let number = call.number;
    let mut child = Command::new("/proc/self/exe")
        .arg(ARGUMENT)
        .arg(side.word())
        .arg(attempt)
        .arg(number.to_string())
        .arg(call.word())
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
