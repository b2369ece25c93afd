//! Callers that are interrupted, stopped, aborted, or race with an end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use cloison_sandbox::{Held, IdRange, SpawnError, spawner_pid};
use cloison_tests::{Outcome, REPORT, quick};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ground::{IDS, cgroups, children, descriptors, eventually, launch, plan, spec};

/// What must be as it was.
fn kept() -> (usize, usize, usize) {
    let spawner = spawner_pid().map_or(0, descriptors);
    (descriptors(std::process::id()), spawner, children())
}

fn same_again(before: (usize, usize, usize)) -> Outcome {
    let settled = eventually(|| kept() == before && cgroups().is_empty());
    if settled {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{before:?}, then {:?}, {:?}", kept(), cgroups()))
    }
}

/// Sends `signals` in turn to this process until `stop`; how many.
fn storm(stop: &AtomicBool, pause: Duration) -> u32 {
    let own = Pid::this();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        kill(own, Signal::SIGALRM).unwrap();
        sent += 1;
        thread::sleep(pause);
    }
    sent
}

/// A handled signal every tenth of a millisecond: `EINTR` wherever it can be.
pub(crate) fn signals() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let entered = runtime.enter();
    let handled = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::alarm()).unwrap();
    launch("first").unwrap();
    let before = kept();
    let stop = AtomicBool::new(false);
    let launches = if quick() { 20 } else { 60 };
    let (results, sent) = thread::scope(|scope| {
        let storm = scope.spawn(|| {
            // Only the thread that launches is to be interrupted.
            nix::sys::signal::SigSet::all().thread_block().unwrap();
            storm(&stop, Duration::from_micros(100))
        });
        let results: Vec<_> = (0..launches).map(|_| launch("stormy")).collect();
        stop.store(true, Ordering::Relaxed);
        (results, storm.join().unwrap())
    });
    println!("{REPORT}{sent} signals during {launches} launches");
    drop(entered);
    drop(handled);
    if let Some(Err(error)) = results.into_iter().find(Result::is_err) {
        return Outcome::Failed(format!("{error:?}"));
    }
    assert!(sent > launches, "there was no storm: {sent}");
    same_again(before)
}

/// Stopped and continued without end: calls with a deadline are interrupted
/// also where nothing handles the signal.
pub(crate) fn stops() -> Outcome {
    launch("first").unwrap();
    let before = kept();
    let own = std::process::id().to_string();
    let script = "while kill -STOP $1 && kill -CONT $1; do sleep 0.003; done";
    let mut stopper = std::process::Command::new("sh")
        .args(["-c", script, "sh", &own])
        .spawn()
        .unwrap();
    let launches = if quick() { 10 } else { 40 };
    let results: Vec<_> = (0..launches).map(|_| launch("stopped")).collect();
    stopper.kill().unwrap();
    stopper.wait().unwrap();
    if let Some(Err(error)) = results.into_iter().find(Result::is_err) {
        return Outcome::Failed(format!("{error:?}"));
    }
    same_again(before)
}

