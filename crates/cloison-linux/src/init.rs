//! The init: process 1 of a sandbox that wants one.
//!
//! It starts the command as process 2, hands on every signal it gets, makes the
//! processes that somebody outside asks for, reaps what is orphaned, and ends
//! with the command's status. It is inside the
//! wall and trusted with nothing.

use crate::execs::Execs;
use crate::sys::{Errno, Result, by_value, check, exit, nr, raw};

/// How the init was started: its first argument.
///
/// It begins with the byte `s` (the command leads a session of its own) or
/// `t` (and descriptor 0 becomes that session's terminal). In capitals the
/// command gets no inner Landlock domain: in controls without that layer. A
/// number behind it is the descriptor on which `exec` is listened for.
const TERMINAL: u8 = b't';

const SIGCHLD: u64 = 17;
/// A code for "the command could not be started", as shells use them.
const EXIT_NOT_FOUND: i32 = 127;
const EXIT_NOT_EXECUTABLE: i32 = 126;
const EXIT_INIT_FAILED: i32 = 125;

/// Runs the init. `arguments` is the mode, then the command's; `environment`
/// is the command's.
///
/// # Safety
/// Both are arrays of addresses of NUL-terminated strings, ended by 0, as
/// execve(2) laid them out; `arguments` has at least three entries.
pub unsafe fn run(arguments: *const *const u8, environment: *const *const u8) -> ! {
    let all: [u64; 1] = [u64::MAX];
    let at = all.as_ptr() as u64;
    // SAFETY: a live set of signals: block every one.
    let blocked = check(unsafe { raw(nr::RT_SIGPROCMASK, [2, at, 0, 8, 0, 0]) });
    // SAFETY: the same set; a new descriptor, close-on-exec.
    let signals = check(unsafe {
        raw(
            nr::SIGNALFD4,
            [u64::MAX, at, 8, 0o2_000_000, 0, 0],
        )
    });
    let (Ok(_), Ok(signals)) = (blocked, signals) else {
        exit(EXIT_INIT_FAILED);
    };
    // SAFETY: the caller's promise: the mode is the second entry.
    let mode = unsafe { arguments.add(1) };
    // SAFETY: as above.
    let mode = unsafe { core::ptr::read(mode) };
    // SAFETY: as above: a NUL-terminated string.
    let (mode, listener) = unsafe { parse(mode) };
    if listener.is_some_and(|listener| close_on_exec(listener).is_err()) {
        exit(EXIT_INIT_FAILED);
    }
    // SAFETY: the caller's promise: at least three entries.
    let command = unsafe { start(mode, arguments, environment) };
    if !keep_only(signals as u64, listener) {
        fail(EXIT_INIT_FAILED, "closing what is the command's alone failed");
    }
    let mut execs = Execs::new(listener);
    loop {
        match execs.wait(signals as i32) {
            Ok(true) => {}
            Ok(false) | Err(Errno::EINTR) => continue,
            Err(_) => exit(EXIT_INIT_FAILED),
        }
        // struct signalfd_siginfo: 128 bytes; the number is the first word.
        let mut info: [u32; 32] = [0; 32];
        let at = info.as_mut_ptr() as u64;
        // SAFETY: a live buffer of that size.
        let read = check(unsafe { raw(nr::READ, [signals as u64, at, 128, 0, 0, 0]) });
        match read {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(_) => exit(EXIT_INIT_FAILED),
        }
        let signal = u64::from(info.first().copied().unwrap_or(0));
        if signal == SIGCHLD {
            reap(command, &mut execs);
        } else {
            // A command that is gone needs no signal: its SIGCHLD follows.
            // SAFETY: kill(2) takes numbers.
            let _gone = unsafe { raw(nr::KILL, [command, signal, 0, 0, 0, 0]) };
        }
    }
}

/// The mode, and the number behind it if there is one.
///
/// # Safety
/// `text` is a NUL-terminated string.
unsafe fn parse(text: *const u8) -> (u8, Option<i32>) {
    // SAFETY: a NUL-terminated string has a first byte.
    let mode = unsafe { core::ptr::read(text) };
    let mut listener = None;
    let mut at = text;
    if mode != 0 {
        loop {
            // SAFETY: the byte before was not the NUL.
            at = unsafe { at.add(1) };
            // SAFETY: as above.
            let byte = unsafe { core::ptr::read(at) };
            if !byte.is_ascii_digit() {
                break;
            }
            let digit = i32::from(byte.wrapping_sub(b'0'));
            listener = Some(listener.unwrap_or(0i32).wrapping_mul(10).wrapping_add(digit));
        }
    }
    (mode, listener)
}

