//! B05 to B08: more ids, more capabilities, another filter.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::arguments::Arguments;
use crate::report::{self, CouldNotTry, Report, Verdict};
use crate::roles;
use crate::sys::{self, Answer, int, nr};

const READ: usize = 0;
const CAPSET: usize = 126;
const SETUID: usize = 105;
const SETGID: usize = 106;
const SETREUID: usize = 113;
const SETREGID: usize = 114;
const SETGROUPS: usize = 116;
const SETRESUID: usize = 117;
const SETRESGID: usize = 119;
const SETFSUID: usize = 122;
const SETFSGID: usize = 123;
const PRCTL: usize = 157;
const SECCOMP: usize = 317;

const CLONE_NEWUSER: usize = 0x1000_0000;
const SIGCHLD: usize = 17;
const CAP_SYS_ADMIN: u32 = 21;
/// An id that no sandbox of 65,536 ids has.
const OUTSIDE: u32 = 70_000;
/// The current one stays.
const SAME: usize = 0xffff_ffff;

/// Maps more ids than the sandbox has: in its own user namespace, and in one
/// that it makes below.
pub(crate) fn b05(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    for file in ["uid_map", "gid_map"] {
        report.way(&format!("own-{file}"), || {
            write_map(Path::new("/proc/self").join(file).as_path())
                .map_or_else(|error| Verdict::refused("write", &error), through_map)
        });
        report.way(&format!("nested-{file}"), || nested_map(file));
    }
    Ok(())
}

/// One id more than a sandbox has.
fn write_map(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    file.write_all(b"0 0 65537\n")
}

fn through_map((): ()) -> Verdict {
    Verdict::Through("65537 ids were mapped".to_owned())
}

/// The maker of a namespace may map ids of its own into it.
fn nested_map(file: &str) -> Verdict {
    let (waits, mut lets) = match std::io::pipe() {
        Ok(ends) => ends,
        Err(error) => return Verdict::Untried(format!("pipe: {error}")),
    };
    // SAFETY: without CLONE_VM and with no stack this is a fork.
    let made = unsafe { sys::call(nr::CLONE, [CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0]) };
    let child = match made {
        Ok(0) => wait_for_a_byte(waits.as_raw_fd()),
        Ok(child) => i32::try_from(child).unwrap_or(-1),
        Err(errno) => return Verdict::stopped("clone", errno),
    };
    let written = write_map(Path::new(&format!("/proc/{child}/{file}")));
    if written.is_ok() {
        report::hold();
    }
    let let_go = lets.write_all(b".");
    let ended = sys::wait(child);
    match (written, let_go, ended) {
        (Ok(()), Ok(()), Ok(_)) => through_map(()),
        (Err(error), Ok(()), Ok(_)) => Verdict::refused("write", &error),
        (.., ended) => Verdict::Untried(format!("the child ended with {ended:?}")),
    }
}

/// The child of a fork that the C library knows nothing of: raw calls only.
fn wait_for_a_byte(waits: i32) -> ! {
    let mut byte = 0_u8;
    let at = (&raw mut byte).expose_provenance();
    // SAFETY: the call writes one byte, which is on this frame.
    let read = unsafe { sys::call(READ, [int(waits), at, 1]) };
    sys::exit(i32::from(read != Ok(1)))
}

