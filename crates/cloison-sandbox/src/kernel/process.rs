//! What is tried in processes of their own.

use std::os::fd::OwnedFd;
use std::time::Duration;

use cloison_linux::host::{self, Handled, PrctlQuestion};
use cloison_linux::steps::Op;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::wait::WaitStatus;

use super::calls::{self, ALL_SCOPE, BIND_TCP, MAKE_CHARACTER};
use super::group::{Add, Denial, Group, Shows, Try};
use super::probe::Found;
use super::processor::{self, FORCE_DISABLED};
use super::trial::{self, Answer, Trial};
use super::{Absence, Feature, KernelError};
use crate::spawner::{errno, program};
use crate::steps::StepList;

const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWCGROUP: u64 = 0x200_0000;
const CLONE_NEWUTS: u64 = 0x400_0000;
const CLONE_NEWIPC: u64 = 0x800_0000;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;

/// Everything but `KEEP_CAPS` set, and all locked.
const SECUREBITS: u64 = 0xef;
/// An error number that no call of a trial returns by itself.
const MADE_UP: Errno = Errno::EL2HLT;
/// A process is made and heard.
pub(super) fn try_clone(found: &mut Found) -> Result<(), KernelError> {
    let mut list = trial::list(0);
    list.push(None, Op::Report, []);
    let trial = match Trial::start(&list) {
        Ok(trial) => trial,
        Err(errno) => return found.refused(Feature::Clone3, errno),
    };
    let said = trial.answer().map_err(KernelError::Unheard)?;
    found.record(Feature::Clone3, said.held().map(|_| ()))
}

