//! A user namespace: mapped, powerful inside, and limited.

use cloison_linux::steps::Op;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::probe::Found;
use super::trial::{self, Answer, Trial};
use super::{Absence, Feature, KernelError, process};
use crate::IdRange;
use crate::steps::StepList;

const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWNS: u64 = 0x2_0000;

/// Behind the ids that anybody hands out: no sandbox ever has them.
///
/// # Source
/// systemd's table of ids (UIDS-GIDS.md), "unused"
const FIRST_ID: u32 = 0x7fff_0000;

/// Of the user namespace of whoever opens what is in it.
const LIMITS: &str = "/proc/sys/user";

/// Whether the limits are set as well.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limits {
    Set,
    LeftOut,
}

/// What a trial of a user namespace showed.
enum Outcome {
    /// Everything, up to a call that the limits refused.
    Limited,
    /// Everything, but the limits refused nothing.
    Unlimited,
    /// The limits could not be set.
    NoLimits(Absence),
    /// The namespace is of no use.
    NoNamespace(Absence),
}

/// Tries it with the limits, and without where these are missing.
pub(super) fn try_namespace(found: &mut Found) -> Result<(), KernelError> {
    let needed = [
        Feature::Clone3,
        Feature::CloseRange,
        Feature::MountNamespace,
    ];
    if let Some(need) = found.missing(&needed) {
        let needs = Absence::Needs(need);
        found.absent(Feature::UserNamespace, needs)?;
        return found.absent(Feature::NamespaceLimits, needs);
    }
    let (namespace, limits) = match attempt(Limits::Set) {
        Outcome::Limited => (Ok(()), Ok(())),
        Outcome::Unlimited => (Ok(()), Err(Absence::Powerless)),
        Outcome::NoNamespace(absence) => {
            let needs = Absence::Needs(Feature::UserNamespace);
            (Err(absence), Err(needs))
        }
        Outcome::NoLimits(absence) => match attempt(Limits::LeftOut) {
            Outcome::Limited | Outcome::Unlimited => (Ok(()), Err(absence)),
            Outcome::NoNamespace(without) | Outcome::NoLimits(without) => {
                (Err(without), Err(absence))
            }
        },
    };
    found.record(Feature::UserNamespace, namespace)?;
    found.record(Feature::NamespaceLimits, limits)
}

fn attempt(limits: Limits) -> Outcome {
    let (list, of_limits) = match steps(limits) {
        Ok(steps) => steps,
        Err(errno) => return Outcome::NoLimits(Absence::Refused(errno)),
    };
    let last = list.steps().len().saturating_sub(2);
    let refused = |errno| Outcome::NoNamespace(Absence::Refused(errno));
    let answer = Trial::start(&list).and_then(|trial| {
        match trial.answer()? {
            Answer::Held(_) => {}
            Answer::Failed(report) => return Err(Errno::from_raw(report.errno)),
            Answer::Silent | Answer::Stuck => return Err(Errno::ESRCH),
        }
        map(&trial)?;
        trial.go_on()?;
        trial.answer()
    });
    match answer {
        Err(errno) => refused(errno),
        Ok(Answer::Held(_)) => Outcome::Unlimited,
        Ok(Answer::Silent | Answer::Stuck) => Outcome::NoNamespace(Absence::NoAnswer),
        Ok(Answer::Failed(report)) => {
            let errno = Errno::from_raw(report.errno);
            let step = report.step as usize;
            match errno {
                Errno::ENOSPC if limits == Limits::Set && step == last => Outcome::Limited,
                _ if of_limits.contains(&step) || step == last => {
                    Outcome::NoLimits(Absence::Refused(errno))
                }
                _ => refused(errno),
            }
        }
    }
}

/// The steps, and which of them set the limits. The one before the report
/// asks for what the limits forbid.
fn steps(limits: Limits) -> Result<(StepList, std::ops::Range<usize>), Errno> {
    let mut list = trial::list(CLONE_NEWUSER);
    // The check wants a descriptor; a path from the root needs none.
    let unused = list.own(process::root_directory()?);
    trial::let_go(&mut list);
    // As the spawner's children: to look at one asks more of the caller.
    list.push(None, Op::SetDumpable, [0.into()]);
    list.push(None, Op::Report, []);
    list.push(None, Op::Wait, []);
    let first = list.steps().len();
    if limits == Limits::Set {
        let none = list.text("0");
        for kind in ["user", "net", "pid", "time"] {
            let file = list.text(format!("{LIMITS}/max_{kind}_namespaces"));
            list.push(
                None,
                Op::WriteBeneath,
                [unused.into(), file.into(), none.into()],
            );
        }
    }
    let of_limits = first..list.steps().len();
    list.push(None, Op::DropGroups, []);
    list.push(None, Op::SetGroup, [0.into()]);
    list.push(None, Op::SetUser, [0.into()]);
    // Power over something that belongs to the namespace.
    list.push(None, Op::Unshare, [CLONE_NEWNS.into()]);
    list.push(None, Op::MakePrivate, []);
    if limits == Limits::Set {
        list.push(None, Op::Unshare, [CLONE_NEWUSER.into()]);
    }
    list.push(None, Op::Report, []);
    Ok((list, of_limits))
}

fn map(trial: &Trial) -> Result<(), Errno> {
    let directory = trial.directory()?;
    let map = format!("0 {FIRST_ID} {}\n", IdRange::COUNT);
    for file in [c"gid_map", c"uid_map"] {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = openat(&directory, file, flags, Mode::empty())?;
        nix::unistd::write(&file, map.as_bytes())?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    openat(&directory, c"ns/user", flags, Mode::empty()).map(drop)
}