fn close_on_exec(descriptor: i32) -> Result<i64> {
    const F_SETFD: u64 = 2;
    by_value(nr::FCNTL, [descriptor as u64, F_SETFD, 1, 0, 0, 0])
}

/// Closes all but these: a pipe that the command closes must end. Whether that
/// was done.
fn keep_only(signals: u64, listener: Option<i32>) -> bool {
    let other = listener.map_or(signals, |listener| listener as u64);
    let (low, high) = (signals.min(other), signals.max(other));
    let last = u64::from(u32::MAX);
    for [from, to] in [
        [0, low.wrapping_sub(1)],
        [low + 1, high.wrapping_sub(1)],
        [high + 1, last],
    ] {
        if from <= to && to <= last {
            // SAFETY: close_range(2) takes numbers.
            let closed = check(unsafe { raw(nr::CLOSE_RANGE, [from, to, 0, 0, 0, 0]) });
            if closed.is_err() {
                return false;
            }
        }
    }
    true
}

/// Reaps every child; ends with the status of the command.
///
/// While this runs the command is a child that was not reaped, so the kernel
/// has no reason to fail. The signal that led here does not come again: it is
/// asked once more, and an init that cannot know ends the sandbox.
fn reap(command: u64, execs: &mut Execs) {
    const WNOHANG: u64 = 1;
    /// So often in a row.
    const FAILURES_MAX: u32 = 16;
    let mut failures: u32 = 0;
    loop {
        let mut status: i32 = 0;
        let at = &raw mut status as u64;
        // SAFETY: a live integer to write; any child.
        let reaped = check(unsafe { raw(nr::WAIT4, [u64::MAX, at, WNOHANG, 0, 0, 0]) });
        // SAFETY: a live local, which the kernel wrote through its address.
        let status = unsafe { core::ptr::read_volatile(&raw const status) };
        match reaped {
            Ok(pid) if pid as u64 == command => {
                let signal = status & 0x7f;
                exit(if signal == 0 {
                    status >> 8 & 0xff
                } else {
                    128 + signal
                });
            }
            Ok(pid) if pid > 0 => {
                failures = 0;
                execs.ended(pid as u64, status);
            }
            Ok(_) => return,
            Err(_) if failures < FAILURES_MAX => failures = failures.wrapping_add(1),
            Err(_) => exit(EXIT_INIT_FAILED),
        }
    }
}

/// Makes the process that becomes the command.
///
/// # Safety
/// As [`run`].
unsafe fn start(
    mode: u8,
    arguments: *const *const u8,
    environment: *const *const u8,
) -> u64 {
    // SAFETY: without CLONE_VM the child has memory of its own.
    let cloned = check(unsafe { raw(nr::CLONE, [SIGCHLD, 0, 0, 0, 0, 0]) });
    match cloned {
        Err(_) => fail(EXIT_INIT_FAILED, "no process could be made for the command"),
        Ok(0) => {}
        Ok(pid) => return pid as u64,
    }
    // SAFETY: setsid(2) has no argument.
    let session = check(unsafe { raw(nr::SETSID, [0; 6]) });
    // SAFETY: TIOCSCTTY takes numbers.
    let terminal = || check(unsafe { raw(nr::IOCTL, [0, 0x540e, 0, 0, 0, 0]) });
    let takes_terminal = mode.to_ascii_lowercase() == TERMINAL;
    let stays_outer = mode.is_ascii_uppercase();
    if session.is_err()
        || (takes_terminal && terminal().is_err())
        || (!stays_outer && !enter_inner_domain())
    {
        fail(EXIT_INIT_FAILED, "session, terminal or Landlock domain of the command failed");
    }
    let none: [u64; 1] = [0];
    let at = none.as_ptr() as u64;
    // SAFETY: a live, empty set.
    if check(unsafe { raw(nr::RT_SIGPROCMASK, [2, at, 0, 8, 0, 0]) }).is_err() {
        fail(EXIT_INIT_FAILED, "the signal mask of the command failed");
    }
    // SAFETY: the caller's promise: the command begins at the third entry.
    let command = unsafe { arguments.add(2) };
    // SAFETY: as above.
    let path = unsafe { core::ptr::read(command) };
    let call = [path as u64, command as u64, environment as u64, 0, 0, 0];
    // SAFETY: a string and two arrays as execve(2) wants them.
    let executed = check(unsafe { raw(nr::EXECVE, call) });
    const ENOENT: Errno = Errno(2);
    if executed == Err(ENOENT) {
        fail(EXIT_NOT_FOUND, "the command, or what interprets it, is not there");
    }
    fail(EXIT_NOT_EXECUTABLE, "the command cannot be executed")
}

