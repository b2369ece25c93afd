//! B03: a nested namespace in which its maker has every capability.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;

use crate::arguments::Arguments;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, int, nr};

const CLONE_NEWNS: usize = 0x2_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWPID: usize = 0x2000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;
const CLONE_NEWTIME: usize = 0x80;
const SIGCHLD: usize = 17;
const READ: usize = 0;
const WRITE: usize = 1;
/// The upper half of a register: clone looks at the lower one only, and a
/// filter that compares all of it may not see the flags.
const HIGH_HALF: usize = 0xffff_ffff_0000_0000;

/// Makes user, network, pid and time namespaces by each of the three calls.
/// The namespace is the success, a raw socket in it the evidence.
pub(crate) fn b03(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let kinds = [
        ("user", CLONE_NEWUSER),
        ("network", CLONE_NEWNET),
        ("pid", CLONE_NEWPID),
        ("user-network", CLONE_NEWUSER | CLONE_NEWNET),
        ("user-mount", CLONE_NEWUSER | CLONE_NEWNS),
    ];
    for (kind, flags) in kinds {
        report.way(&format!("unshare-{kind}"), || unshare(flags));
        report.way(&format!("clone-{kind}"), || clone(flags));
        report.way(&format!("clone-high-half-{kind}"), || {
            clone(flags | HIGH_HALF)
        });
        report.way(&format!("clone3-{kind}"), || clone3(flags));
    }
    report.way("unshare-time", || unshare(CLONE_NEWTIME));
    report.way("clone3-time", || clone3(CLONE_NEWTIME));
    Ok(())
}

fn unshare(flags: usize) -> Verdict {
    // SAFETY: unshare takes no pointer; the program has one thread.
    let answer = unsafe { sys::call(nr::UNSHARE, [flags]) };
    match answer {
        Ok(_) => Verdict::Through(made(raw_socket())),
        Err(errno) => Verdict::stopped("unshare", errno),
    }
}

fn clone(flags: usize) -> Verdict {
    judge("clone", || {
        // SAFETY: without CLONE_VM and with no stack this is a fork.
        unsafe { sys::call(nr::CLONE, [flags | SIGCHLD, 0, 0, 0, 0]) }
    })
}

/// `struct clone_args`, as far as its first version goes.
#[repr(C)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

fn clone3(flags: usize) -> Verdict {
    let arguments = CloneArguments {
        flags: flags as u64,
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
    };
    let at = (&raw const arguments).expose_provenance();
    judge("clone3", || {
        // SAFETY: the call reads the structure, whose size is passed; without
        // CLONE_VM and with no stack it is a fork.
        unsafe { sys::call(nr::CLONE3, [at, size_of::<CloneArguments>()]) }
    })
}

/// The child of a fork that the C library knows nothing of does raw calls
/// only: it asks for a raw socket, says the answer, waits until it was looked
/// at, and exits.
fn judge(call: &str, make: impl FnOnce() -> Answer) -> Verdict {
    let (said, go) = match (std::io::pipe(), std::io::pipe()) {
        (Ok(said), Ok(go)) => (said, go),
        (Err(error), _) | (_, Err(error)) => return Verdict::Untried(format!("pipe: {error}")),
    };
    let (mut hears, says) = said;
    let (waits, mut lets) = go;
    let child = match make() {
        Ok(0) => in_namespace(says.as_raw_fd(), waits.as_raw_fd()),
        Ok(child) => child,
        Err(errno) => return Verdict::stopped(call, errno),
    };
    drop(says);
    let mut errno = [0_u8];
    let heard = hears.read_exact(&mut errno);
    if heard.is_ok() {
        report::hold();
    }
    let let_go = lets.write_all(b".");
    let ended = sys::wait(i32::try_from(child).unwrap_or(-1));
    match (heard, let_go, ended, errno) {
        (Ok(()), Ok(()), Ok(sys::Ended::Exit(0)), [0]) => Verdict::Through(made(Ok(0))),
        (Ok(()), Ok(()), Ok(sys::Ended::Exit(0)), [errno]) => {
            Verdict::Through(made(Err(Errno(i32::from(errno)))))
        }
        (.., ended, _) => Verdict::Untried(format!("{call}: the child ended with {ended:?}")),
    }
}

fn in_namespace(says: i32, waits: i32) -> ! {
    let mut byte = match raw_socket() {
        Ok(_) => 0,
        Err(errno) => u8::try_from(errno.0).unwrap_or(255),
    };
    let at = (&raw mut byte).expose_provenance();
    // SAFETY: the call reads one byte, which is on this frame.
    let said = unsafe { sys::call(WRITE, [int(says), at, 1]) };
    // SAFETY: the call writes one byte, which is on this frame.
    let went = unsafe { sys::call(READ, [int(waits), at, 1]) };
    let status = usize::from(said != Ok(1) || went != Ok(1));
    // SAFETY: exit takes no pointer and does not return.
    let ended = unsafe { sys::call(nr::EXIT, [status]) };
    sys::exit(i32::from(ended.is_err()))
}

fn made(socket: Answer) -> String {
    match socket {
        Ok(_) => "a namespace of its own, and a raw socket in it".to_owned(),
        Err(errno) => format!("a namespace of its own; raw socket: {errno}"),
    }
}

fn raw_socket() -> Answer {
    const AF_INET: usize = 2;
    const SOCK_RAW: usize = 3;
    const IPPROTO_ICMP: usize = 1;
    // SAFETY: socket takes no pointer.
    unsafe { sys::call(nr::SOCKET, [AF_INET, SOCK_RAW, IPPROTO_ICMP]) }
}
