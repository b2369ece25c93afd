//! Pipes and files as streams.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloison_tests::Outcome;

use super::ground::{Ended, Running, cloison, end, run, state};

pub(crate) fn pipes() -> Outcome {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut running = Running::start(run(&["cat"]).stdin(Stdio::piped()));
    let mut input = running.child.stdin.take().unwrap();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent));
    let output = running.child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(
        output.stdout == expected,
        "{} bytes came",
        output.stdout.len()
    );

    let ended = end(run(&["sh", "-c", "echo out; echo err >&2; cat"]));
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("out\n", "err\n"));
    Outcome::Passed
}

pub(crate) fn order() -> Outcome {
    let path = "/tmp/both";
    let file = fs::File::create(path).unwrap();
    let script = "for n in 1 2 3 4 5 6 7 8 9; do echo o$n; echo e$n >&2; done";
    let mut command = run(&["sh", "-c", script]);
    command.stdout(file.try_clone().unwrap()).stderr(file);
    assert!(command.status().unwrap().success());
    let wanted: String = (1..=9).map(|n| format!("o{n}\ne{n}\n")).collect();
    assert_eq!(fs::read_to_string(path).unwrap(), wanted);
    fs::remove_file(path).unwrap();
    Outcome::Passed
}

pub(crate) fn truncate() -> Outcome {
    let path = "/tmp/log";
    let script = "echo one; for fd in 0 1 2; do { true >/proc/self/fd/$fd; } 2>/dev/null; done; \
                  echo two";
    let log = |mut command: Command| {
        fs::write(path, "before\n").unwrap();
        let file = OpenOptions::new().append(true).open(path).unwrap();
        let input = OpenOptions::new().read(true).open(path).unwrap();
        command.stdin(input);
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let status = command.status().unwrap();
        assert!(status.success(), "{status}");
        fs::read_to_string(path).unwrap()
    };
    let mut bare = Command::new("sh");
    bare.args(["-c", script]);
    assert_eq!(log(bare), "two\n", "the control is silent");
    assert_eq!(log(run(&["sh", "-c", script])), "before\none\ntwo\n");
    fs::remove_file(path).unwrap();
    Outcome::Passed
}

pub(crate) fn closed() -> Outcome {
    let mut running = Running::start(&mut run(&["yes"]));
    assert_eq!(running.line(), "y\n");
    drop(running.child.stdout.take());
    // SIGPIPE, as without a sandbox.
    let ended = running.end();
    ended.wants(128 + 13, &[]);
    assert_eq!(ended.err, "");
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

/// What could not be written is not as if it had been.
pub(crate) fn full() -> Outcome {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = run(&["echo", "hi"]);
    command.stdout(full());
    end_with_stderr(command).wants(125, &["writing the output", "No space left"]);
    let running = Running::named("filled", &["sleep", "1000"]);
    let mut command = cloison(&["exec", "filled", "--", "echo", "hi"]);
    command.stdout(full());
    end_with_stderr(command).wants(125, &["writing the output", "No space left"]);
    let mut command = cloison(&["exec", "filled", "--", "sh", "-c", "exit 3"]);
    command.stdout(full());
    // Nothing was lost.
    end_with_stderr(command).wants(3, &[]);
    running.terminate().wants(143, &[]);
    assert_eq!(state(), [""; 0]);
    Outcome::Passed
}

/// Runs it to its end with the output that it has.
fn end_with_stderr(mut command: Command) -> Ended {
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    Running { child }.end_within(Duration::from_secs(30))
}

pub(crate) fn own() -> Outcome {
    let script = "readlink /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2; ls /proc/self/fd";
    let mut running = Running::start(run(&["sh", "-c", script]).stdin(Stdio::piped()));
    drop(running.child.stdin.take());
    let pid = running.child.id();
    let ours: Vec<String> = (0..3)
        .filter_map(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok())
        .map(|target| target.display().to_string())
        .collect();
    let ended = running.end();
    let lines: Vec<&str> = ended.out.lines().collect();
    let (links, numbers) = lines.split_at(3);
    for link in links {
        assert!(link.starts_with("pipe:["), "{lines:?}");
        assert!(!ours.iter().any(|own| own == link), "{lines:?} {ours:?}");
    }
    // 3 is the listing's own.
    assert_eq!(numbers, ["0", "1", "2", "3"], "{lines:?}");
    Outcome::Passed
}
