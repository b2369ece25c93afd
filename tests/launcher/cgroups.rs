//! What a killed launcher left in a cgroup that is not the next one's.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison_sandbox::{Cgroup, Hierarchies, Hierarchy, SandboxName};
use cloison_tests::Outcome;

use super::ground::{Running, cloison, end, lives, record, run, sandbox_of, state, wait_until};

const RECORD: &str = "/run/cloison/fallen.json";

pub(crate) fn swept() -> Outcome {
    let mut elsewhere = cgroup("elsewhere");
    let orphan = kill_launcher_in(&elsewhere);
    let found = children(&elsewhere);
    assert_eq!(
        found.len(),
        elsewhere.placements().len(),
        "not placed in each hierarchy: blind: {found:?}"
    );
    assert!(lives(orphan));
    end(run(&["--name", "fallen", "true"])).wants(0, &[]);
    assert!(!lives(orphan));
    assert_eq!(children(&elsewhere), [""; 0]);
    assert_eq!(state(), [""; 0]);
    elsewhere.remove().unwrap();
    Outcome::Passed
}

/// A launcher that is killed while it makes its cgroup, before there is any
/// sandbox, has written down where.
pub(crate) fn killed_halfway() -> Outcome {
    // When it opens the first directory that it has made.
    let strace = [
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-P",
        "cloison-fallen",
        "-e",
        "trace=openat",
        "-e",
        "inject=openat:signal=SIGKILL:when=1",
    ];
    let mut elsewhere = cgroup("elsewhere");
    let ended = start_in(&elsewhere, &strace).end();
    assert_eq!(ended.code, None, "{ended:?}");
    assert!(record("fallen").unwrap()["sandbox"].is_null());
    assert_ne!(children(&elsewhere), [""; 0], "nothing was left: blind");
    end(run(&["--name", "other", "true"])).wants(0, &[]);
    assert_eq!(children(&elsewhere), [""; 0]);
    assert_eq!(state(), [""; 0]);
    elsewhere.remove().unwrap();
    Outcome::Passed
}

/// What somebody froze as a whole nobody can thaw from beneath, and nothing in
/// it is stuck in the kernel.
pub(crate) fn kept_frozen() -> Outcome {
    let mut elsewhere = cgroup("elsewhere");
    let orphan = kill_launcher_in(&elsewhere);
    if elsewhere.freeze().is_err() {
        return Outcome::Failed("nothing can be frozen".to_owned());
    }
    let stop = || cloison(&["stop", "fallen", "--timeout-s", "0"]);
    let stopping = Running::start(&mut stop()).end_within(Duration::from_secs(40));
    elsewhere.thaw().unwrap();
    // One of version 2 dies frozen.
    if elsewhere.membership().keys().any(is_freezer) {
        stopping.wants(125, &["somebody keeps it frozen", "remedy"]);
        wait_until("its end", || !lives(orphan));
        end(run(&["true"])).wants(0, &[]);
    }
    assert_eq!(state(), [""; 0]);
    elsewhere.remove().unwrap();
    Outcome::Passed
}

fn is_freezer(hierarchy: &Hierarchy) -> bool {
    hierarchy.has_controller("freezer")
}

pub(crate) fn not_ours() -> Outcome {
    let mut innocent = cgroup("innocent");
    let mut elsewhere = cgroup("elsewhere");
    kill_launcher_in(&elsewhere);
    let noted = record("fallen").unwrap();
    let groups = noted["cgroups"].as_object().unwrap().clone();
    for path in [
        "/cloison-innocent",
        "/cloison-elsewhere/../cloison-innocent",
        "/cloison-elsewhere/cloison-fallen/..",
        "/",
        "",
    ] {
        let mut changed = noted.clone();
        for hierarchy in groups.keys() {
            changed["cgroups"][hierarchy] = path.into();
        }
        fs::write(RECORD, changed.to_string()).unwrap();
        let wanted = format!("{path} in the hierarchy");
        end(run(&["true"])).wants(125, &[&wanted, "is no cgroup of the sandbox fallen"]);
    }
    for placement in innocent.placements() {
        // A directory that was removed has no files.
        let folder = format!("/proc/self/fd/{}", placement.directory().as_raw_fd());
        let list = Path::new(&folder).join("cgroup.procs");
        assert!(list.exists(), "the innocent one was removed");
    }
    fs::write(RECORD, noted.to_string()).unwrap();
    end(run(&["true"])).wants(0, &[]);
    assert_eq!(state(), [""; 0]);
    innocent.remove().unwrap();
    elsewhere.remove().unwrap();
    Outcome::Passed
}

/// A cgroup in every hierarchy, of the stage alone.
fn cgroup(name: &str) -> Cgroup {
    let name = SandboxName::new(name).unwrap();
    Cgroup::create(&Hierarchies::find().unwrap(), &name).unwrap()
}

/// The cgroups beneath it, in all hierarchies.
fn children(cgroup: &Cgroup) -> Vec<String> {
    let mut names = Vec::new();
    for placement in cgroup.placements() {
        let folder = format!("/proc/self/fd/{}", placement.directory().as_raw_fd());
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                names.push(entry.file_name().into_string().unwrap());
            }
        }
    }
    names
}

/// Starts `fallen` from that cgroup, by the program `by` if there is one.
fn start_in(cgroup: &Cgroup, by: &[&str]) -> Running {
    let script = "echo ready; exec sleep 600";
    let launcher = run(&["--name", "fallen", "--", "sh", "-c", script]);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "read -r _ && exec \"$@\" </dev/null", "sh"])
        .args(by)
        .arg(launcher.get_program())
        .args(launcher.get_args())
        .stdin(Stdio::piped());
    let mut running = Running::start(&mut shell);
    for placement in cgroup.placements() {
        let pid = running.child.id().to_string();
        nix::unistd::write(placement.entry(), pid.as_bytes()).unwrap();
    }
    let mut stdin = running.child.stdin.take().unwrap();
    stdin.write_all(b"\n").unwrap();
    running
}

/// Kills that launcher once its sandbox runs; gives the sandbox's process 1.
fn kill_launcher_in(cgroup: &Cgroup) -> i64 {
    let mut running = start_in(cgroup, &[]);
    // It is written down before it runs, and then ends with its launcher.
    assert_eq!(running.line(), "ready\n");
    let sandbox = sandbox_of("fallen").unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    sandbox
}
