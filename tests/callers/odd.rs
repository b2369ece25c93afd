//! Callers in odd places, with too much or too little.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use cloison_sandbox::{Error, ExitStatus};
use cloison_tests::{Outcome, REPORT};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::ground::{cgroups, launch, part, plan, played, said, spec};

/// A caller whose children are reaped by nobody but the kernel.
pub(crate) fn sigchld_ignored() -> Outcome {
    played(part(
        "sigchld",
        &[
            "env",
            "--default-signal=HUP,INT,QUIT",
            "--ignore-signal=CHLD",
        ],
    ));
    Outcome::Passed
}

pub(crate) fn play_sigchld() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    assert!(status.contains("11000\nSigCgt:"), "{status}");
    for number in 0..20 {
        launch(&format!("ignored-{number}")).unwrap();
    }
    let spec = spec("ignored-directly", &["/usr/bin/sh", "-c", "exit 7"]);
    let held = plan(&spec, Vec::new()).unwrap().hold_directly().unwrap();
    let mut sandbox = held.start().unwrap();
    let status = sandbox.wait().unwrap();
    sandbox.remove().unwrap();
    // The kernel has reaped it, and tells its status from 6.15 on.
    assert!(
        matches!(status, ExitStatus::Exited(7) | ExitStatus::Unknown),
        "{status:?}"
    );
}

/// None of 5,000 open descriptors, at the most that may be, is seen inside.
pub(crate) fn descriptors() -> Outcome {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let null = File::open("/dev/null").unwrap();
    let mut open = Vec::new();
    for number in 0..5000 {
        // Not close-on-exec: as careless programs have them.
        let copy = null.try_clone().unwrap();
        if number % 2 == 0 {
            let none = nix::fcntl::FdFlag::empty();
            nix::fcntl::fcntl(copy.as_fd(), nix::fcntl::FcntlArg::F_SETFD(none)).unwrap();
        }
        open.push(copy);
    }
    let own = std::fs::read_dir("/proc/self/fd").unwrap().count();
    assert!(own > 5000, "{own}");
    let inherited = std::process::Command::new("sh")
        .args(["-c", "ls /proc/self/fd | wc -l"])
        .output()
        .unwrap();
    let inherited: usize = String::from_utf8_lossy(&inherited.stdout)
        .trim()
        .parse()
        .unwrap();
    assert!(inherited > 2500, "the control has only {inherited}");
    let script = "ls /proc/self/fd | wc -l; ulimit -Sn; ulimit -Hn";
    let (text, _) = said("many", script).unwrap();
    // The three, and the one of ls.
    assert_eq!(text, "4\n1024\n1024\n");
    println!("{REPORT}{own} descriptors outside, limit {hard}");
    Outcome::Passed
}

/// A million is more than root of this machine may have: a guest's may.
pub(crate) fn million_descriptors() -> Outcome {
    const MILLION: u64 = 1_000_000;
    let most = MILLION + 1000;
    if let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, most, most) {
        return Outcome::Skipped(format!(
            "root of this machine may not open so many: {errno}"
        ));
    }
    let null = File::open("/dev/null").unwrap();
    // Not close-on-exec: as careless programs have them.
    let open: Vec<OwnedFd> = (0..MILLION)
        .map(|_| nix::unistd::dup(&null).unwrap())
        .collect();
    let (text, _) = said("million", "ls /proc/self/fd | wc -l; ulimit -Hn").unwrap();
    assert_eq!(text, "4\n1024\n");
    println!("{REPORT}{} descriptors outside", open.len());
    Outcome::Passed
}

/// Too few for a plan: an error that says so, and nothing made; with a little
/// more it launches.
pub(crate) fn few_descriptors() -> Outcome {
    crate::ground::kernel();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let mut failed = 0;
    for soft in (4..64).step_by(4).chain([96, 128, 256]) {
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let launched = launch("few");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
        assert_eq!(
            cgroups(),
            [""; 0].map(std::path::PathBuf::from),
            "with {soft}"
        );
        match launched {
            Ok(()) => {}
            Err(error) if soft < 96 => {
                failed += 1;
                let told = told(&error);
                assert!(told.contains("EMFILE"), "with {soft}: {told}");
            }
            Err(error) => panic!("with {soft}: {error:?}"),
        }
    }
    assert!(failed > 0, "the limit was never felt");
    launch("enough").unwrap();
    Outcome::Passed
}

