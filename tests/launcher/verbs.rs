//! exec, stop, freeze and thaw.

use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use cloison_tests::Outcome;
use nix::sys::signal::Signal;

use super::ground::{Running, cloison, end, exec_sockets, lives, sandbox_of, state, wait_until};

const SLEEP: [&str; 2] = ["sleep", "1000"];

fn exec_in(name: &str, words: &[&str]) -> std::process::Command {
    let mut command = cloison(&["exec", name, "--"]);
    command.args(words);
    command
}

/// Nothing is written down, locked or listened on any more.
fn nothing_is_left() {
    assert_eq!(state(), [""; 0]);
    assert_eq!(exec_sockets(), [""; 0]);
}

pub(crate) fn exec() -> Outcome {
    let beside = Running::named("beside", &SLEEP);
    let ended = end(exec_in(
        "beside",
        &["sh", "-c", "id -u; echo $HOME; hostname; exit 9"],
    ));
    ended.wants(9, &[]);
    assert_eq!(ended.out, "0\n/\nbeside\n");
    let mut command = cloison(&[
        "exec",
        "beside",
        "--env",
        "A=b",
        "--directory",
        "/tmp",
        "--",
    ]);
    command
        .args(["sh", "-c", "pwd; echo $A; cat"])
        .stdin(Stdio::piped());
    let mut reading = Running::start(&mut command);
    let mut input = reading.child.stdin.take().unwrap();
    input.write_all(b"typed\n").unwrap();
    drop(input);
    let ended = reading.end();
    ended.wants(0, &[]);
    assert_eq!(ended.out, "/tmp\nb\ntyped\n");
    beside.terminate().wants(143, &[]);
    nothing_is_left();
    Outcome::Passed
}

pub(crate) fn exec_refused() -> Outcome {
    let running = Running::named("refused", &SLEEP);
    end(exec_in("refused", &["nosuch"])).wants(127, &["`nosuch` was not started", "ENOENT"]);
    end(exec_in("refused", &["/etc/passwd"])).wants(126, &["EACCES"]);
    end(exec_in("refused", &["a/b"])).wants(125, &["a/b"]);
    end(cloison(&["exec", "refused"])).wants(125, &["COMMAND"]);
    let mut relative = cloison(&["exec", "refused", "--directory", "tmp", "--", "true"]);
    relative.stdin(Stdio::null());
    end(relative).wants(125, &["working"]);
    running.terminate().wants(143, &[]);
    // Without an init nobody can start one.
    std::fs::write(
        "/tmp/bare.toml",
        "name = \"bare\"\ninit = \"off\"\ncommand = [\"/usr/bin/sleep\", \"1000\"]\n",
    )
    .unwrap();
    let bare = Running::start(&mut super::ground::run(&["/tmp/bare.toml"]));
    wait_until("the record", || sandbox_of("bare").is_some());
    end(exec_in("bare", &["true"])).wants(125, &["nobody listens", "init"]);
    end(cloison(&["stop", "bare", "--timeout-s", "0"])).wants(0, &[]);
    bare.end().wants(137, &[]);
    std::fs::remove_file("/tmp/bare.toml").unwrap();
    nothing_is_left();
    Outcome::Passed
}

pub(crate) fn exec_signals() -> Outcome {
    let running = Running::named("signals", &SLEEP);
    let script = "trap 'echo heard; exit 5' USR1; echo ready; while :; do sleep 0.05; done";
    let mut heard = Running::start(&mut exec_in("signals", &["sh", "-c", script]));
    assert_eq!(heard.line(), "ready\n");
    heard.signal(Signal::SIGUSR1);
    let ended = heard.end();
    ended.wants(5, &[]);
    assert_eq!(ended.out, "heard\n");
    // One whose operator is gone hangs up.
    // Nobody reads what the shell says of a child that hangs up.
    let script = "trap 'touch /tmp/hung; exit' HUP; echo ready; exec 2>/tmp/said; while :; do sleep 0.05; done";
    let mut gone = Running::start(&mut exec_in("signals", &["sh", "-c", script]));
    assert_eq!(gone.line(), "ready\n");
    gone.child.kill().unwrap();
    gone.child.wait().unwrap();
    wait_until("the hangup", || {
        end(exec_in("signals", &["ls", "/tmp"]))
            .out
            .contains("hung")
    });
    // The sandbox ends around what runs in it.
    let mut inside = Running::start(&mut exec_in(
        "signals",
        &["sh", "-c", "echo in; sleep 1000"],
    ));
    assert_eq!(inside.line(), "in\n");
    running.terminate().wants(143, &[]);
    inside
        .end()
        .wants(125, &["signals ended while the command ran"]);
    nothing_is_left();
    Outcome::Passed
}