/// Becomes a user, a group, an owner that the sandbox does not have.
pub(crate) fn b06(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let id = OUTSIDE as usize;
    let calls: [(&str, usize, [usize; 3]); 8] = [
        ("setuid", SETUID, [id, 0, 0]),
        ("setreuid", SETREUID, [SAME, id, 0]),
        ("setresuid", SETRESUID, [SAME, id, SAME]),
        ("setfsuid", SETFSUID, [id, 0, 0]),
        ("setgid", SETGID, [id, 0, 0]),
        ("setregid", SETREGID, [SAME, id, 0]),
        ("setresgid", SETRESGID, [SAME, id, SAME]),
        ("setfsgid", SETFSGID, [id, 0, 0]),
    ];
    for (name, number, arguments) in calls {
        report.way(name, || {
            // SAFETY: none of these takes a pointer.
            let answer = unsafe { sys::call(number, arguments) };
            // The two of the file system answer with the id before, always.
            let is_set = match number {
                SETFSUID | SETFSGID => {
                    // SAFETY: takes no pointer.
                    let now = unsafe { sys::call(number, [SAME]) };
                    now == Ok(id)
                }
                _ => answer.is_ok(),
            };
            match answer {
                _ if is_set => Verdict::Through(format!("{OUTSIDE} is its id")),
                Ok(_) => Verdict::Stopped(format!("{name}: the id stayed")),
                Err(errno) => Verdict::stopped(name, errno),
            }
        });
    }
    report.way("setgroups", || {
        let groups = [OUTSIDE];
        let at = groups.as_ptr().expose_provenance();
        // SAFETY: the call reads one group, which is on this frame.
        let set = unsafe { sys::call(SETGROUPS, [1, at]) };
        Verdict::of("setgroups", set, "a group outside is its own")
    });
    for (name, user, group) in [
        ("chown", Some(OUTSIDE), None),
        ("chgrp", None, Some(OUTSIDE)),
    ] {
        report.way(name, || {
            let path = format!("/tmp/{name}");
            let given = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)
                .and_then(|_| chown(&path, user, group));
            match given {
                Ok(()) => Verdict::Through(format!("{path} belongs to {OUTSIDE}")),
                Err(error) => Verdict::refused("chown", &error),
            }
        });
    }
    Ok(())
}

/// Grows its capabilities: of what it may have, by exec as root, by a change
/// of user, in the ambient set, and by securebits.
pub(crate) fn b07(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const PR_SET_SECUREBITS: usize = 28;
    const SECBIT_NO_SETUID_FIXUP: usize = 4;
    let sys_admin = 1 << CAP_SYS_ADMIN;
    report.way("effective", || {
        Verdict::of(
            "capset",
            set_capabilities(sys_admin, sys_admin, 0),
            "CAP_SYS_ADMIN is effective",
        )
    });
    report.way("inheritable", || {
        Verdict::of(
            "capset",
            set_capabilities(0, sys_admin, sys_admin),
            "CAP_SYS_ADMIN is inheritable",
        )
    });
    report.way("ambient", raise_ambient);
    report.way("exec-as-root", exec_as_root);
    report.way("user-back-to-root", user_back_to_root);
    report.way("securebits", || {
        // SAFETY: this prctl takes no pointer.
        let set = unsafe { sys::call(PRCTL, [PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP]) };
        Verdict::of("prctl", set, "securebits were changed")
    });
    Ok(())
}

fn set_capabilities(effective: u32, permitted: u32, inheritable: u32) -> Answer {
    // struct __user_cap_header_struct of version 3, and two of
    // __user_cap_data_struct: the lower halves come first.
    let head = [0x2008_0522_u32, 0];
    let sets = [effective, permitted, inheritable, 0, 0, 0];
    let head = head.as_ptr().expose_provenance();
    let sets = sets.as_ptr().expose_provenance();
    // SAFETY: the call reads both structures, which are on this frame.
    unsafe { sys::call(CAPSET, [head, sets]) }
}

fn raise_ambient() -> Verdict {
    const PR_CAP_AMBIENT: usize = 47;
    const PR_CAP_AMBIENT_RAISE: usize = 2;
    let sys_admin = 1 << CAP_SYS_ADMIN;
    if let Err(errno) = set_capabilities(0, sys_admin, sys_admin) {
        return Verdict::stopped("capset", errno);
    }
    let arguments = [
        PR_CAP_AMBIENT,
        PR_CAP_AMBIENT_RAISE,
        CAP_SYS_ADMIN as usize,
        0,
        0,
    ];
    // SAFETY: this prctl takes no pointer.
    let raised = unsafe { sys::call(PRCTL, arguments) };
    Verdict::of("prctl", raised, "CAP_SYS_ADMIN is ambient")
}