/// A process that waits is ended through its descriptor, and says how.
pub(super) fn try_signal(found: &mut Found) -> Result<(), KernelError> {
    if let Some(need) = found.missing(&[Feature::Clone3, Feature::CloseRange]) {
        found.absent(Feature::PidfdSendSignal, Absence::Needs(need))?;
        return found.absent(Feature::PidfdExitInfo, Absence::Needs(need));
    }
    let mut list = trial::list(0);
    trial::let_go(&mut list);
    list.push(None, Op::Report, []);
    list.push(None, Op::Wait, []);
    let mut trial = match Trial::start(&list) {
        Ok(trial) => trial,
        Err(errno) => return found.refused(Feature::PidfdSendSignal, errno),
    };
    let said = trial.answer().map_err(KernelError::Unheard)?;
    let ended = said
        .held()
        .and_then(|_| host::send_signal(trial.pidfd(), SIGKILL).map_err(calls::refused))
        .and_then(|()| match trial.wait().map_err(Absence::Refused)? {
            // Reaped by somebody else.
            None | Some(WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ok(()),
            Some(_) => Err(Absence::Powerless),
        });
    found.record(Feature::PidfdSendSignal, ended)?;
    if ended.is_err() {
        let needs = Absence::Needs(Feature::PidfdSendSignal);
        return found.absent(Feature::PidfdExitInfo, needs);
    }
    let status = exit_status(&trial);
    found.record(Feature::PidfdExitInfo, status)
}

/// The status of an ended process.
///
/// Where the caller ignores SIGCHLD the wait is over a moment before the
/// kernel has put the status down.
fn exit_status(trial: &Trial) -> Result<(), Absence> {
    for _ in 0..LOOKS {
        match host::exit_status(trial.pidfd()).map_err(calls::refused)? {
            Some(SIGKILL) => return Ok(()),
            Some(_) => return Err(Absence::Powerless),
            None => std::thread::sleep(INTERVAL),
        }
    }
    Err(Absence::Powerless)
}

/// How often the status is looked for.
const LOOKS: u32 = 200;
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(1);

/// Both the signal and, as it ends a process, the wait status.
const SIGKILL: i32 = Signal::SIGKILL as i32;

/// What needs no particular order: namespaces that change nothing outside,
/// and the process's own state.
pub(super) fn ordinary(found: &Found) -> Group {
    let mut tries = vec![
        Try::new(Feature::UtsNamespace, |list| {
            let name = list.text("probe");
            list.push(None, Op::Unshare, [CLONE_NEWUTS.into()]);
            list.push(None, Op::SetHostName, [name.into()]);
            Ok(())
        }),
        Try::new(Feature::IpcNamespace, |list| unshare(list, CLONE_NEWIPC)),
        Try::new(Feature::CgroupNamespace, |list| {
            unshare(list, CLONE_NEWCGROUP)
        }),
        Try::new(Feature::NetworkNamespace, |list| {
            unshare(list, CLONE_NEWNET)?;
            list.push(None, Op::SetLoopbackUp, []);
            Ok(())
        }),
        Try::new(Feature::ResourceLimits, |list| {
            const RLIMIT_CORE: u64 = 4;
            list.push(None, Op::SetLimit, [RLIMIT_CORE.into(), 0.into()]);
            Ok(())
        }),
        Try::new(Feature::ProcessReset, reset),
        Try::new(Feature::Session, |list| {
            list.push(None, Op::StartSession, []);
            Ok(())
        }),
        Try::new(Feature::SessionKeyring, |list| {
            list.push(None, Op::JoinKeyring, []);
            Ok(())
        })
        .shows(|report| report.keyring > 0 && host::session_keyring() != Ok(report.keyring)),
        Try::new(Feature::CoreScheduling, |list| {
            list.push(None, Op::MakeCoreCookie, []);
            Ok(())
        })
        .shows(|report| !(-4095..=0).contains(&report.core_cookie)),
    ];
    tries.extend(speculation(found));
    tries.push(Try::new(Feature::CloseRange, |list| {
        trial::let_go(list);
        Ok(())
    }));
    Group {
        clone: None,
        tries,
        // What was open before must be closed.
        denial: Some(Denial {
            feature: Feature::CloseRange,
            add: |list| {
                let slot = list.own(root_directory()?);
                let text = list.text("x");
                let arguments = [slot.into(), text.into(), text.into()];
                list.push(None, Op::WriteBeneath, arguments);
                Ok(())
            },
            errno: Errno::EBADF,
        }),
    }
}

fn unshare(list: &mut StepList, namespace: u64) -> Result<(), Errno> {
    list.push(None, Op::Unshare, [namespace.into()]);
    Ok(())
}

fn reset(list: &mut StepList) -> Result<(), Errno> {
    list.push(None, Op::SetSchedulerOther, []);
    list.push(None, Op::SetNice, [0.into()]);
    list.push(None, Op::SetIoPriority, [0.into()]);
    list.push(None, Op::ResetMemoryPolicy, []);
    list.push(None, Op::SetPersonality, [0.into()]);
    list.push(None, Op::SetUmask, [0o022.into()]);
    Ok(())
}

/// Those that the kernel says it gives to a process.
fn speculation(found: &Found) -> Vec<Try> {
    let mut tries = Vec::new();
    if found.state(Feature::StoreBypassControl).is_none() {
        tries.push(
            Try::new(Feature::StoreBypassControl, |list| {
                list.push(None, Op::RestrictSpeculation, [0.into()]);
                Ok(())
            })
            .shows(|report| report.store_bypass & FORCE_DISABLED != 0),
        );
    }
    if found.state(Feature::IndirectBranchControl).is_none() {
        tries.push(
            Try::new(Feature::IndirectBranchControl, |list| {
                list.push(None, Op::RestrictSpeculation, [1.into()]);
                Ok(())
            })
            .shows(|report| report.indirect_branch & FORCE_DISABLED != 0),
        );
    }
    tries
}

/// The sets emptied and the bits locked: a call that asks for a capability
/// must then be refused.
pub(super) fn capabilities() -> Group {
    Group {
        // Where a sandbox drops them: outside, that needs more of the caller.
        clone: Some((CLONE_NEWUSER, Feature::UserNamespace)),
        tries: vec![
            Try::new(Feature::CapabilitySets, |list| {
                list.push(None, Op::DropBounding, [0.into()]);
                list.push(None, Op::ClearAmbient, []);
                Ok(())
            }),
            Try::new(Feature::Securebits, |list| {
                list.push(None, Op::SetSecurebits, [SECUREBITS.into()]);
                Ok(())
            })
            .shows(|report| report.securebits == SECUREBITS as i64),
            Try::new(Feature::CapabilitySets, |list| {
                list.push(None, Op::SetCapabilities, [0.into(), 0.into()]);
                Ok(())
            }),
        ],
        denial: Some(Denial {
            feature: Feature::CapabilitySets,
            add: |list| unshare(list, CLONE_NEWNS),
            errno: Errno::EPERM,
        }),
    }
}

/// What it takes to mount something beneath a new root.
const MOUNTS: &[Feature] = &[Feature::MountNamespace, Feature::MountApi, Feature::Openat2];

/// A root of its own with what is mounted in it, in a new pid namespace.
pub(super) fn mounts() -> Group {
    Group {
        clone: Some((CLONE_NEWPID, Feature::PidNamespace)),
        tries: vec![
            Try::new(Feature::MountNamespace, |list| {
                unshare(list, CLONE_NEWNS)?;
                list.push(None, Op::MakePrivate, []);
                Ok(())
            }),
            Try::new(Feature::MountApi, |list| {
                let root = list.own(new_root()?);
                list.push(None, Op::AttachRoot, [root.into()]);
                Ok(())
            })
            .needs(&[Feature::MountNamespace, Feature::Tmpfs]),
            Try::new(Feature::ProcSubset, |list| {
                let options = ["subset", "pid", "hidepid", "invisible"];
                mount(list, "proc", &options, 1);
                let file = list.text("self/oom_score_adj");
                // The highest: it may be raised to it from any other.
                let score = list.text("1000");
                list.push(None, Op::WriteProc, [file.into(), score.into()]);
                Ok(())
            })
            .needs(MOUNTS),
            Try::new(Feature::Sysfs, |list| {
                mount(list, "sysfs", &[], 0);
                Ok(())
            })
            .needs(MOUNTS),
            Try::new(Feature::Devpts, |list| {
                mount(list, "devpts", &["ptmxmode", "666", "max", "16"], 0);
                Ok(())
            })
            .needs(MOUNTS),
            Try::new(Feature::MountNamespace, |list| {
                list.push(None, Op::PivotRoot, []);
                list.push(None, Op::DetachOldRoot, []);
                list.push(None, Op::EnterRoot, []);
                Ok(())
            })
            .needs(&[Feature::MountApi]),
        ],
        denial: None,
    }
}

/// Where the file systems of [`mounts`] go.
fn new_root() -> Result<OwnedFd, Errno> {
    let root = calls::tmpfs(false).map_err(|absence| match absence {
        Absence::Refused(errno) => errno,
        _ => Errno::ENODEV,
    })?;
    for name in ["proc", "sysfs", "devpts"] {
        mkdirat(&root, name, Mode::S_IRWXU)?;
    }
    Ok(root)
}

fn mount(list: &mut StepList, kind: &str, options: &[&str], remember: u64) {
    let kind = list.text(kind);
    let options = list.list(options);
    list.push(
        None,
        Op::MountNew,
        [
            kind.into(),
            kind.into(),
            options.into(),
            host::attribute::NO_SUID.into(),
            remember.into(),
        ],
    );
}

/// `no_new_privs`, a Landlock domain that forbids one thing of each part, and
/// a seccomp program that makes umask(2) fail.
pub(super) fn confinement(found: &Found) -> Group {
    let mut tries = Vec::new();
    if found.has(Feature::NetworkNamespace) {
        tries.push(Try::new(Feature::NetworkNamespace, |list| {
            unshare(list, CLONE_NEWNET)
        }));
    }
    tries.push(Try::new(Feature::NoNewPrivs, |list| {
        list.push(None, Op::BindAbstract, []);
        list.push(None, Op::SetNoNewPrivs, []);
        // The self-report tries a device node: nothing may come of it.
        list.push(None, Op::SetCapabilities, [0.into(), 0.into()]);
        Ok(())
    }));
    let domains: [(Feature, Add, Shows); 3] = [
        (
            Feature::LandlockFiles,
            |list| restrict(list, MAKE_CHARACTER, 0, 0),
            |report| report.make_node == -(Errno::EACCES as i64),
        ),
        (
            Feature::LandlockNetwork,
            |list| restrict(list, 0, BIND_TCP, 0),
            |report| report.bind_tcp == -(Errno::EACCES as i64),
        ),
        (
            Feature::LandlockScope,
            |list| restrict(list, 0, 0, ALL_SCOPE),
            |report| report.connect_abstract == -(Errno::EPERM as i64),
        ),
    ];
    for (feature, add, shows) in domains {
        if found.has(feature) {
            let tried = Try::new(feature, add).needs(&[Feature::NoNewPrivs]);
            tries.push(tried.shows(shows));
        }
    }
    tries.push(
        Try::new(Feature::SeccompFilter, |list| {
            let program = list.words(UMASK_FAILS);
            let count = UMASK_FAILS.len() as u64;
            list.push(None, Op::InstallFilter, [program.into(), count.into()]);
            Ok(())
        })
        .needs(&[Feature::NoNewPrivs]),
    );
    Group {
        clone: None,
        tries,
        denial: Some(Denial {
            feature: Feature::SeccompFilter,
            add: |list| {
                list.push(None, Op::SetUmask, [0o022.into()]);
                Ok(())
            },
            errno: MADE_UP,
        }),
    }
}

fn restrict(list: &mut StepList, files: u64, network: u64, scope: u64) -> Result<(), Errno> {
    let handled = Handled {
        files,
        network,
        scope,
    };
    let ruleset = list.own(host::landlock_ruleset(handled).map_err(errno)?);
    list.push(None, Op::RestrictSelf, [ruleset.into()]);
    Ok(())
}

/// struct sock_filter, each as one word: load the call's number, compare,
/// return.
const UMASK_FAILS: [u64; 4] = [
    0x20,
    0x15 | 1 << 24 | 95 << 32,
    0x06 | (0x0005_0000 | MADE_UP as u64) << 32,
    0x06 | 0x7fff_0000 << 32,
];

/// A program in a sealed, anonymous file is executed.
pub(super) fn try_execution(found: &mut Found) -> Result<(), KernelError> {
    let tried = match found.missing(&[Feature::Clone3, Feature::CloseRange]) {
        Some(need) => Err(Absence::Needs(need)),
        None => execute(),
    };
    found.record(Feature::MemfdExecution, tried)
}

/// What the static program answers to arguments that it does not know.
const UNKNOWN_ARGUMENTS: i32 = 64;

fn execute() -> Result<(), Absence> {
    let mut list = trial::list(0);
    let program = program(0o111).map_err(Absence::Refused)?;
    list.own(program);
    // The program's is the first place.
    let (none, program) = (list.words([]), 0);
    let places = [none.into(), 0.into(), program.into()];
    list.push(None, Op::PlaceDescriptors, places);
    let arguments = list.list(["cloison-probe", "probe"]);
    let environment = list.list::<&str>([]);
    list.push(
        None,
        Op::ExecuteKept,
        [arguments.into(), environment.into()],
    );
    let mut trial = Trial::start(&list).map_err(Absence::Refused)?;
    match trial.answer().map_err(Absence::Refused)? {
        Answer::Silent => {}
        Answer::Failed(report) => {
            return Err(Absence::Refused(Errno::from_raw(report.errno)));
        }
        Answer::Held(_) | Answer::Stuck => return Err(Absence::NoAnswer),
    }
    match trial.wait().map_err(Absence::Refused)? {
        // Reaped by somebody else: the closed socket must do.
        None | Some(WaitStatus::Exited(_, UNKNOWN_ARGUMENTS)) => Ok(()),
        Some(_) => Err(Absence::Powerless),
    }
}

/// Some descriptor.
pub(super) fn root_directory() -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    openat(AT_FDCWD, c"/", flags, Mode::empty())
}

/// Asks what the processor needs, before anything of it is tried.
pub(super) fn ask_speculation(found: &mut Found) -> Result<(), KernelError> {
    for (feature, question) in [
        (Feature::StoreBypassControl, PrctlQuestion::StoreBypass),
        (
            Feature::IndirectBranchControl,
            PrctlQuestion::IndirectBranch,
        ),
    ] {
        match host::ask_prctl(question) {
            Ok(answer) => {
                if let Some(state) = processor::speculation(answer) {
                    found.set(feature, state);
                }
            }
            Err(failed) => found.refused(feature, errno(failed))?,
        }
    }
    Ok(())
}
