//! A second command in a running sandbox.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use cloison_sandbox::{
    Exec, ExecError, ExecListener, ExecSocket, Execution, ExitStatus, Io, NetworkNamespace, Plan,
    Prepared, Refused, Sandbox, Spec, Stopped, Streams,
};
use cloison_tests::{Case, Outcome};
use nix::sys::signal::Signal;

use crate::ground::{eventually, kernel, spec, spec_without_init, waivers};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "exec_starts_a_command_in_the_same_enclosure",
        same_enclosure,
    ),
    Case::new("exec_tells_status_and_signals", status_and_signals),
    Case::new("exec_hands_on_streams_and_ends_them", streams),
    Case::new(
        "exec_gives_a_terminal_that_nobody_inside_can_open",
        terminal,
    ),
    Case::new("exec_of_what_is_not_there_says_so", not_there),
    Case::new("exec_without_an_init_is_refused", without_init),
    Case::new("exec_in_a_frozen_sandbox_never_runs_later", frozen),
    Case::new(
        "exec_by_another_process_finds_the_init_by_its_path",
        by_path,
    ),
    Case::new("exec_refuses_a_socket_of_another_network", foreign_socket),
    Case::new("exec_of_too_many_is_refused_and_goes_on", many),
    Case::new("exec_socket_is_gone_with_its_sandbox", socket_is_gone),
    Case::new("exec_socket_wants_a_directory_of_its_own", open_directory),
    Case::new("execution_dropped_hangs_up", dropped),
    Case::new("payload_cannot_trace_what_exec_started", not_traced),
    Case::new("stop_ends_what_does_not_listen", stop),
    Case::new("a_stopped_frozen_sandbox_never_runs_again", stop_frozen),
    Case::new("what_forks_all_the_time_is_frozen", freeze_forkers).lasting_s(120),
];

/// A directory that only we may enter; it goes away with this.
pub(crate) struct Private(pub(crate) PathBuf);

impl Private {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cloison-{name}"));
        DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        // Only an empty one: a socket that stays is a failure of the case.
        if !std::thread::panicking() {
            std::fs::remove_dir(&self.0).unwrap();
        }
    }
}

pub(crate) fn launch(spec: &Spec, directory: &Private) -> Sandbox {
    let mut prepared = Prepared::with_network(spec, NetworkNamespace::create().unwrap()).unwrap();
    let path = directory.0.join(spec.name.as_str());
    prepared.exec = Some(ExecListener::bind(&path).unwrap());
    let io = Io::null().unwrap();
    let plan = Plan::new(spec, kernel(), &waivers(), prepared, io).unwrap();
    plan.hold().unwrap().start().unwrap()
}

pub(crate) fn sleeper(name: &str) -> Spec {
    spec(name, &["/usr/bin/sleep", "1000"])
}

pub(crate) fn command(words: &[&str]) -> Exec {
    Exec::new(words.iter().map(|word| (*word).to_owned()).collect())
}

pub(crate) fn null() -> Streams {
    Io::null().unwrap().streams
}

/// Streams of which all output arrives here.
pub(crate) fn captured() -> (Streams, File) {
    let (output, input) = std::io::pipe().unwrap();
    let stdout = OwnedFd::from(input);
    let stderr = stdout.try_clone().unwrap();
    let streams = Streams::Descriptors {
        stdin: File::open("/dev/null").unwrap().into(),
        stdout,
        stderr,
    };
    (streams, OwnedFd::from(output).into())
}

pub(crate) fn output_of(sandbox: &Sandbox, words: &[&str]) -> (String, ExitStatus) {
    let (streams, mut output) = captured();
    let mut execution = sandbox.exec(&command(words), streams).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, execution.wait().unwrap())
}