/// What drops everything gets it back by exec, if it is root and nothing
/// forbids that.
fn exec_as_root() -> Verdict {
    if let Err(errno) = set_capabilities(0, 0, 0) {
        return Verdict::stopped("capset", errno);
    }
    let program = std::env::current_exe().unwrap_or_else(|_| "/attempt".into());
    let started = Command::new(program)
        .arg("capabilities")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Verdict::refused("exec", &error),
    };
    let mut line = String::new();
    let said = child
        .stdout
        .take()
        .map(|output| BufReader::new(output).read_line(&mut line));
    let has_some = !line.trim().trim_start_matches('0').is_empty();
    if has_some {
        report::hold();
    }
    drop(child.stdin.take());
    match (said, child.wait()) {
        (Some(Ok(_)), Ok(status)) if status.success() && has_some => {
            Verdict::Through(format!("after exec it has {}", line.trim()))
        }
        (Some(Ok(_)), Ok(status)) if status.success() => {
            Verdict::Stopped(format!("exec: it has {}", line.trim()))
        }
        (said, ended) => Verdict::Untried(format!("{said:?}, ended with {ended:?}")),
    }
}

/// Says which capabilities are effective, and waits.
pub(crate) fn capabilities(_arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    println!("{}", effective());
    roles::until_standard_input_ends()?;
    Ok(ExitCode::SUCCESS)
}

fn effective() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.unwrap_or_default().trim().to_owned()
}

/// Effective capabilities go with the effective user, and come back with it.
fn user_back_to_root() -> Verdict {
    for user in [1000, 0] {
        // SAFETY: takes no pointer.
        let changed = unsafe { sys::call(SETRESUID, [SAME, user, SAME]) };
        if let Err(errno) = changed {
            return Verdict::stopped("setresuid", errno);
        }
        let has_some = !effective().trim_start_matches('0').is_empty();
        if user == 0 {
            return match has_some {
                true => Verdict::Through(format!("root again, it has {}", effective())),
                false => Verdict::Stopped("setresuid: nothing came back".to_owned()),
            };
        }
    }
    Verdict::Untried("no user".to_owned())
}

/// One instruction that lets everything through.
const ALLOW: [u64; 1] = [0x7fff_0000_0000_0006];

/// Installs a filter of its own, or something that stands before filters.
pub(crate) fn b08(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    const PR_SET_SECCOMP: usize = 22;
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const PR_SET_SYSCALL_USER_DISPATCH: usize = 59;
    const MODE_FILTER: usize = 2;
    const TSYNC: usize = 1;
    const NEW_LISTENER: usize = 8;
    const HIGH_HALF: usize = 0x1_0000_0000;
    let calls: [(&str, usize, [usize; 2]); 5] = [
        ("filter", SECCOMP, [1, 0]),
        ("filter-for-all-threads", SECCOMP, [1, TSYNC]),
        ("listener", SECCOMP, [1, NEW_LISTENER]),
        ("filter-by-prctl", PRCTL, [PR_SET_SECCOMP, MODE_FILTER]),
        (
            "filter-by-prctl-high-half",
            PRCTL,
            [PR_SET_SECCOMP | HIGH_HALF, MODE_FILTER],
        ),
    ];
    for (name, number, [first, second]) in calls {
        report.way(name, || {
            // struct sock_fprog: a count, then an aligned address.
            let program = [1, ALLOW.as_ptr().expose_provenance()];
            let at = program.as_ptr().expose_provenance();
            // SAFETY: the call reads the structure and one instruction.
            let installed = unsafe { sys::call(number, [first, second, at, 0, 0]) };
            Verdict::of(name, installed, "a filter of its own is on")
        });
    }
    report.way("no_new_privs-cleared", || {
        // SAFETY: this prctl takes no pointer.
        let cleared = unsafe { sys::call(PRCTL, [PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0]) };
        Verdict::of("prctl", cleared, "no_new_privs was cleared")
    });
    report.way("user-dispatch", || {
        const ON: usize = 1;
        // Every call of this process is inside of the range that is let
        // through.
        let range = [0, 0x7fff_ffff_f000];
        // SAFETY: no selector is named, so that no pointer is read.
        let dispatched = unsafe {
            sys::call(
                PRCTL,
                [PR_SET_SYSCALL_USER_DISPATCH, ON, range[0], range[1], 0],
            )
        };
        Verdict::of("prctl", dispatched, "calls are dispatched before filters")
    });
    Ok(())
}
