//! A process made odd, and processes that want to outlive a stop.

use std::ffi::c_int;
use std::fs::File;
use std::os::fd::IntoRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::roles;
use crate::sys::{self, Answer, int, nr};

const RT_SIGPROCMASK: usize = 14;
const UMASK: usize = 95;
const SETGROUPS: usize = 116;
const PERSONALITY: usize = 135;
const PRCTL: usize = 157;
const SET_MEMPOLICY: usize = 238;

const SIGHUP: c_int = 1;
const SIGTERM: c_int = 15;
const SIGCHLD: c_int = 17;
const SIG_IGN: usize = 1;

/// As many descriptors does a careless caller leave open.
const LEFT_OPEN: usize = 3000;
/// So high that a child with fewer descriptors still has low ones to use.
const LEFT_OPEN_FROM: usize = 2000;

unsafe extern "C" {
    #[link_name = "signal"]
    fn c_signal(signal: c_int, handler: usize) -> usize;
}

fn ignore(signal: c_int) {
    // SAFETY: no handler is run for an ignored signal.
    unsafe { c_signal(signal, SIG_IGN) };
}

fn must(what: &str, answer: Answer) -> Result<(), CouldNotTry> {
    answer
        .map(|_| ())
        .map_err(|errno| CouldNotTry(format!("{what}: {errno}")))
}

/// Becomes the command after `--`, which inherits every state that a process
/// can inherit, none of them as usual; with `careless` also thousands of open
/// descriptors, and SIGCHLD ignored.
pub(crate) fn odd(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    const WHO_PROCESS: usize = 1;
    const BEST_EFFORT_LAST: usize = 2 << 13 | 7;
    const SCHED_BATCH: usize = 3;
    const MPOL_BIND: usize = 2;
    const ADDR_NO_RANDOMIZE: usize = 0x4_0000;
    const SIG_BLOCK: usize = 0;
    let SomeCommand(program, words) = command(arguments)?;
    // SAFETY: takes no pointer.
    must("umask", unsafe { sys::call(UMASK, [0o077]) })?;
    // SAFETY: takes no pointer.
    let set = unsafe { sys::call(nr::SETPRIORITY, [0, 0, 7]) };
    must("setpriority", set)?;
    let none = 0_i32;
    let at = (&raw const none).expose_provenance();
    // SAFETY: the call reads one int, which is on this frame.
    let set = unsafe { sys::call(nr::SCHED_SETSCHEDULER, [0, SCHED_BATCH, at]) };
    must("sched_setscheduler", set)?;
    // SAFETY: takes no pointer.
    let set = unsafe { sys::call(nr::IOPRIO_SET, [WHO_PROCESS, 0, BEST_EFFORT_LAST]) };
    must("ioprio_set", set)?;
    let first = 1_u64;
    let at = (&raw const first).expose_provenance();
    // SAFETY: the call reads eight bytes, which are on this frame.
    let set = unsafe { sys::call(nr::SCHED_SETAFFINITY, [0, 8, at]) };
    must("sched_setaffinity", set)?;
    // SAFETY: the call reads as many bits as it is told.
    let set = unsafe { sys::call(SET_MEMPOLICY, [MPOL_BIND, at, 64]) };
    must("set_mempolicy", set)?;
    // SAFETY: takes no pointer.
    let set = unsafe { sys::call(PERSONALITY, [ADDR_NO_RANDOMIZE]) };
    must("personality", set)?;
    let group = 7_u32;
    let group_at = (&raw const group).expose_provenance();
    // SAFETY: the call reads one group, which is on this frame.
    must("setgroups", unsafe { sys::call(SETGROUPS, [1, group_at]) })?;
    std::fs::write("/proc/self/oom_score_adj", "777")
        .map_err(|error| CouldNotTry(format!("oom_score_adj: {error}")))?;
    // SIGUSR2 is blocked, SIGHUP ignored; SIGPIPE is by the library.
    let blocked = 1_u64 << 11;
    let at = (&raw const blocked).expose_provenance();
    // SAFETY: the call reads eight bytes, which are on this frame.
    let set = unsafe { sys::call(RT_SIGPROCMASK, [SIG_BLOCK, at, 0, 8]) };
    must("rt_sigprocmask", set)?;
    ignore(SIGHUP);
    if arguments.text("careless").is_ok() {
        ignore(SIGCHLD);
        leave_open()?;
    }
    let failed = Command::new(program).args(words).exec();
    Err(CouldNotTry(format!("exec: {failed}")))
}

struct SomeCommand<'a>(&'a str, &'a [String]);

