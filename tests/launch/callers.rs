//! Hostile, careless and dying callers.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloison_sandbox::posture::{Field, Value};
use cloison_sandbox::{
    Error, ExitStatus, Feature, Held, IdRange, Layer, Plan, Prepared, SpawnError, spawner_pid,
};
use cloison_tests::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::ground::{IDS, eventually, hold, kernel, plan, spec, spec_without_init, waivers};

fn outcome(kept: bool, broken: &str) -> Outcome {
    if kept {
        Outcome::Passed
    } else {
        Outcome::Failed(broken.to_owned())
    }
}

fn leftovers(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap() {
        let path = hierarchy.unwrap().path().join(format!("cloison-{name}"));
        if path.exists() {
            left.push(path.display().to_string());
        }
    }
    left
}

/// A held sandbox that is dropped leaves no process and no cgroup.
pub(crate) fn dropped_held() -> Outcome {
    let held = hold(&spec("dropped", &["/usr/bin/true"]), Vec::new()).unwrap();
    let pid = held.pid();
    if leftovers("dropped").is_empty() {
        return Outcome::Failed("the cgroup of a held sandbox was not found: blind".to_owned());
    }
    drop(held);
    let left = leftovers("dropped");
    let gone = eventually(|| kill(pid, None).is_err());
    outcome(gone && left.is_empty(), &format!("left: {left:?}"))
}

/// A spawner that is killed is replaced; what it held ends, what it started
/// lives on and its status is still known, where the kernel keeps it for the
/// pidfd: elsewhere it is honestly unknown.
pub(crate) fn killed_spawner() -> Outcome {
    let keeps_status = kernel().has(Feature::PidfdExitInfo);
    // It must outlive the spawner, also in an emulated processor.
    let lasts_s = if keeps_status { "0.3" } else { "20" };
    let mut running = hold(&spec("living", &["/usr/bin/sleep", lasts_s]), Vec::new())
        .unwrap()
        .start()
        .unwrap();
    let held = hold(&spec("waiting", &["/usr/bin/true"]), Vec::new()).unwrap();
    let spawner = spawner_pid().unwrap();
    kill(Pid::from_raw(spawner.cast_signed()), Signal::SIGKILL).unwrap();
    let started = held.start();
    let status = started.unwrap().remove().unwrap();
    let after = hold(&spec("after", &["/usr/bin/true"]), Vec::new())
        .unwrap()
        .start()
        .unwrap()
        .remove();
    let ended = running.wait().unwrap();
    running.remove().unwrap();
    println!("held under the old one: {status:?}, after: {after:?}, running: {ended:?}");
    let expected = if keeps_status {
        ExitStatus::Exited(0)
    } else {
        ExitStatus::Unknown
    };
    outcome(
        spawner_pid() != Some(spawner) && ended == expected,
        "the old spawner or a lost status",
    )
}

