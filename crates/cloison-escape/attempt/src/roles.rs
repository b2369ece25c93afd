//! What tests need besides the probes.

use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::IntoRawFd;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::sys::{self, int, nr};

const SIGCHLD: u64 = 17;
const SIGUSR1: c_int = 10;
const SIGURG: c_int = 23;

/// Ends at once.
#[expect(clippy::unnecessary_wraps, reason = "the shape of a role")]
pub(crate) fn noop(_arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    Ok(ExitCode::SUCCESS)
}

/// Lives until its standard input ends, or for `ms`.
pub(crate) fn sleep(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let ms: u64 = arguments.number_or("ms", 0)?;
    if ms > 0 {
        std::thread::sleep(std::time::Duration::from_millis(ms));
        return Ok(ExitCode::SUCCESS);
    }
    until_standard_input_ends()?;
    Ok(ExitCode::SUCCESS)
}

/// Is `count` processes, says so, and lives until its standard input ends.
pub(crate) fn crowd(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let count: u32 = arguments.number("count")?;
    let mut others = Vec::new();
    for _ in 1..count {
        match sys::fork().map_err(|errno| CouldNotTry(format!("fork: {errno}")))? {
            None => loop {
                std::thread::sleep(std::time::Duration::from_secs(1));
            },
            Some(child) => others.push(child),
        }
    }
    println!("{count} processes");
    let ended = until_standard_input_ends();
    for child in others {
        sys::kill_own_child(child);
    }
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Holds `token` in its memory, notes each SIGUSR1 and SIGURG in the file `record`,
/// says where it is, and lives until its standard input ends. With `at` it
/// has that number, which needs CAP_SYS_ADMIN over its pid namespace.
pub(crate) fn victim(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let token = arguments.text("token")?.to_owned();
    let record = arguments.text("record")?;
    let at: u32 = arguments.number_or("at", 0)?;
    if at != 0 {
        match fork_with_number(at) {
            Ok(0) => {}
            Ok(child) => {
                return match sys::wait(i32::try_from(child).unwrap_or(-1)) {
                    Ok(sys::Ended::Exit(0)) => Ok(ExitCode::SUCCESS),
                    other => Err(CouldNotTry(format!("the victim ended with {other:?}"))),
                };
            }
            Err(errno) => return Err(CouldNotTry(format!("clone3 with a number: {errno}"))),
        }
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(record)
        .map_err(|error| CouldNotTry(format!("{record}: {error}")))?;
    RECORD.store(file.into_raw_fd(), Ordering::Relaxed);
    for signal in [SIGUSR1, SIGURG] {
        // SAFETY: the handler only makes a raw write.
        unsafe { c_signal(signal, note_signal as extern "C" fn(c_int) as usize) };
    }
    println!(
        "pid={} address={:#x}",
        sys::own_pid(),
        token.as_ptr().expose_provenance()
    );
    let ended = until_standard_input_ends();
    // Without a use at the end the memory could be given back before it.
    std::hint::black_box(&token);
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Answers everyone on a loopback port with `token`, notes each in the file
/// `record`, says which port, and lives until its standard input ends.
pub(crate) fn answer(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let token = arguments.text("token")?.to_owned();
    let failed = |error: std::io::Error| CouldNotTry(format!("listening: {error}"));
    let record = arguments.text("record")?;
    let mut record = OpenOptions::new()
        .append(true)
        .create(true)
        .open(record)
        .map_err(|error| CouldNotTry(format!("{record}: {error}")))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    println!("port={}", listener.local_addr().map_err(failed)?.port());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // A peer that is gone already is no concern of the next one.
            let answered = connection.and_then(|mut peer| {
                record.write_all(b"connected\n")?;
                peer.write_all(token.as_bytes())
            });
            if answered.is_err() {
                continue;
            }
        }
    });
    until_standard_input_ends()?;
    Ok(ExitCode::SUCCESS)
}

unsafe extern "C" {
    #[link_name = "signal"]
    fn c_signal(signal: c_int, handler: usize) -> usize;
}

static RECORD: AtomicI32 = AtomicI32::new(-1);

extern "C" fn note_signal(_signal: c_int) {
    const WRITE: usize = 1;
    let line = b"signalled\n";
    let at = line.as_ptr().expose_provenance();
    // SAFETY: the call reads `line`, whose length is passed.
    let written =
        unsafe { sys::call(WRITE, [int(RECORD.load(Ordering::Relaxed)), at, line.len()]) };
    if written.is_err() {
        sys::exit(1);
    }
}

/// Forks a child with a number chosen beforehand.
fn fork_with_number(number: u32) -> sys::Answer {
    // struct clone_args: flags, pidfd, child tid, parent tid, exit signal,
    // stack, its size, tls, list of numbers, its length, cgroup.
    let list = (&raw const number).expose_provenance() as u64;
    let arguments: [u64; 11] = [0, 0, 0, 0, SIGCHLD, 0, 0, 0, list, 1, 0];
    let at = (&raw const arguments).expose_provenance();
    // SAFETY: without CLONE_VM and with no stack this is a fork; the call
    // reads the structure and one number, both on this frame.
    unsafe { sys::call(nr::CLONE3, [at, size_of_val(&arguments)]) }
}

pub(crate) fn until_standard_input_ends() -> Result<(), CouldNotTry> {
    std::io::stdout()
        .flush()
        .and_then(|()| std::io::stdin().read_to_end(&mut Vec::new()))
        .map(|_| ())
        .map_err(|error| CouldNotTry(format!("standard input: {error}")))
}
