//! What a system call costs where this program runs.

use std::ffi::CStr;
use std::process::ExitCode;
use std::time::Instant;

use crate::arguments::Arguments;
use crate::report::CouldNotTry;
use crate::sys::{self, Errno, int, nr};

const READ: usize = 0;
const CLOSE: usize = 3;
const GETPPID: usize = 110;
const AT_FDCWD: i32 = -100;
/// Any: there is no descriptor to answer it.
const TCGETS: usize = 0x5401;
const NO_DESCRIPTOR: usize = usize::MAX;
/// As deep as a library is. Whoever runs this puts it there.
const FILE: &CStr = c"/srv/web/pages/index";
const AF_UNIX: usize = 1;
const SOCK_STREAM: usize = 1;
/// A clone costs a thousand times as much as a getppid.
const CLONES_IN: u32 = 200;

type Timed = fn() -> Result<(), Errno>;

const CALLS: [(&str, Timed); 6] = [
    ("getppid", getppid),
    ("read", read),
    ("ioctl", ioctl),
    ("socket", socket),
    ("openat", openat),
    ("clone+wait", clone_and_wait),
];

/// Writes one line for each call: its name and how many nanoseconds one takes,
/// the mean of `count` and the least of `rounds`, which take turns: whoever
/// started this may still be at work during the first. `socket` and `openat`
/// are timed with the close of what they gave; `openat` opens [`FILE`].
pub(crate) fn costs(arguments: &Arguments) -> Result<ExitCode, CouldNotTry> {
    let count: u32 = arguments.number("count")?;
    let rounds: u32 = arguments.number("rounds")?;
    let mut least = [u128::MAX; CALLS.len()];
    for _ in 0..rounds.max(1) {
        for ((name, timed), least) in CALLS.iter().zip(&mut least) {
            let count = match *name {
                "clone+wait" => (count / CLONES_IN).max(1),
                _ => count.max(1),
            };
            let begun = Instant::now();
            for _ in 0..count {
                timed().map_err(|errno| CouldNotTry(format!("{name}: {errno}")))?;
            }
            *least = (*least).min(begun.elapsed().as_nanos() * 10 / u128::from(count));
        }
    }
    for ((name, _), least) in CALLS.iter().zip(least) {
        println!("{name} {}.{}", least / 10, least % 10);
    }
    Ok(ExitCode::SUCCESS)
}

fn getppid() -> Result<(), Errno> {
    // SAFETY: no argument.
    unsafe { sys::call(GETPPID, []) }.map(|_| ())
}

/// From no descriptor: what the kernel does before it looks at one is ours to
/// add to.
fn read() -> Result<(), Errno> {
    // SAFETY: the address is null.
    refused(unsafe { sys::call(READ, [NO_DESCRIPTOR, 0, 0]) })
}

fn ioctl() -> Result<(), Errno> {
    // SAFETY: the address is null.
    refused(unsafe { sys::call(nr::IOCTL, [NO_DESCRIPTOR, TCGETS, 0]) })
}

fn refused(answer: sys::Answer) -> Result<(), Errno> {
    match answer {
        Err(sys::EBADF) => Ok(()),
        Err(errno) => Err(errno),
        Ok(_) => Err(Errno(0)),
    }
}

fn socket() -> Result<(), Errno> {
    // SAFETY: no argument is an address.
    close(unsafe { sys::call(nr::SOCKET, [AF_UNIX, SOCK_STREAM, 0]) }?)
}

fn openat() -> Result<(), Errno> {
    // SAFETY: [`FILE`] is static; the flags (read only) create nothing.
    close(unsafe { sys::call(nr::OPENAT, [int(AT_FDCWD), sys::name(FILE), 0, 0]) }?)
}

fn close(descriptor: usize) -> Result<(), Errno> {
    // SAFETY: the descriptor was opened by the caller, and nobody else has it.
    unsafe { sys::call(CLOSE, [descriptor]) }.map(|_| ())
}

fn clone_and_wait() -> Result<(), Errno> {
    match sys::fork()? {
        None => sys::exit(0),
        Some(child) => sys::wait(child).map(|_| ()),
    }
}