/// Ends with `code`, and says why where the command would have said something.
fn fail(code: i32, why: &str) -> ! {
    let all: [u64; 1] = [u64::MAX];
    let at = all.as_ptr() as u64;
    // SAFETY: a live set: SIGPIPE of a reader who has gone must not take the
    // code away.
    let _blocked = unsafe { raw(nr::RT_SIGPROCMASK, [2, at, 0, 8, 0, 0]) };
    for text in ["cloison: ", why, "\n"] {
        let (at, length) = (text.as_ptr() as u64, text.len() as u64);
        // SAFETY: a live string with its length. Nobody may be listening.
        let _said = unsafe { raw(nr::WRITE, [2, at, length, 0, 0, 0]) };
    }
    exit(code)
}

/// Puts one more, nearly empty Landlock layer on the command: then what the
/// init starts later (in the outer domain) can be neither traced nor read by
/// the command, while the other way round stays open.
fn enter_inner_domain() -> bool {
    /// No sandbox may do it anyway.
    const MAKE_BLOCK: u64 = 1 << 11;
    /// Linking and renaming from one directory to another: any domain denies it
    /// that does not handle and allow it.
    const REFER: u64 = 1 << 13;
    let ruleset = match make_ruleset(MAKE_BLOCK | REFER) {
        Ok(ruleset) if allow_everywhere(ruleset, REFER) => ruleset,
        Ok(_) => return false,
        // Before 5.19 there is no such right, and nobody has it.
        Err(Errno::EINVAL) => match make_ruleset(MAKE_BLOCK) {
            Ok(ruleset) => ruleset,
            Err(_) => return false,
        },
        Err(_) => return false,
    };
    // SAFETY: takes numbers.
    let entered = check(unsafe { raw(nr::LANDLOCK_RESTRICT_SELF, [ruleset, 0, 0, 0, 0, 0]) });
    entered.is_ok() && close(ruleset)
}

fn make_ruleset(handled: u64) -> Result<u64> {
    let attributes: [u64; 1] = [handled];
    let at = attributes.as_ptr() as u64;
    // SAFETY: a live structure with its length.
    let ruleset = check(unsafe { raw(nr::LANDLOCK_CREATE_RULESET, [at, 8, 0, 0, 0, 0]) })?;
    Ok(ruleset as u64)
}

/// Adds a rule for everything beneath the root.
fn allow_everywhere(ruleset: u64, access: u64) -> bool {
    const AT_FDCWD: u64 = -100_i64 as u64;
    /// `O_PATH | O_CLOEXEC`.
    const FLAGS: u64 = 0o12_000_000;
    let path = c"/".as_ptr() as u64;
    // SAFETY: a live string.
    let root = check(unsafe { raw(nr::OPENAT, [AT_FDCWD, path, FLAGS, 0, 0, 0]) });
    let Ok(root) = root else { return false };
    // struct landlock_path_beneath_attr: packed, so the descriptor follows the
    // eight bytes of access; the kernel reads twelve.
    let rule: [u64; 2] = [access, u64::from(root as u32)];
    let at = rule.as_ptr() as u64;
    // SAFETY: a live structure of at least the size that the kernel reads.
    let added = check(unsafe { raw(nr::LANDLOCK_ADD_RULE, [ruleset, 1, at, 0, 0, 0]) });
    close(root as u64) && added.is_ok()
}

fn close(descriptor: u64) -> bool {
    // SAFETY: takes a number.
    check(unsafe { raw(nr::CLOSE, [descriptor, 0, 0, 0, 0, 0]) }).is_ok()
}
