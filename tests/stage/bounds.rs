//! What the stage is, what ends it, and what is left then.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use cloison_escape::stage::{Enclosure, Limits, MACHINE, ROLE, StageError};
use cloison_tests::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{FAULTY, arguments, code, faulty_outside, text};

const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) fn separate() -> Outcome {
    for line in fs::read_to_string("/proc/self/cgroup").unwrap().lines() {
        let path = line.rsplit(':').next();
        // In v2, processes sit in a leaf.
        assert!(matches!(path, Some("/" | "/stage")), "{line}");
    }
    assert_eq!(fs::read_to_string("/proc/1/comm").unwrap().trim(), "exe");
    assert_eq!(
        fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim(),
        "cloison-stage"
    );
    let links: Vec<_> = fs::read_dir("/sys/class/net").unwrap().collect();
    assert_eq!(links.len(), 1);
    for folder in ["/tmp", "/run", "/dev/shm"] {
        assert_eq!(fs::read_dir(folder).unwrap().count(), 0, "{folder}");
    }
    // No mount of the machine's lies below one of ours.
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let points: Vec<&str> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let distinct: BTreeSet<&str> = points.iter().copied().collect();
    assert_eq!(points.len(), distinct.len(), "{mounts}");
    for descriptor in fs::read_dir("/proc/self/fd").unwrap() {
        let target = fs::read_link(descriptor.unwrap().path());
        assert!(!target.is_ok_and(|target| target.starts_with("/dev/pts")));
    }
    Outcome::Passed
}

pub(crate) fn all_rights() -> Outcome {
    let field = |process: &str, name: &str| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.to_owned()
    };
    assert_eq!(field("self", "Seccomp:"), "Seccomp:\t0");
    assert_eq!(field("self", "NoNewPrivs:"), "NoNewPrivs:\t0");
    for set in ["CapEff:", "CapPrm:"] {
        let bounding = field("self", "CapBnd:");
        let bits = bounding.split_whitespace().nth(1).unwrap().to_owned();
        assert!(field("self", set).ends_with(&bits));
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    assert!(map.trim_end().ends_with("4294967295"), "{map}");
    Outcome::Passed
}

pub(crate) fn orphans() -> Outcome {
    let output = Command::new("sh")
        .args(["-c", "sleep 0.2 >/dev/null 2>&1 & echo $!"])
        .output()
        .unwrap();
    let status = format!("/proc/{}/status", text(&output).trim());
    let parent = fs::read_to_string(&status).unwrap();
    assert!(parent.contains("\nPPid:\t1\n"), "{parent}");
    until("the orphan is reaped", || !Path::new(&status).exists());
    Outcome::Passed
}

pub(crate) fn wall_clock() -> Outcome {
    overruns("waits")
}

pub(crate) fn wall_clock_frozen() -> Outcome {
    overruns("freezes_a_process_and_waits")
}

/// A frozen process that is left does not keep the stage until its time is over.
pub(crate) fn left_frozen() -> Outcome {
    let mut enclosure = Enclosure::default();
    enclosure.limits.wall_clock_s_max = Some(40);
    let arguments = arguments("freezes_a_process_and_fails");
    let code = enclosure.run(Path::new(FAULTY), &arguments).unwrap();
    assert_eq!(code, 1);
    assert_eq!(outer_cgroups(), Vec::<PathBuf>::new());
    Outcome::Passed
}

fn overruns(case: &str) -> Outcome {
    let mut enclosure = Enclosure::default();
    enclosure.limits.wall_clock_s_max = Some(2);
    let start = Instant::now();
    let ended = enclosure.run(Path::new(FAULTY), &arguments(case));
    assert!(
        matches!(ended, Err(StageError::TimeOver { seconds: 2 })),
        "{ended:?}"
    );
    assert_eq!(ended.unwrap_err().exit_code(), 124);
    assert!(start.elapsed() >= Duration::from_secs(2));
    assert_eq!(outer_cgroups(), Vec::<PathBuf>::new());
    Outcome::Passed
}

pub(crate) fn memory() -> Outcome {
    small(
        "fills_memory",
        |limits| limits.memory_bytes_max = Some(256 << 20),
        1,
    )
}

pub(crate) fn processes() -> Outcome {
    small(
        "forks_without_end",
        |limits| limits.processes_max = Some(64),
        0,
    )
}