fn command(arguments: &Arguments) -> Result<SomeCommand<'_>, CouldNotTry> {
    match arguments.command.split_first() {
        Some((program, words)) => Ok(SomeCommand(program, words)),
        None => Err(CouldNotTry("no command after --".to_owned())),
    }
}

/// Descriptors of this program that an exec does not close, from
/// [`LEFT_OPEN_FROM`] on.
fn leave_open() -> Result<(), CouldNotTry> {
    const RLIMIT_NOFILE: usize = 7;
    const F_DUPFD: usize = 0;
    let mut limits = [0_u64; 2];
    let at = limits.as_mut_ptr().expose_provenance();
    // SAFETY: the call writes two numbers, which are on this frame.
    must("prlimit64", unsafe {
        sys::call(nr::PRLIMIT64, [0, RLIMIT_NOFILE, 0, at])
    })?;
    let raised = [limits[1], limits[1]];
    let at = raised.as_ptr().expose_provenance();
    // SAFETY: the call reads two numbers, which are on this frame.
    must("prlimit64", unsafe {
        sys::call(nr::PRLIMIT64, [0, RLIMIT_NOFILE, at, 0])
    })?;
    let file = File::open("/proc/self/exe")
        .map_err(|error| CouldNotTry(format!("/proc/self/exe: {error}")))?;
    let fd = file.into_raw_fd();
    for _ in 0..LEFT_OPEN {
        // SAFETY: takes no pointer.
        must("fcntl", unsafe {
            sys::call(nr::FCNTL, [int(fd), F_DUPFD, LEFT_OPEN_FROM])
        })?;
    }
    Ok(())
}

/// Says the I/O priority of the process `pid`, which no file shows.
pub(crate) fn io_priority(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    const WHO_PROCESS: usize = 1;
    let pid: i32 = arguments.number("pid")?;
    // SAFETY: takes no pointer.
    let got = unsafe { sys::call(nr::IOPRIO_GET, [WHO_PROCESS, int(pid)]) };
    match got {
        Ok(priority) => println!("io={priority}"),
        Err(errno) => return Err(CouldNotTry(format!("ioprio_get: {errno}"))),
    }
    Ok(ExitCode::SUCCESS)
}

/// None of them lives longer, whatever becomes of a stop.
const LIFE: Duration = Duration::from_secs(20);
/// What one that runs away forks before it gives up.
const GENERATIONS_MAX: u32 = 2000;

/// Starts processes that want to outlive a stop, each named as the way that
/// it tries, says so, and lives until its standard input ends.
pub(crate) fn daemons(_arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    daemon("cl-child", stay)?;
    daemon("cl-session", || {
        // SAFETY: takes no pointer.
        let led = unsafe { sys::call(nr::SETSID, []) };
        if led.is_ok() {
            stay();
        }
    })?;
    daemon("cl-orphan", || {
        if let Ok(None) = sys::fork() {
            stay();
        }
        // Its parent ends.
    })?;
    daemon("cl-deaf", || {
        for signal in [SIGHUP, SIGTERM] {
            ignore(signal);
        }
        stay();
    })?;
    daemon("cl-stopped", || {
        const SIGSTOP: usize = 19;
        // SAFETY: takes no pointer.
        let stopped = unsafe { sys::call(nr::KILL, [int(sys::own_pid()), SIGSTOP]) };
        if stopped.is_ok() {
            stay();
        }
    })?;
    daemon("cl-runaway", run_away)?;
    println!("daemons=6");
    roles::until_standard_input_ends()?;
    Ok(ExitCode::SUCCESS)
}

fn daemon(name: &str, live: impl FnOnce()) -> Result<(), CouldNotTry> {
    const PR_SET_NAME: usize = 15;
    match sys::fork() {
        Ok(None) => {
            let name = crate::arguments::c_string(name);
            // SAFETY: the call reads a C string.
            let named = unsafe { sys::call(PRCTL, [PR_SET_NAME, sys::name(&name)]) };
            if named.is_ok() {
                live();
            }
            sys::exit(0)
        }
        Ok(Some(_)) => Ok(()),
        Err(errno) => Err(CouldNotTry(format!("fork: {errno}"))),
    }
}

fn stay() {
    std::thread::sleep(LIFE);
}

/// Is another process every few milliseconds.
fn run_away() {
    let end = Instant::now() + LIFE;
    for _ in 0..GENERATIONS_MAX {
        if Instant::now() > end {
            return;
        }
        match sys::fork() {
            Ok(None) => std::thread::sleep(Duration::from_millis(3)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}
