//! What was asked of a sandbox that has ended, or whose caller has, or that
//! does not want it.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::{Duration, Instant};

use cloison_sandbox::{
    Cgroup, ExecError, ExecListener, ExecSocket, ExitStatus, Hierarchies, Io, Plan,
};
use cloison_tests::{Case, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};

use crate::exec::{Private, captured, command, launch, null, output_of, sleeper};
use crate::ground::{eventually, kernel, spec, waivers};

pub(crate) const CASES: &[Case] = &[
    Case::new("exec_of_an_ended_sandbox_is_refused_at_once", ended),
    Case::new("exec_asked_of_one_never_runs_in_the_next", next),
    Case::new("exec_left_alone_keeps_no_place", left_alone).lasting_s(120),
    Case::new("exec_ended_by_the_payload_says_so", ended_inside),
    Case::new("exec_socket_of_a_dead_caller_is_replaced", dead_caller),
    Case::new("exec_errors_name_what_and_how_much", named),
];

fn ended() -> Outcome {
    let directory = Private::new("ended");
    let mut sandbox = launch(&spec("ended", &["/usr/bin/true"]), &directory);
    sandbox.wait().unwrap();
    let begun = Instant::now();
    let error = sandbox.exec(&command(&["true"]), null()).unwrap_err();
    assert!(matches!(error, ExecError::Connect { .. }), "{error:?}");
    let socket = ExecSocket::at(directory.0.join("ended"));
    let error = socket.start(&command(&["true"]), null()).unwrap_err();
    assert!(matches!(error, ExecError::Connect { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited");
    sandbox.remove().unwrap();
    Outcome::Passed
}

/// A frozen one does not answer; it ends, and the server starts again.
fn next() -> Outcome {
    let directory = Private::new("next");
    let mut sandbox = launch(&sleeper("next"), &directory);
    sandbox.prepared().cgroup.freeze().unwrap();
    let socket = ExecSocket::at(directory.0.join("next"));
    let asking = thread::spawn(move || {
        let touch = command(&["touch", "/tmp/of-the-dead"]);
        socket
            .start(&touch, null())
            .map(|mut started| started.wait())
    });
    thread::sleep(Duration::from_millis(500));
    sandbox.stop(Signal::SIGTERM, Duration::ZERO).unwrap();
    let prepared = sandbox.into_prepared().unwrap();
    let io = Io::null().unwrap();
    let plan = Plan::new(&sleeper("next"), kernel(), &waivers(), prepared, io).unwrap();
    let sandbox = plan.hold().unwrap().start().unwrap();
    let asked = asking.join().unwrap();
    let (found, _) = output_of(&sandbox, &["ls", "/tmp"]);
    assert_eq!(found, "", "it ran in the next one");
    let error = asked.unwrap_err();
    assert!(matches!(error, ExecError::Ended), "{error:?}");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn left_alone() -> Outcome {
    let directory = Private::new("alone");
    let sandbox = launch(&sleeper("alone"), &directory);
    let deaf = "trap '' HUP; echo deaf; exec sleep 1000";
    for nth in 0..40 {
        let mut last = None;
        let is_started = eventually(|| {
            let (streams, mut output) = captured();
            match sandbox.exec(&command(&["sh", "-c", deaf]), streams) {
                Ok(_dropped) => {
                    output.read_exact(&mut [0; 5]).unwrap();
                    true
                }
                Err(error) => {
                    last = Some(error);
                    false
                }
            }
        });
        assert!(is_started, "no place for the {nth}.: {last:?}");
    }
    // They go on, as what a terminal left behind.
    let (count, _) = output_of(
        &sandbox,
        &["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep"],
    );
    let count: usize = count.trim().parse().unwrap();
    assert_eq!(count, 41, "with the command itself");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn ended_inside() -> Outcome {
    let directory = Private::new("killer");
    let killer = "while :; do kill -9 -1; done";
    let sandbox = launch(&spec("killer", &["/usr/bin/sh", "-c", killer]), &directory);
    let mut errors = Vec::new();
    for _ in 0..30 {
        match sandbox.exec(&command(&["true"]), null()) {
            Ok(mut execution) => {
                let status = execution.wait_for(Duration::from_secs(10)).unwrap();
                let status = status.expect("an end");
                assert_ne!(status, ExitStatus::Unknown);
            }
            Err(error) => errors.push(error),
        }
    }
    assert!(!errors.is_empty(), "each one lived: blind");
    let killed = ExitStatus::Signaled(Signal::SIGKILL as i32);
    for error in errors {
        let is_told = matches!(error, ExecError::EndedInside(status) if status == killed);
        assert!(is_told, "{error:?}");
    }
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn dead_caller() -> Outcome {
    let directory = Private::new("dead");
    let path = directory.0.join("dead");
    let spec = sleeper("dead");
    let sandbox = launch(&spec, &directory);
    let pid = sandbox.pid();
    // As when the caller ends.
    drop(sandbox);
    let listening = ExecListener::bind(&path).unwrap_err();
    assert!(listening.to_string().contains("EADDRINUSE"), "{listening}");
    kill(pid, Signal::SIGKILL).unwrap();
    let mut left = Cgroup::take_over(&Hierarchies::find().unwrap(), &spec.name).unwrap();
    left.kill().unwrap();
    left.remove().unwrap();
    assert!(path.exists(), "nothing was left: blind");
    let sandbox = launch(&spec, &directory);
    let (said, _) = output_of(&sandbox, &["echo", "replaced"]);
    assert_eq!(said, "replaced\n");
    sandbox.remove().unwrap();
    // What is no socket, or a living one of another kind, stays.
    std::fs::write(&path, "mine").unwrap();
    let error = ExecListener::bind(&path).unwrap_err();
    assert!(error.to_string().contains("EADDRINUSE"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    std::fs::remove_file(&path).unwrap();
    let other = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::empty(),
        None,
    )
    .unwrap();
    bind(other.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    let error = ExecListener::bind(&path).unwrap_err();
    assert!(error.to_string().contains("EADDRINUSE"), "{error}");
    drop(other);
    drop(ExecListener::bind(&path).unwrap());
    assert!(!path.exists());
    Outcome::Passed
}

fn named() -> Outcome {
    let directory = Private::new("named");
    let sandbox = launch(&sleeper("named"), &directory);
    let mut elsewhere = command(&["true"]);
    elsewhere.working_directory = "/no/such".into();
    let error = sandbox.exec(&elsewhere, null()).unwrap_err();
    for word in ["/no/such", "ENOENT"] {
        assert!(error.to_string().contains(word), "{error}");
    }
    let large = "x".repeat(200_000);
    let error = sandbox
        .exec(&command(&["true", &large]), null())
        .unwrap_err();
    assert!(
        error.to_string().contains("bytes: at most 131072 can be"),
        "{error}"
    );
    let start = || sandbox.exec(&command(&["sleep", "1000"]), null());
    let running: Vec<_> = (0..32).map(|_| start().unwrap()).collect();
    let error = start().unwrap_err();
    assert!(error.to_string().contains("32"), "{error}");
    drop(running);
    sandbox.remove().unwrap();
    Outcome::Passed
}
