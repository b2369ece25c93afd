//! What system calls a large caller makes for one launch.

use std::process::Command;

use cloison_tests::Outcome;

use crate::ground::{hold, spec_without_init};

const ROLE: &str = "CLOISON_QUIET_CALLER";
/// Opened by the caller to mark where one launch begins and ends.
const MARKS: [&str; 2] = ["/cloison-mark-begin", "/cloison-mark-end"];

/// Under strace: starts the spawner with a first launch, then marks a second.
pub(crate) fn act() {
    let launch = |name| {
        hold(&spec_without_init(name, &["/usr/bin/true"]), Vec::new())
            .unwrap()
            .start()
            .unwrap()
            .remove()
            .unwrap()
    };
    launch("first");
    let mark = |name| assert!(std::fs::File::open(name).is_err());
    mark(MARKS[0]);
    launch("second");
    mark(MARKS[1]);
}

pub(crate) fn is_wanted() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// `strace -f` of one launch shows no clone by the caller, and does show the
/// spawner's.
pub(crate) fn no_clone() -> Outcome {
    let strace = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=clone,clone3,fork,vfork,openat",
            "-o",
        ])
        .arg("/tmp/trace")
        .arg(std::env::current_exe().unwrap())
        .env(ROLE, "1")
        .status();
    match strace {
        Ok(status) if status.success() => {}
        Ok(status) => return Outcome::Failed(format!("strace: {status}")),
        Err(error) => return Outcome::Skipped(format!("strace: {error}")),
    }
    let trace = std::fs::read_to_string("/tmp/trace").unwrap();
    let position = |mark: &str| trace.lines().position(|line| line.contains(mark));
    let (Some(begin), Some(end)) = (position(MARKS[0]), position(MARKS[1])) else {
        return Outcome::Failed("the marks are not in the trace".to_owned());
    };
    let lines: Vec<&str> = trace.lines().collect();
    let caller = lines[begin].split_whitespace().next().unwrap();
    let (mut own, mut others) = (0, 0);
    for line in &lines[begin..end] {
        let makes = ["clone(", "clone3(", "fork("]
            .iter()
            .any(|call| line.contains(call));
        if makes {
            println!("{line}");
            if line.split_whitespace().next() == Some(caller) {
                own += 1;
            } else {
                others += 1;
            }
        }
    }
    // Two namespaces and the sandbox itself, all by the spawner.
    if own == 0 && others >= 3 {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("{own} by the caller, {others} by others"))
    }
}