fn told(error: &Error) -> String {
    let mut told = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        told.push_str(": ");
        told.push_str(&cause.to_string());
        source = cause.source();
    }
    told
}

/// A caller that closed its input, output and errors, or some of them: what it
/// opens next stands in their place.
pub(crate) fn closed_streams() -> Outcome {
    for closed in ["0", "1", "2", "01", "02", "12", "012"] {
        played(part(&format!("closed {closed}"), &["env"]));
    }
    Outcome::Passed
}

pub(crate) fn play_closed(streams: &str) {
    for stream in streams.bytes() {
        nix::unistd::close(i32::from(stream - b'0')).unwrap();
    }
    cloison_sandbox::start_spawner().unwrap();
    for _ in 0..3 {
        launch("closed").unwrap();
    }
}

/// A caller whose directory is no more.
pub(crate) fn deleted_directory() -> Outcome {
    std::fs::create_dir("/tmp/gone").unwrap();
    std::env::set_current_dir("/tmp/gone").unwrap();
    std::fs::remove_dir("/tmp/gone").unwrap();
    assert!(std::env::current_dir().is_err(), "it is still there");
    let (text, status) = said("gone", "pwd").unwrap();
    assert_eq!((text.as_str(), status.code()), ("/\n", Some(0)));
    Outcome::Passed
}

/// Nothing of an environment of two megabytes is seen inside.
pub(crate) fn environment() -> Outcome {
    let mut command = part("environment", &["env"]);
    for number in 0..20 {
        command.env(format!("SECRET_{number}"), "x".repeat(100_000));
    }
    played(command);
    Outcome::Passed
}

pub(crate) fn play_environment() {
    assert!(std::env::vars_os().count() > 20);
    let (text, _) = said("environment", "env; cat /proc/1/environ").unwrap();
    assert!(text.contains("PATH=/usr/bin:/bin"), "{text:.300}");
    assert!(!text.contains("SECRET"), "{text:.300}");
}

/// In a chroot the kernel lets nobody make a user namespace: it is told, and
/// nothing is left.
pub(crate) fn chrooted() -> Outcome {
    crate::ground::kernel();
    let before = cgroups();
    let root = "/tmp/root";
    std::fs::create_dir(root).unwrap();
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let bind = nix::mount::MsFlags::MS_BIND | nix::mount::MsFlags::MS_REC;
    nix::mount::mount(Some("/"), root, None::<&str>, bind, None::<&str>).unwrap();
    nix::unistd::chroot(root).unwrap();
    std::env::set_current_dir("/").unwrap();
    let error = launch("chrooted").unwrap_err();
    println!("{REPORT}chrooted: {}", told(&error));
    assert!(
        told(&error).contains("EPERM") || told(&error).contains("EINVAL"),
        "{error:?}"
    );
    assert_eq!(cgroups(), before);
    // Out again: the case is looked at afterwards, and this is only a tmpfs.
    assert!(Path::new("/proc/1").exists());
    Outcome::Passed
}

/// A caller in a session with a terminal: the child has neither.
pub(crate) fn terminal() -> Outcome {
    let pty = nix::pty::openpty(None, None).unwrap();
    let mut command = part("terminal", &["setsid", "--ctty", "--wait"]);
    command.stdin(Stdio::from(pty.slave));
    played(command);
    Outcome::Passed
}

pub(crate) fn play_terminal() {
    let mut tty = String::new();
    assert!(File::open("/dev/tty").is_ok(), "the caller has no terminal");
    let (text, _) = said(
        "terminal",
        "cat /dev/tty 2>&1 || echo; cut -d' ' -f7 /proc/self/stat",
    )
    .unwrap();
    assert!(text.ends_with("\n0\n"), "{text}");
    assert!(!text.contains("SECRET"));
    let mut stat = File::open("/proc/self/stat").unwrap();
    stat.read_to_string(&mut tty).unwrap();
    assert_ne!(tty.split(' ').nth(6), Some("0"), "{tty}");
}