/// A thread of the caller that waits for any child takes no status away.
pub(crate) fn waits_elsewhere() -> Outcome {
    // A thread that reaps any child, as careless programs do.
    std::thread::spawn(|| {
        loop {
            if waitpid(None, Some(WaitPidFlag::WNOHANG)).is_err() {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
    });
    for _ in 0..50 {
        let mut sandbox = hold(
            &spec("elsewhere", &["/usr/bin/sh", "-c", "exit 7"]),
            Vec::new(),
        )
        .unwrap()
        .start()
        .unwrap();
        let status = sandbox.wait().unwrap();
        if status != ExitStatus::Exited(7) {
            return Outcome::Failed(format!("{status:?}"));
        }
        sandbox.remove().unwrap();
    }
    Outcome::Passed
}

/// Twenty sandboxes are waited for at once by one thread, and one that goes on
/// is not reported before its time.
pub(crate) fn waits_async() -> Outcome {
    let launch = |number: u32, command: &str| {
        let name = format!("async-{number}");
        let mut spec = spec(&name, &["/usr/bin/sh", "-c", command]);
        spec.ids = IdRange::new(IDS + number * IdRange::COUNT).ok();
        hold(&spec, Vec::new()).unwrap().start().unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut long = launch(0, "exec sleep 30");
        let early = tokio::time::timeout(Duration::from_millis(100), long.wait_async()).await;
        let mut waits = Vec::new();
        for number in 1..=20 {
            let mut sandbox = launch(number, &format!("exit {number}"));
            waits.push(tokio::task::spawn_local(async move {
                let status = sandbox.wait_async().await.unwrap();
                sandbox.remove().unwrap();
                status
            }));
        }
        let mut codes = Vec::new();
        for wait in waits {
            codes.push(wait.await.unwrap());
        }
        let ended = long.remove().unwrap();
        let expected: Vec<_> = (1..=20).map(ExitStatus::Exited).collect();
        outcome(
            early.is_err() && codes == expected && ended != ExitStatus::Exited(0),
            &format!("{early:?} {codes:?} {ended:?}"),
        )
    })
}

/// More sandboxes of one caller than a child may have descriptors: what the
/// spawner holds for the others is none of a child's.
pub(crate) fn many_at_once() -> Outcome {
    let mut running = Vec::new();
    for number in 0..140 {
        let name = format!("many-{number}");
        let mut spec = spec_without_init(&name, &["/usr/bin/sleep", "100"]);
        spec.ids = IdRange::new(IDS + number * IdRange::COUNT).ok();
        spec.limits.open_files_max = 256;
        match hold(&spec, Vec::new()).and_then(Held::start) {
            Ok(sandbox) => running.push(sandbox),
            Err(error) => return Outcome::Failed(format!("the {number}th: {error:?}")),
        }
    }
    for sandbox in running {
        sandbox.remove().unwrap();
    }
    Outcome::Passed
}

fn end_spawner(signal: Signal) {
    if let Some(pid) = spawner_pid() {
        // It may have ended meanwhile.
        let _told = kill(Pid::from_raw(pid.cast_signed()), signal);
    }
}

/// The children of this process that have ended and that nobody has reaped.
fn zombies() -> Vec<String> {
    let own = format!("PPid:\t{}", std::process::id());
    let mut zombies = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let status = std::fs::read_to_string(entry.unwrap().path().join("status"));
        let status = status.unwrap_or_default();
        if status.contains(&own) && status.contains("State:\tZ") {
            zombies.push(status.lines().next().unwrap_or_default().to_owned());
        }
    }
    zombies
}

/// A spawner that is killed at any moment of a launch: the launch fails or
/// succeeds, and never hangs. The next start makes another.
pub(crate) fn spawner_killed_at_any_moment() -> Outcome {
    let stop = Arc::new(AtomicBool::new(false));
    let killer = {
        let stop = Arc::clone(&stop);
        std::thread::spawn(move || {
            let mut pause = 0;
            while !stop.load(Ordering::Relaxed) {
                pause = (pause + 370) % 6000;
                std::thread::sleep(Duration::from_micros(500 + pause));
                end_spawner(Signal::SIGKILL);
            }
        })
    };
    let (mut launched, mut failed) = (0, 0);
    for _ in 0..200 {
        match hold(&spec("hit", &["/usr/bin/true"]), Vec::new()) {
            Ok(held) => {
                launched += 1;
                drop(held);
            }
            Err(_) => failed += 1,
        }
    }
    stop.store(true, Ordering::Relaxed);
    killer.join().unwrap();
    println!("launched {launched}, failed {failed}");
    // One more: what replaces it reaps it.
    end_spawner(Signal::SIGKILL);
    let again = || hold(&spec("after-all", &["/usr/bin/true"]), Vec::new());
    let after = again().or_else(|_| again());
    let left = zombies();
    outcome(
        launched > 0 && failed > 0 && after.is_ok() && left.is_empty(),
        &format!("launched {launched}, failed {failed}, then {after:?}, zombies {left:?}"),
    )
}