pub(crate) fn stop() -> Outcome {
    let running = Running::named("stopped", &SLEEP);
    let pid = sandbox_of("stopped").unwrap();
    let ended = end(cloison(&["stop", "stopped"]));
    ended.wants(0, &[]);
    assert_eq!(ended.out, "stopped ended by SIGTERM\n");
    assert!(!lives(pid));
    nothing_is_left();
    running.end().wants(143, &[]);
    let script = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
    let mut deaf = Running::named("deaf", &["sh", "-c", script]);
    assert_eq!(deaf.line(), "ready\n");
    let ended = end(cloison(&[
        "stop",
        "deaf",
        "--signal",
        "INT",
        "--timeout-s",
        "1",
    ]));
    ended.wants(0, &[]);
    assert_eq!(ended.out, "deaf did not end within 1 s and is killed\n");
    nothing_is_left();
    deaf.end().wants(137, &[]);
    Outcome::Passed
}

pub(crate) fn stop_dead() -> Outcome {
    let mut running = Running::named("orphan", &SLEEP);
    let pid = sandbox_of("orphan").unwrap();
    running.child.kill().unwrap();
    running.child.wait().unwrap();
    assert!(lives(pid), "it ended with its launcher");
    // Whoever comes later still gets in.
    let ended = end(exec_in("orphan", &["echo", "alive"]));
    ended.wants(0, &[]);
    assert_eq!(ended.out, "alive\n");
    end(cloison(&["stop", "orphan"])).wants(0, &[]);
    assert!(!lives(pid));
    nothing_is_left();
    Outcome::Passed
}

pub(crate) fn freeze() -> Outcome {
    let script = "while :; do date +%s%N > /tmp/now; sleep 0.02; done";
    let running = Running::named("frost", &["sh", "-c", script]);
    end(cloison(&["freeze", "frost"])).wants(0, &[]);
    end(cloison(&["freeze", "frost"])).wants(0, &[]);
    let shown = end(cloison(&["inspect", "frost"]));
    assert!(shown.out.contains("cgroup frozen"), "{}", shown.out);
    let begun = Instant::now();
    end(exec_in("frost", &["true"])).wants(125, &["frozen", "cloison inspect"]);
    assert!(begun.elapsed().as_secs() < 60, "no deadline");
    end(cloison(&["thaw", "frost"])).wants(0, &[]);
    end(exec_in("frost", &["true"])).wants(0, &[]);
    end(cloison(&["freeze", "frost"])).wants(0, &[]);
    let ended = end(cloison(&["stop", "frost"]));
    ended.wants(0, &[]);
    assert_eq!(ended.out, "frost was frozen and is killed\n");
    running.end().wants(137, &[]);
    nothing_is_left();
    Outcome::Passed
}

pub(crate) fn absent() -> Outcome {
    for verb in ["stop", "freeze", "thaw"] {
        end(cloison(&[verb, "nosuch"])).wants(1, &["no sandbox named nosuch runs"]);
        end(cloison(&[verb, "No Such"])).wants(125, &["lower-case"]);
    }
    end(exec_in("nosuch", &["true"])).wants(1, &["no sandbox named nosuch runs"]);
    end(cloison(&["stop", "x", "--signal", "NOSUCH"])).wants(125, &["a signal is a name"]);
    end(cloison(&["stop", "x", "--timeout-s", "-1"])).wants(125, &[]);
    nothing_is_left();
    Outcome::Passed
}
