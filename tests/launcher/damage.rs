//! A state that is full, damaged, or not ours alone.

use std::fs;
use std::process::Child;

use cloison_tests::Outcome;
use nix::mount::{MsFlags, mount, umount};
use serde_json::Value;

use super::ground::{Ended, Running, cloison, end, lives, run, sandbox_of, state, wait_until};

const STATE: &str = "/run/cloison";

/// Room for the lock, the ranges and one range, and none for a record.
pub(crate) fn full() -> Outcome {
    fs::create_dir_all(STATE).unwrap();
    let kind = Some("tmpfs");
    let room = Some("mode=700,nr_inodes=4");
    mount(kind, STATE, kind, MsFlags::empty(), room).unwrap();
    let ended = in_time(run(&["true"]).stderr(std::process::Stdio::piped()));
    let left = state();
    umount(STATE).unwrap();
    ended.wants(125, &["No space left on device"]);
    assert_eq!(left, [""; 0]);
    end(run(&["true"])).wants(0, &[]);
    Outcome::Passed
}

/// How it ended, which must be soon.
fn in_time(command: &mut std::process::Command) -> Ended {
    let mut child: Child = command.spawn().unwrap();
    wait_until("the launcher to end", || {
        child.try_wait().unwrap().is_some()
    });
    Ended::new(&child.wait_with_output().unwrap())
}

/// A sandbox whose launcher was killed runs on, and that is what is said.
pub(crate) fn orphaned() -> Outcome {
    let mut running = Running::named("orphan", &["sleep", "600"]);
    let pid = sandbox_of("orphan").unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    for target in ["orphan", &pid.to_string()] {
        let ended = end(cloison(&["inspect", target]));
        ended.wants(0, &[]);
        let first = format!("sandbox orphan: process {pid}, launched by process ");
        assert!(ended.out.starts_with(&first), "{ended:?}");
        assert!(ended.out.contains(" that is gone, "), "{ended:?}");
        let ended = end(cloison(&["inspect", "--json", target]));
        let seen: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!(seen["sandbox"]["launcher_lives"], false, "{ended:?}");
    }
    end(run(&["true"])).wants(0, &[]);
    assert!(!lives(pid));
    end(cloison(&["inspect", "orphan"])).wants(1, &["no sandbox named orphan runs"]);
    Outcome::Passed
}

/// A stray file is no reason not to look at another process.
pub(crate) fn stray() -> Outcome {
    let running = Running::named("seen", &["sleep", "600"]);
    let pid = sandbox_of("seen").unwrap().to_string();
    for (name, text) in [("x.json", "{"), ("X Y.json", "[]"), ("a.json", "")] {
        let stray = format!("{STATE}/{name}");
        fs::write(&stray, text).unwrap();
        end(cloison(&["inspect", "1"])).wants(0, &[]);
        let ended = end(cloison(&["inspect", &pid]));
        ended.wants(0, &[]);
        assert!(ended.out.starts_with("sandbox seen: "), "{ended:?}");
        // Whoever takes ids must know who has some.
        end(run(&["true"])).wants(125, &[&stray, "remedy: see that nothing"]);
        fs::remove_file(stray).unwrap();
    }
    fs::create_dir(format!("{STATE}/y.part")).unwrap();
    end(run(&["true"])).wants(0, &[]);
    fs::remove_dir(format!("{STATE}/y.part")).unwrap();
    running.terminate().wants(128 + 15, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}