/// A spawner that is stopped holds nobody for ever.
pub(crate) fn stopped_spawner() -> Outcome {
    drop(hold(&spec("first", &["/usr/bin/true"]), Vec::new()).unwrap());
    let prepared = plan(&spec("second", &["/usr/bin/true"]), Vec::new()).unwrap();
    end_spawner(Signal::SIGSTOP);
    let silent = prepared.hold();
    end_spawner(Signal::SIGCONT);
    let after = hold(&spec("third", &["/usr/bin/true"]), Vec::new());
    outcome(
        matches!(silent, Err(Error::Spawn(SpawnError::Silent))) && after.is_ok(),
        &format!("{silent:?}, then {after:?}"),
    )
}

/// A caller with seccomp filters of its own, as under a container runtime:
/// they come on top of the sandbox's.
pub(crate) fn filtered_caller() -> Outcome {
    let filter = seccompiler::SeccompFilter::new(
        std::collections::BTreeMap::new(),
        seccompiler::SeccompAction::Allow,
        seccompiler::SeccompAction::Errno(1),
        seccompiler::TargetArch::x86_64,
    )
    .unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    seccompiler::apply_filter(&program).unwrap();
    seccompiler::apply_filter(&program).unwrap();
    for directly in [false, true] {
        let plan = plan(&spec("filtered", &["/usr/bin/true"]), Vec::new()).unwrap();
        let held = if directly {
            plan.hold_directly()
        } else {
            plan.hold()
        };
        let filters = held
            .as_ref()
            .ok()
            .and_then(|held| held.posture().fact(Field::SeccompFilters))
            .map(|fact| fact.value().clone());
        if filters != Some(Value::Number(3)) {
            return Outcome::Failed(format!("directly: {directly}: {held:?}"));
        }
    }
    Outcome::Passed
}

/// A caller that adopts what its dead spawner leaves, as process 1 of a
/// container does, and never waits for a child itself.
pub(crate) fn adopting_caller() -> Outcome {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let command = ["/usr/bin/sh", "-c", "sleep 0.2; exit 5"];
    let mut sandbox = hold(&spec("adopted", &command), Vec::new())
        .and_then(Held::start)
        .unwrap();
    end_spawner(Signal::SIGKILL);
    let status = sandbox.wait().unwrap();
    sandbox.remove().unwrap();
    outcome(status == ExitStatus::Exited(5), &format!("{status:?}"))
}

/// The limits on nested namespaces are tried, not taken for granted.
pub(crate) fn raised_limits() -> Outcome {
    let spec = spec("raised", &["/usr/bin/true"]);
    for kind in ["user", "net", "pid", "time"] {
        let prepared = Prepared::new(&spec).unwrap();
        let user = prepared.user.as_fd().as_raw_fd();
        let raised = std::process::Command::new("nsenter")
            .arg(format!("--user=/proc/{}/fd/{user}", std::process::id()))
            .args(["sh", "-c"])
            .arg(format!("echo 9 > /proc/sys/user/max_{kind}_namespaces"))
            .status();
        if !raised.as_ref().is_ok_and(|status| status.success()) {
            return Outcome::Failed(format!("the limit could not be raised: {raised:?}"));
        }
        let io = cloison_sandbox::Io::null().unwrap();
        let held = Plan::new(&spec, kernel(), &waivers(), prepared, io).and_then(Plan::hold);
        let noticed = match &held {
            Err(Error::PostureDiffers(differences)) => differences
                .iter()
                .any(|one| one.expected.field() == Field::NestedNamespaces),
            // In another user namespace no step means the same.
            Err(Error::Step { layer, .. }) => {
                kind == "user" && *layer == Some(Layer::UserNamespace)
            }
            _ => false,
        };
        if !noticed {
            return Outcome::Failed(format!("{kind}: nobody noticed: {held:?}"));
        }
    }
    Outcome::Passed
}