fn same_enclosure() -> Outcome {
    let directory = Private::new("same");
    let sandbox = launch(&sleeper("same"), &directory);
    let script = "for n in mnt net pid ipc uts user cgroup; do readlink /proc/self/ns/$n; done; \
                  grep -E '^(NoNewPrivs|Seccomp|CapEff|Uid|Seccomp_filters)' /proc/self/status; \
                  cat /proc/self/cgroup; ls /proc/self/fd | tr '\\n' ' '";
    let (inside, status) = output_of(&sandbox, &["sh", "-c", script]);
    assert_eq!(status, ExitStatus::Exited(0), "{inside}");
    let pid = sandbox.pid();
    for kind in ["mnt", "net", "pid", "ipc", "uts", "user", "cgroup"] {
        let own = std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap();
        assert!(inside.contains(own.to_str().unwrap()), "{kind}: {inside}");
    }
    let of_init = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for field in ["NoNewPrivs:", "Seccomp:", "Seccomp_filters:", "CapEff:"] {
        let line = of_init
            .lines()
            .find(|line| line.starts_with(field))
            .unwrap();
        assert!(inside.contains(line), "{line}: {inside}");
    }
    // 0, 1, 2, and that of ls itself.
    assert!(inside.trim_end().ends_with("0 1 2 3"), "{inside}");
    assert!(inside.lines().any(|line| line.ends_with(":/")), "{inside}");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn status_and_signals() -> Outcome {
    let directory = Private::new("status");
    let sandbox = launch(&sleeper("status"), &directory);
    let mut seven = sandbox
        .exec(&command(&["sh", "-c", "exit 7"]), null())
        .unwrap();
    assert_eq!(seven.wait().unwrap(), ExitStatus::Exited(7));
    assert_eq!(seven.wait().unwrap(), ExitStatus::Exited(7), "asked again");
    let mut slept = sandbox.exec(&command(&["sleep", "1000"]), null()).unwrap();
    assert_eq!(slept.try_wait().unwrap(), None);
    slept.signal(Signal::SIGUSR1).unwrap();
    assert_eq!(
        slept.wait().unwrap(),
        ExitStatus::Signaled(Signal::SIGUSR1 as i32)
    );
    let mut slept = sandbox.exec(&command(&["sleep", "1000"]), null()).unwrap();
    sandbox.remove().unwrap();
    assert_eq!(slept.wait().unwrap(), ExitStatus::Unknown);
    Outcome::Passed
}

fn streams() -> Outcome {
    let directory = Private::new("streams");
    let sandbox = launch(&sleeper("streams"), &directory);
    let (stdin, mut input) = std::io::pipe().unwrap();
    let (mut output, stdout) = std::io::pipe().unwrap();
    let streams = Streams::Descriptors {
        stdin: stdin.into(),
        stdout: stdout.into(),
        stderr: File::options()
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into(),
    };
    let mut exec = command(&["/usr/bin/sh", "-c", "pwd; echo $WORD; exec cat"]);
    exec.environment.insert("WORD".into(), "salut".into());
    exec.working_directory = "/tmp".into();
    let mut execution = sandbox.exec(&exec, streams).unwrap();
    input.write_all(b"through").unwrap();
    drop(input);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "/tmp\nsalut\nthrough");
    assert_eq!(execution.wait().unwrap(), ExitStatus::Exited(0));
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn terminal() -> Outcome {
    let directory = Private::new("terminal");
    let sandbox = launch(&sleeper("terminal"), &directory);
    let script = "test -t 0 && test -t 1 && test -t 2 && stty size && ls /dev/pts && \
                  echo typed > /dev/tty && cut -d' ' -f7 /proc/self/stat";
    let exec = command(&["sh", "-c", script]);
    let mut execution = sandbox.exec(&exec, Streams::Terminal).unwrap();
    let terminal = execution.take_terminal().unwrap();
    assert!(execution.take_terminal().is_none());
    let mut text = Vec::new();
    // A terminal whose other side is closed gives EIO.
    let ended = File::from(terminal).read_to_end(&mut text);
    assert!(ended.is_err(), "{ended:?}");
    let text = String::from_utf8(text).unwrap();
    assert_eq!(execution.wait().unwrap(), ExitStatus::Exited(0), "{text}");
    // Nothing but ptmx in its own devpts: the terminal is of another one.
    assert!(text.contains("0 0\r\nptmx\r\ntyped\r\n"), "{text}");
    assert!(!text.ends_with("\r\n0\r\n"), "no terminal: {text}");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn not_there() -> Outcome {
    let directory = Private::new("absent");
    let sandbox = launch(&sleeper("absent"), &directory);
    let refused = |words: &[&str]| sandbox.exec(&command(words), null()).unwrap_err();
    for words in [&["/nosuch"], &["nosuch"]] {
        let error = refused(words);
        assert!(
            matches!(error, ExecError::Execute(nix::errno::Errno::ENOENT)),
            "{error:?}"
        );
    }
    let error = refused(&["/etc/passwd"]);
    assert!(
        matches!(error, ExecError::Execute(nix::errno::Errno::EACCES)),
        "{error:?}"
    );
    let mut elsewhere = command(&["true"]);
    elsewhere.working_directory = "/nosuch".into();
    let error = sandbox.exec(&elsewhere, null()).unwrap_err();
    assert!(matches!(error, ExecError::Directory { .. }), "{error:?}");
    for bad in [&[][..], &["a/b"], &[""], &["/a\0b"]] {
        let error = refused(bad);
        assert!(matches!(error, ExecError::Refused(_)), "{error:?}");
    }
    let large = "x".repeat(200_000);
    let error = refused(&["true", &large]);
    assert!(matches!(error, ExecError::TooLarge { .. }), "{error:?}");
    // And it goes on.
    let mut execution = sandbox.exec(&command(&["true"]), null()).unwrap();
    assert_eq!(execution.wait().unwrap(), ExitStatus::Exited(0));
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn without_init() -> Outcome {
    let directory = Private::new("without");
    let bare = spec_without_init("without", &["/usr/bin/sleep", "1000"]);
    let mut prepared = Prepared::new(&bare).unwrap();
    let path = directory.0.join("without");
    prepared.exec = Some(ExecListener::bind(&path).unwrap());
    let refused = Plan::new(&bare, kernel(), &waivers(), prepared, Io::null().unwrap());
    assert!(matches!(
        refused,
        Err(cloison_sandbox::Error::Refused(Refused::ExecWithoutInit))
    ));
    assert!(!path.exists(), "the socket of a refused launch stays");
    let sandbox = crate::ground::hold(&bare, Vec::new())
        .unwrap()
        .start()
        .unwrap();
    let error = sandbox.exec(&command(&["true"]), null()).unwrap_err();
    assert!(matches!(error, ExecError::NoListener), "{error:?}");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn frozen() -> Outcome {
    let directory = Private::new("frozen");
    let sandbox = launch(&sleeper("frozen"), &directory);
    sandbox.prepared().cgroup.freeze().unwrap();
    let error = sandbox
        .exec(&command(&["touch", "/tmp/late"]), null())
        .unwrap_err();
    assert!(matches!(error, ExecError::Deadline), "{error:?}");
    sandbox.prepared().cgroup.thaw().unwrap();
    // What waited is looked at before this one.
    let (text, _) = output_of(&sandbox, &["sh", "-c", "sleep 0.2; ls /tmp"]);
    assert_eq!(text, "", "a command ran that nobody waited for");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn by_path() -> Outcome {
    let directory = Private::new("path");
    let sandbox = launch(&sleeper("path"), &directory);
    let socket = ExecSocket::at(directory.0.join("path"));
    let mut execution = socket.start(&command(&["true"]), null()).unwrap();
    assert_eq!(execution.wait().unwrap(), ExitStatus::Exited(0));
    sandbox.remove().unwrap();
    let error = socket.start(&command(&["true"]), null()).unwrap_err();
    assert!(matches!(error, ExecError::Connect { .. }), "{error:?}");
    Outcome::Passed
}

fn foreign_socket() -> Outcome {
    let directory = Private::new("foreign");
    let sandbox = launch(&sleeper("foreign"), &directory);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let Streams::Descriptors { stdout, stderr, .. } = null() else {
        unreachable!("three files")
    };
    let streams = Streams::Descriptors {
        stdin: listener.into(),
        stdout,
        stderr,
    };
    let error = sandbox.exec(&command(&["true"]), streams).unwrap_err();
    assert!(
        matches!(error, ExecError::Refused(Refused::ForeignSocket(0))),
        "{error:?}"
    );
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn many() -> Outcome {
    let directory = Private::new("many");
    let sandbox = launch(&sleeper("many"), &directory);
    let start = || sandbox.exec(&command(&["sleep", "1000"]), null());
    let running: Vec<Execution> = (0..32).map(|_| start().unwrap()).collect();
    let error = start().unwrap_err();
    assert!(matches!(error, ExecError::TooMany), "{error:?}");
    drop(running);
    assert!(eventually(|| start().is_ok()), "no place became free");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn socket_is_gone() -> Outcome {
    let directory = Private::new("gone");
    let path = directory.0.join("gone");
    let sandbox = launch(&sleeper("gone"), &directory);
    assert!(path.exists());
    sandbox.remove().unwrap();
    assert!(!path.exists(), "removed, and its socket stays");
    // One that ended, and is launched again on the same socket.
    let spec = spec("gone", &["/usr/bin/true"]);
    let mut sandbox = launch(&spec, &directory);
    sandbox.wait().unwrap();
    let prepared = sandbox.into_prepared().unwrap();
    assert!(path.exists());
    let io = Io::null().unwrap();
    let spec = sleeper("gone");
    let plan = Plan::new(&spec, kernel(), &waivers(), prepared, io).unwrap();
    let sandbox = plan.hold().unwrap().start().unwrap();
    let (text, _) = output_of(&sandbox, &["echo", "again"]);
    assert_eq!(text, "again\n");
    sandbox.remove().unwrap();
    assert!(!path.exists());
    Outcome::Passed
}

fn open_directory() -> Outcome {
    let directory = Private::new("open");
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(&directory.0, mode(0o755)).unwrap();
    let error = ExecListener::bind(&directory.0.join("socket")).unwrap_err();
    assert!(matches!(error, ExecError::OpenDirectory(_)), "{error:?}");
    std::fs::set_permissions(&directory.0, mode(0o700)).unwrap();
    // Deeper than an address has room for.
    let deep = directory.0.join("d".repeat(120));
    DirBuilder::new().mode(0o700).create(&deep).unwrap();
    let first = ExecListener::bind(&deep.join("socket")).unwrap();
    let taken = ExecListener::bind(&deep.join("socket")).unwrap_err();
    assert!(matches!(taken, ExecError::Listen { .. }), "{taken:?}");
    assert!(first.path().exists(), "the second one removed the first");
    drop(first);
    std::fs::remove_dir(&deep).unwrap();
    Outcome::Passed
}

fn dropped() -> Outcome {
    let directory = Private::new("dropped");
    let sandbox = launch(&sleeper("dropped"), &directory);
    let (streams, mut output) = captured();
    let script =
        "exec 2>/dev/null; trap 'echo hung up; exit' HUP; echo ready; while :; do sleep 0.05; done";
    let execution = sandbox
        .exec(&command(&["sh", "-c", script]), streams)
        .unwrap();
    let mut ready = [0; 6];
    output.read_exact(&mut ready).unwrap();
    drop(execution);
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hung up\n");
    sandbox.remove().unwrap();
    Outcome::Passed
}

/// The command, one Landlock layer deeper, against what exec started; and the
/// other way round, which shows that the look itself works.
fn not_traced() -> Outcome {
    let directory = Private::new("traced");
    let watcher = "until [ -s /tmp/pid ]; do sleep 0.01; done; p=/proc/$(cat /tmp/pid); \
                   { cat $p/environ; head -c 1 $p/mem; ls $p/fd; cat $p/maps; ls -d $p/root/; } \
                   > /tmp/found 2>&1; ls /proc > /tmp/listed; touch /tmp/looked; sleep 1000";
    let sandbox = launch(&spec("traced", &["/usr/bin/sh", "-c", watcher]), &directory);
    let mut secret = command(&["sh", "-c", "echo $$ > /tmp/pid; exec sleep 4321"]);
    secret.environment.insert("SECRET".into(), "typed".into());
    let _running = sandbox.exec(&secret, null()).unwrap();
    let looked = || output_of(&sandbox, &["ls", "/tmp"]).0.contains("looked");
    assert!(eventually(looked), "the command did not look");
    let (found, _) = output_of(&sandbox, &["cat", "/tmp/found"]);
    assert_eq!(found.lines().count(), 5, "each look is refused: {found}");
    assert!(!found.contains("SECRET"), "{found}");
    let script = "grep -x \"$(cat /tmp/pid)\" /tmp/listed";
    let (listed, _) = output_of(&sandbox, &["sh", "-c", script]);
    assert_eq!(listed, "", "the command sees it in /proc");
    // Outwards in it is allowed: the operator may look at the command.
    let script = "p=/proc/$(cat /tmp/pid); cat $p/environ | tr '\\0' '\\n'; \
                  ls /proc/2/fd/0 && cat /proc/2/environ";
    let (outer, status) = output_of(&sandbox, &["sh", "-c", script]);
    assert_eq!(status, ExitStatus::Exited(0), "{outer}");
    assert!(outer.contains("SECRET=typed"), "{outer}");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn stop() -> Outcome {
    let directory = Private::new("stop");
    let mut sandbox = launch(&sleeper("stop"), &directory);
    let stopped = sandbox
        .stop(Signal::SIGTERM, Duration::from_secs(20))
        .unwrap();
    let by_term = 128 + Signal::SIGTERM as i32;
    assert_eq!(stopped, Stopped::ByItself(ExitStatus::Exited(by_term)));
    sandbox.remove().unwrap();
    let deaf = "trap '' TERM; (setsid sh -c 'trap \"\" TERM HUP; sleep 1000' &) ; sleep 1000";
    let mut sandbox = launch(&spec("deaf", &["/usr/bin/sh", "-c", deaf]), &directory);
    let processes = || sandbox.prepared().cgroup.processes().unwrap().len();
    assert!(eventually(|| processes() >= 4), "{}", processes());
    let stopped = sandbox
        .stop(Signal::SIGTERM, Duration::from_millis(300))
        .unwrap();
    assert_eq!(
        stopped,
        Stopped::Killed(ExitStatus::Signaled(Signal::SIGKILL as i32))
    );
    let is_empty = || sandbox.prepared().cgroup.processes().unwrap().is_empty();
    assert!(eventually(is_empty), "a daemon outlived its sandbox");
    sandbox.remove().unwrap();
    Outcome::Passed
}

fn stop_frozen() -> Outcome {
    let (output, stdout) = std::io::pipe().unwrap();
    let script = "trap 'echo ran' TERM; echo ready; while :; do sleep 0.05; done";
    let spec = spec("still", &["/usr/bin/sh", "-c", script]);
    let prepared = Prepared::with_network(&spec, NetworkNamespace::create().unwrap()).unwrap();
    let io = Io {
        streams: Streams::Descriptors {
            stdin: File::open("/dev/null").unwrap().into(),
            stdout: stdout.as_fd().try_clone_to_owned().unwrap(),
            stderr: stdout.into(),
        },
        sockets: Vec::new(),
    };
    let plan = Plan::new(&spec, kernel(), &waivers(), prepared, io).unwrap();
    let mut sandbox = plan.hold().unwrap().start().unwrap();
    let mut output = File::from(OwnedFd::from(output));
    output.read_exact(&mut [0; 6]).unwrap();
    sandbox.prepared().cgroup.freeze().unwrap();
    let stopped = sandbox
        .stop(Signal::SIGTERM, Duration::from_secs(20))
        .unwrap();
    assert!(matches!(stopped, Stopped::Killed(_)), "{stopped:?}");
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    assert_eq!(text, "", "it ran once more");
    sandbox.remove().unwrap();
    Outcome::Passed
}

/// A freezer of version 1 may miss a process that appears while it freezes.
fn freeze_forkers() -> Outcome {
    let rounds = if cloison_tests::quick() { 60 } else { 400 };
    let script = "for i in 1 2 3 4; do
        while :; do /usr/bin/true; (:); done &
    done; wait";
    let directory = Private::new("forkers");
    let sandbox = launch(&spec("forkers", &["/usr/bin/sh", "-c", script]), &directory);
    let cgroup = &sandbox.prepared().cgroup;
    let ran = || {
        let processes = cgroup.processes().unwrap();
        let times = processes.iter().map(|pid| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            (*pid, status.unwrap_or_default())
        });
        times.collect::<Vec<_>>()
    };
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(round % 5));
        cgroup.freeze().unwrap();
        let before = ran();
        std::thread::sleep(Duration::from_millis(1));
        assert_eq!(
            before,
            ran(),
            "something ran while frozen, in round {round}"
        );
        cgroup.thaw().unwrap();
    }
    sandbox.remove().unwrap();
    Outcome::Passed
}
