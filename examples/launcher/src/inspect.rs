//! `cloison inspect`: what encloses a process, read anew.

use std::fmt::Write;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloison::runtime::{Record, Running, Runtime};
use cloison_sandbox::cgroup::Usage;
use cloison_sandbox::posture::{Knowledge, Reason};
use cloison_sandbox::{Cgroup, CgroupError, Posture, PostureError, Vantage};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::Serialize;

use crate::cli::{self, Target};
use crate::error::{Error, at, call};
use crate::report::{escaped, print, print_json};

/// What `inspect` found.
#[derive(Serialize)]
struct Finding {
    pid: i32,
    /// Where it is a sandbox that a launcher wrote down.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Known>,
    posture: Posture,
    /// What all of it uses, where its cgroup can be seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
}

/// What is written down of a sandbox, and the state of its cgroup.
#[derive(Serialize)]
struct Known {
    #[serde(flatten)]
    record: Record,
    /// One that was killed leaves its sandbox running, until the next start
    /// ends it.
    launcher_lives: bool,
    cgroup_state: Option<&'static str>,
}

/// Looks at the process and shows it; gives the exit code.
pub(crate) fn inspect(options: &cli::Inspect) -> Result<u8, Error> {
    let directory = &options.state.directory;
    let (pid, pidfd, record) = match &options.target {
        Target::Pid(pid) => {
            let pidfd = open_process(*pid)?;
            // Asked after the descriptor was opened: it is the one written down.
            (*pid, pidfd, Runtime::find_process(directory, *pid)?)
        }
        Target::Name(name) => {
            let Running {
                record, pid, pidfd, ..
            } = {
                let (directory, name) = name.record(directory);
                Running::find(&directory, &name)?
            };
            (pid, pidfd, Some(record))
        }
    };
    let posture = read(pid)?;
    if has_ended(pidfd.as_fd())? {
        return Err(Error::Ended(pid));
    }
    let mut usage = None;
    let sandbox = record
        .map(|record| {
            let launcher_lives = record.launcher_lives()?;
            let cgroup_state = match cgroup(&record)? {
                Some((found, state)) => {
                    usage = Some(found);
                    state
                }
                None => None,
            };
            Ok::<_, Error>(Known {
                record,
                launcher_lives,
                cgroup_state,
            })
        })
        .transpose()?;
    let finding = Finding {
        pid,
        sandbox,
        posture,
        usage,
    };
    if options.format.json {
        print_json(&finding)?;
    } else {
        print(&shown(&finding))?;
    }
    Ok(0)
}

fn open_process(pid: i32) -> Result<OwnedFd, Error> {
    let gone = || Error::Posture(PostureError::Gone(Pid::from_raw(pid)));
    let number = rustix::process::Pid::from_raw(pid).ok_or_else(gone)?;
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(pidfd),
        // EINVAL: the number of a thread, or (before 6.9) of none.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {
            Err(gone())
        }
        Err(errno) => Err(call("opening the process")(Errno::from_raw(
            errno.raw_os_error(),
        ))),
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Error> {
    let mut ended = [PollFd::new(pidfd, PollFlags::POLLIN)];
    poll(&mut ended, PollTimeout::ZERO)
        .map(|ready| ready > 0)
        .map_err(call("looking whether it has ended"))
}

fn read(pid: i32) -> Result<Posture, Error> {
    let proc = File::open("/proc").map_err(at("opening", "/proc"))?;
    let vantage = Vantage::of_caller(&proc).map_err(call("looking at our own namespaces"))?;
    Ok(Posture::read(&proc, Pid::from_raw(pid), &vantage, None)?)
}

/// What its cgroup uses, and whether it runs or stands still, where one can be
/// seen.
fn cgroup(record: &Record) -> Result<Option<(Usage, Option<&'static str>)>, Error> {
    let failed = |source| cloison::Error::Remains {
        name: record.name.clone(),
        source,
    };
    let cgroup = match Cgroup::take_over_noted(&record.name, &record.cgroups) {
        Ok(cgroup) => cgroup,
        Err(CgroupError::Absent { .. } | CgroupError::NotVisible { .. }) => return Ok(None),
        Err(error) => return Err(failed(error).into()),
    };
    let state = match cgroup.is_frozen() {
        Ok(true) => Some("frozen"),
        Ok(false) => Some("running"),
        Err(CgroupError::NoFreezer) => None,
        Err(error) => return Err(failed(error).into()),
    };
    let usage = cgroup.usage().map_err(failed)?;
    Ok(Some((usage, state)))
}

fn shown(finding: &Finding) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    match write_finding(&mut text, finding) {
        Ok(()) | Err(std::fmt::Error) => text,
    }
}

fn write_finding(text: &mut String, finding: &Finding) -> std::fmt::Result {
    match &finding.sandbox {
        None => writeln!(text, "process {}", finding.pid)?,
        Some(Known {
            record,
            launcher_lives,
            cgroup_state,
        }) => {
            let gone = if *launcher_lives { "" } else { " that is gone" };
            writeln!(
                text,
                "sandbox {}: process {}, launched by process {}{gone}, ids from {}, cgroup {}",
                record.name,
                finding.pid,
                record.launcher.pid,
                record.ids.first(),
                cgroup_state.unwrap_or("not seen from here"),
            )?;
        }
    }
    writeln!(text)?;
    for fact in finding.posture.facts() {
        let field = fact.field().name();
        let earlier = finding
            .sandbox
            .as_ref()
            .filter(|_| fact.known() == Knowledge::Unreadable(Reason::NotReported))
            .and_then(|known| known.record.self_reported.get(field));
        let (value, known) = match earlier {
            Some(value) => (value.clone(), "self-reported before it started".to_owned()),
            None => (fact.value().to_string(), fact.known().to_string()),
        };
        let layer = fact.layer().name();
        writeln!(
            text,
            "{layer:<20} {field:<28} {}  [{known}]",
            escaped(&value)
        )?;
    }
    if let Some(usage) = &finding.usage {
        writeln!(text)?;
        for line in usage.to_string().lines() {
            writeln!(text, "{:<20} {line}", "usage")?;
        }
    }
    Ok(())
}
