//! exec, stop, freeze and thaw.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cloison_tests::Outcome;
use nix::sys::signal::Signal;

use super::ground::{
    Running, cloison, end, exec_sockets, lives, record, sandbox_of, state, wait_until,
};

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

/// A background child of the command has its output, and goes on.
pub(crate) fn exec_held_output() -> Outcome {
    let running = Running::named("holder", &SLEEP);
    let limit = Duration::from_secs(20);
    for script in [
        "sleep 1000 & echo started",
        // Something comes all the time, and what the command wrote is behind it.
        "(while :; do echo more; sleep 0.01; done) & echo started",
        "(while :; do echo more; done) & echo started",
    ] {
        let mut command = exec_in("holder", &["sh", "-c", script]);
        let taken = NamedFile::new("/tmp/held-output");
        let child = command.stdout(taken.writer()).stderr(Stdio::piped());
        let ended = Running {
            child: child.spawn().unwrap(),
        }
        .end_within(limit);
        ended.wants(0, &["holds its output"]);
        assert!(taken.text().contains("started\n"), "{script}");
    }
    // Of the command itself everything arrives, however late it is read.
    let script = "head -c 300000 /dev/zero | tr '\\0' x; echo end";
    let mut slow = Running::start(&mut exec_in("holder", &["sh", "-c", script]));
    std::thread::sleep(Duration::from_secs(6));
    let mut read = Vec::new();
    let mut output = slow.child.stdout.take().unwrap();
    output.read_to_end(&mut read).unwrap();
    assert_eq!(read.len(), 300_004);
    let ended = slow.end_within(limit);
    ended.wants(0, &[]);
    assert_eq!(ended.err, "");
    running.terminate().wants(143, &[]);
    nothing_is_left();
    Outcome::Passed
}

struct NamedFile(&'static str);

impl NamedFile {
    fn new(path: &'static str) -> Self {
        Self(path)
    }

    fn writer(&self) -> fs::File {
        fs::File::create(self.0).unwrap()
    }

    fn text(&self) -> String {
        fs::read_to_string(self.0).unwrap()
    }
}

impl Drop for NamedFile {
    fn drop(&mut self) {
        // It is of the stage, which goes away.
        let _removed = fs::remove_file(self.0);
    }
}

/// Somebody freezes while somebody stops.
pub(crate) fn stop_refrozen() -> Outcome {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 1000 & done; \
                  while :; do sleep 0.01; done";
    let running = Running::named("refrozen", &["sh", "-c", script]);
    let places = &record("refrozen").unwrap()["cgroups"];
    let place = places.as_object().unwrap().iter();
    let place = place
        .filter(|(hierarchy, _)| hierarchy.contains("freezer"))
        .filter_map(|(_, path)| path.as_str())
        .map(|path| format!("/sys/fs/cgroup/freezer{path}/freezer.state"))
        .find(|path| fs::exists(path).unwrap());
    let Some(state) = place else {
        end(cloison(&["stop", "refrozen", "--timeout-s", "0"])).wants(0, &[]);
        return Outcome::Skipped("a freezer of version 1 is not mounted".to_owned());
    };
    let freezer = state.clone();
    let freezing = std::thread::spawn(move || {
        let begun = Instant::now();
        let mut times = 0;
        while begun.elapsed() < Duration::from_secs(3) {
            times += usize::from(fs::write(&freezer, "FROZEN").is_ok());
            std::thread::sleep(Duration::from_micros(500));
        }
        times
    });
    let mut stop = cloison(&["stop", "refrozen", "--timeout-s", "0"]);
    let stopping = Running::start(&mut stop);
    let times = freezing.join().unwrap();
    let begun = Instant::now();
    let mut stopping = stopping;
    while stopping.child.try_wait().unwrap().is_none() && begun.elapsed().as_secs() < 30 {
        std::thread::sleep(Duration::from_millis(20));
    }
    // Whatever came of it: nothing may stay frozen. It is gone with its sandbox.
    let _gone = fs::write(&state, "THAWED");
    let ended = stopping.end_within(Duration::from_secs(20));
    assert!(times > 0, "nothing was frozen: blind");
    ended.wants(0, &[]);
    running.end_within(Duration::from_secs(20)).wants(137, &[]);
    nothing_is_left();
    Outcome::Passed
}

/// What is wrong is named, and what to do.
pub(crate) fn explained() -> Outcome {
    let running = Running::named("explained", &SLEEP);
    let mut elsewhere = cloison(&["exec", "explained", "--directory", "/no/such", "--", "true"]);
    elsewhere.stdin(Stdio::null());
    end(elsewhere).wants(125, &["/no/such", "ENOENT", "remedy"]);
    let large = "x".repeat(131_000);
    end(exec_in("explained", &["true", &large])).wants(125, &["131", "bytes", "remedy"]);
    for signal in ["64", "0", "32", "RTMIN"] {
        let mut stop = cloison(&["stop", "explained", "--signal", signal]);
        stop.stdin(Stdio::null());
        end(stop).wants(125, &["1 to 31"]);
    }
    // A directory that nobody keeps records in is not one in which nothing runs.
    for words in [
        &["stop", "--state", "/no/state", "explained"][..],
        &["freeze", "--state", "/no/state", "explained"],
        &["inspect", "--state", "/no/state", "explained"],
        &["exec", "--state", "/no/state", "explained", "--", "true"],
    ] {
        end(cloison(words)).wants(125, &["/no/state", "remedy"]);
    }
    // One that is being launched has a record, and no process yet.
    let path = "/run/cloison/explained.json";
    let whole = fs::read(path).unwrap();
    let mut record = record("explained").unwrap();
    record["sandbox"] = serde_json::Value::Null;
    fs::write(path, record.to_string()).unwrap();
    for words in [
        &["stop", "explained"][..],
        &["inspect", "explained"],
        &["exec", "explained", "--", "true"],
    ] {
        end(cloison(words)).wants(125, &["explained is being launched", "remedy"]);
    }
    fs::write(path, whole).unwrap();
    running.terminate().wants(143, &[]);
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
