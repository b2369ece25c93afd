//! Signals while the launcher itself waits.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use cloison_tests::Outcome;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

use super::ground::{Running, end, run, state};

/// A file that nobody writes.
pub(crate) fn on_a_file() -> Outcome {
    let file = "/tmp/never.toml";
    nix::unistd::mkfifo(file, Mode::S_IRWXU).unwrap();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        // Whoever runs the tests may ignore them.
        let bare = run(&[file]);
        let mut command = Command::new("env");
        command.args(["--default-signal=INT,TERM"]);
        command.arg(bare.get_program()).args(bare.get_args());
        let mut running = Running::start(&mut command);
        thread::sleep(Duration::from_millis(300));
        running.signal(signal);
        assert_eq!(ended_by(&mut running), code);
    }
    fs::remove_file(file).unwrap();
    Outcome::Passed
}

/// The lock of the state, which somebody else holds.
pub(crate) fn on_the_lock() -> Outcome {
    end(run(&["true"])).wants(0, &[]);
    let held = take_lock();
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        let mut running = Running::start(&mut run(&["true"]));
        // At the lock it has all that comes before.
        thread::sleep(Duration::from_millis(700));
        running.signal(signal);
        assert_eq!(ended_by(&mut running), code);
    }
    // One that waits gets it when it is free.
    let patient = Running::start(&mut run(&["true"]));
    thread::sleep(Duration::from_millis(300));
    drop(held);
    patient.end().wants(0, &[]);
    // At the end it waits for the lock again: the sandbox is gone by then.
    let mut running = Running::start(&mut run(&["sh", "-c", "echo ready; sleep 1; exit 7"]));
    assert_eq!(running.line(), "ready\n");
    assert_eq!(state().len(), 2);
    let held = take_lock();
    thread::sleep(Duration::from_millis(1500));
    running.signal(Signal::SIGINT);
    assert_eq!(ended_by(&mut running), 7);
    drop(held);
    end(run(&["true"])).wants(0, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

fn take_lock() -> Flock<File> {
    let lock = File::options().write(true).open("/run/cloison/lock");
    Flock::lock(lock.unwrap(), FlockArg::LockExclusive).unwrap()
}

/// Its code, 128 and the signal where one ended it.
fn ended_by(running: &mut Running) -> i32 {
    let child = &mut running.child;
    let mut status = None;
    for _ in 0..100 {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
    }
    let Some(status) = status else {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("it did not hear the signal: {status:?}");
    };
    status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap()
}