/// Tasks that launch, aborted at any moment: what was held is undone.
pub(crate) fn aborted_tasks() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .unwrap();
    let counted = || Arc::new(AtomicU32::new(0));
    let (held, started) = (counted(), counted());
    let work = |number: u32| {
        let (held, started) = (Arc::clone(&held), Arc::clone(&started));
        async move {
            let sandbox = tokio::task::spawn_blocking(move || {
                let mut spec = spec(&format!("task-{number}"), &["/usr/bin/true"]);
                spec.ids = IdRange::new(IDS + number * IdRange::COUNT).ok();
                let sandbox = plan(&spec, Vec::new()).unwrap().hold().unwrap();
                held.fetch_add(1, Ordering::Relaxed);
                sandbox
            })
            .await
            .unwrap();
            // Held over a point where the task may be aborted.
            tokio::time::sleep(Duration::from_micros(u64::from(number % 7) * 300)).await;
            started.fetch_add(1, Ordering::Relaxed);
            tokio::task::spawn_blocking(move || sandbox.start().unwrap().remove().unwrap())
                .await
                .unwrap();
        }
    };
    // Threads and spawner are there before anything is counted.
    runtime.block_on(async {
        let first: Vec<_> = (0..8).map(|number| tokio::spawn(work(number))).collect();
        for task in first {
            task.await.unwrap();
        }
    });
    held.store(0, Ordering::Relaxed);
    started.store(0, Ordering::Relaxed);
    let before = kept();
    let total: u32 = if quick() { 60 } else { 300 };
    let (mut aborted, mut ended) = (0, 0);
    runtime.block_on(async {
        for round in 0..total / 10 {
            let tasks: Vec<_> = (0..10)
                .map(|n| tokio::spawn(work(round * 10 + n)))
                .collect();
            for (n, task) in tasks.iter().enumerate() {
                let pause = (u64::from(round) * 7919 + n as u64 * 104_729) % 30_000;
                tokio::time::sleep(Duration::from_micros(pause)).await;
                // Every fourth may go on.
                if n % 4 != 3 {
                    task.abort();
                }
            }
            for task in tasks {
                match task.await {
                    Ok(()) => ended += 1,
                    Err(error) if error.is_cancelled() => aborted += 1,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    });
    let outcome = same_again(before);
    let (held, started) = (
        held.load(Ordering::Relaxed),
        started.load(Ordering::Relaxed),
    );
    println!(
        "{REPORT}{total} tasks: {aborted} aborted, {ended} ended; {held} held, {started} started"
    );
    assert!(
        aborted > 0 && ended > 0 && held > started,
        "all went one way"
    );
    outcome
}

/// Two threads launch while the spawner is killed: each launch works or is
/// refused in the words of the spawner's end, and none hangs.
pub(crate) fn spawner_killed() -> Outcome {
    launch("first").unwrap();
    let stop = AtomicBool::new(false);
    let rounds = if quick() { 30 } else { 100 };
    let tally: Vec<(u32, u32)> = thread::scope(|scope| {
        scope.spawn(|| {
            let mut pause = 0;
            while !stop.load(Ordering::Relaxed) {
                pause = (pause + 13_700) % 90_000;
                thread::sleep(Duration::from_micros(5000 + pause));
                if let Some(pid) = spawner_pid() {
                    // It may have ended meanwhile.
                    let _told = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
            }
        });
        let launchers: Vec<_> = (0..2)
            .map(|number| scope.spawn(move || race(number, rounds)))
            .collect();
        let ended: Vec<_> = launchers.into_iter().map(|thread| thread.join()).collect();
        stop.store(true, Ordering::Relaxed);
        ended.into_iter().map(Result::unwrap).collect()
    });
    println!("{REPORT}launched and failed, of two threads: {tally:?}");
    let again = || launch("after");
    again().or_else(|_| again()).unwrap();
    let (launched, failed) = tally.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
    assert!(launched > 0 && failed > 0, "all went one way");
    // The spawner alone is a child, and no zombie of another.
    if eventually(|| cgroups().is_empty() && children() == 1) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{} children, {:?}", children(), cgroups()))
    }
}

fn race(number: u32, rounds: u32) -> (u32, u32) {
    let (mut launched, mut failed) = (0, 0);
    for _ in 0..rounds {
        let mut spec = spec(&format!("race-{number}"), &["/usr/bin/true"]);
        spec.ids = IdRange::new(IDS + number * IdRange::COUNT).ok();
        match plan(&spec, Vec::new()).and_then(cloison_sandbox::Plan::hold) {
            Ok(held) => {
                launched += 1;
                drop::<Held>(held);
            }
            Err(error) => {
                failed += 1;
                use cloison_sandbox::Error;
                let is_clear = matches!(
                    error,
                    Error::Spawn(SpawnError::Gone) | Error::Namespace(_) | Error::Died
                );
                assert!(is_clear, "{error:?}");
            }
        }
    }
    (launched, failed)
}

/// A process that the caller makes between plan and hold has none of the
/// plan's descriptors, and the plan works on.
pub(crate) fn process_between() -> Outcome {
    let made = plan(&spec("between", &["/usr/bin/true"]), Vec::new()).unwrap();
    let own = descriptors(std::process::id());
    let output = std::process::Command::new("ls")
        .arg("/proc/self/fd")
        .output()
        .unwrap();
    let theirs = String::from_utf8_lossy(&output.stdout).lines().count();
    assert!(own > 10 && theirs == 4, "{own} here, {theirs} there");
    let held = made.hold().unwrap();
    let output = std::process::Command::new("ls")
        .arg("/proc/self/fd")
        .output()
        .unwrap();
    let theirs = String::from_utf8_lossy(&output.stdout).lines().count();
    assert_eq!(theirs, 4);
    held.start().unwrap().remove().unwrap();
    Outcome::Passed
}