fn small(case: &str, change: impl FnOnce(&mut Limits), expected: u8) -> Outcome {
    let mut enclosure = Enclosure::default();
    change(&mut enclosure.limits);
    let code = enclosure.run(Path::new(FAULTY), &arguments(case)).unwrap();
    assert_eq!(code, expected);
    Outcome::Passed
}

pub(crate) fn terminated() -> Outcome {
    for (signal, expected) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut outer = waiting_outer();
        kill(Pid::from_raw(outer.id().cast_signed()), signal).unwrap();
        assert_eq!(outer.wait().unwrap().code(), Some(expected));
        assert_eq!(others(), Vec::<String>::new());
        assert_eq!(outer_cgroups(), Vec::<PathBuf>::new());
    }
    Outcome::Passed
}

pub(crate) fn killed() -> Outcome {
    let mut outer = waiting_outer();
    outer.kill().unwrap();
    outer.wait().unwrap();
    until("the stage ends", || others().is_empty());
    for group in outer_cgroups() {
        // What has just ended may hold it for a moment.
        until("its cgroup is empty", || {
            fs::remove_dir(&group).is_ok() || !group.exists()
        });
    }
    Outcome::Passed
}

pub(crate) fn stale() -> Outcome {
    let mut outer = waiting_outer();
    outer.kill().unwrap();
    outer.wait().unwrap();
    until("the stage ends", || others().is_empty());
    assert!(!outer_cgroups().is_empty());
    // A process that ends has no command line any more and is in its group yet.
    until("its cgroups hold no process", || {
        outer_cgroups().iter().all(|group| {
            fs::read_to_string(group.join("cgroup.procs")).is_ok_and(|list| list.is_empty())
        })
    });
    let output = faulty_outside("passes").output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert_eq!(outer_cgroups(), Vec::<PathBuf>::new());
    Outcome::Passed
}

/// A stage that lives is not one that was left, also for a stage in another
/// pid namespace, which sees none of its processes.
pub(crate) fn foreign() -> Outcome {
    let mut outer = outer_of("freezes_a_process_and_waits");
    until("a process is frozen", || !frozen().is_empty());
    let (groups, stopped) = (outer_cgroups(), frozen());
    let mut other = Command::new("unshare");
    other
        .args(["--pid", "--fork", "--mount-proc", "--mount", FAULTY])
        .args(["--exact", "passes"])
        .env_remove(ROLE)
        .env_remove(MACHINE);
    let output = other.output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output));
    assert_eq!(outer_cgroups(), groups);
    let still = frozen();
    // Its outer process thaws it.
    kill(Pid::from_raw(outer.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(still, stopped, "another's stage was thawed");
    assert_eq!(outer.wait().unwrap().code(), Some(143));
    assert_eq!(outer_cgroups(), Vec::<PathBuf>::new());
    Outcome::Passed
}

/// The groups of stages that stand still.
fn frozen() -> Vec<PathBuf> {
    let stands_still = |group: &PathBuf| {
        let holds = |file: &str, value: &str| {
            fs::read_to_string(group.join(file)).is_ok_and(|found| found.contains(value))
        };
        holds("freezer.state", "FROZEN") || holds("cgroup.events", "frozen 1")
    };
    let beneath = |group: PathBuf| fs::read_dir(group).into_iter().flatten();
    let groups = outer_cgroups().into_iter().flat_map(beneath);
    groups
        .map(|entry| entry.unwrap().path())
        .filter(stands_still)
        .collect()
}

/// A stage on this one, whose case is known to run.
fn waiting_outer() -> Child {
    outer_of("waits")
}

fn outer_of(case: &str) -> Child {
    let mut outer = faulty_outside(case)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(outer.stdout.as_mut().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.contains("running 1 test")));
    until("the case runs", || others().len() >= 4);
    outer
}

/// The command lines of faulty runners and what they started.
fn others() -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .filter(|line| {
            ["faulty", "\0waits\0", "\0freezes_a_"]
                .iter()
                .any(|part| line.contains(part))
        })
        .collect()
}

fn outer_cgroups() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if !entry.file_type().unwrap().is_dir() {
                continue;
            }
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("cloison-stage-")
            {
                found.push(entry.path());
            }
            folders.push(entry.path());
        }
    }
    found
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited too long: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
