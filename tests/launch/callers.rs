//! Hostile, careless and dying callers.

use std::time::Duration;

use cloison_sandbox::{ExitStatus, IdRange, spawner_pid};
use cloison_tests::Outcome;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::ground::{IDS, eventually, hold, spec};

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
/// lives on and its status is still known.
pub(crate) fn killed_spawner() -> Outcome {
    let mut running = hold(&spec("living", &["/usr/bin/sleep", "0.3"]), Vec::new())
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
    outcome(
        spawner_pid() != Some(spawner) && ended == ExitStatus::Exited(0),
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
