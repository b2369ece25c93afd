//! C10: bytes pushed into the terminal of whoever launched the sandbox.

use std::fs::OpenOptions;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::OpenOptionsExt;

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, int, nr};

const TIOCSTI: usize = 0x5412;
const TIOCSCTTY: usize = 0x540e;
const TIOCLINUX: usize = 0x541c;
const TIOCGPGRP: usize = 0x540f;
/// The kernel takes 32 bits of the request; a filter may compare all 64.
const HIGH_HALF: usize = 0x1_0000_0000;

/// Pushes `mark`, a word without meaning, into each terminal in reach. No
/// line is ended, so a shell that reads it runs nothing.
pub(crate) fn c10(arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    let mark = arguments.text("mark")?;
    if mark.bytes().any(|byte| !byte.is_ascii_alphanumeric()) {
        return Err(CouldNotTry(
            "the mark is more than letters and digits".to_owned(),
        ));
    }
    for (kind, fd) in [("stdin", 0), ("stdout", 1), ("stderr", 2)] {
        report.way(&format!("push-{kind}"), || push(fd, TIOCSTI, mark));
        report.way(&format!("push-high-half-{kind}"), || {
            push(fd, TIOCSTI | HIGH_HALF, mark)
        });
        report.way(&format!("acquire-{kind}"), || acquire_and_push(fd, mark));
        report.way(&format!("console-{kind}"), || console(fd));
    }
    for path in ["/dev/tty", "/dev/console", "/dev/tty0", "/dev/tty1"] {
        report.way(&format!("open-{path}"), || open_and_push(path, mark));
    }
    Ok(())
}

fn push(fd: i32, request: usize, mark: &str) -> Verdict {
    for byte in mark.bytes() {
        let at = (&raw const byte).expose_provenance();
        // SAFETY: the request reads one byte, which is on this frame.
        let pushed = unsafe { sys::call(nr::IOCTL, [int(fd), request, at]) };
        if let Err(errno) = pushed {
            return Verdict::stopped("ioctl TIOCSTI", errno);
        }
    }
    Verdict::Through(format!(
        "{mark} was pushed into the terminal on descriptor {fd}"
    ))
}

/// Leads a session of its own and takes the terminal as its controlling one,
/// which only works where it controls nobody else's.
fn acquire_and_push(fd: i32, mark: &str) -> Verdict {
    // SAFETY: takes no pointer.
    let led = unsafe { sys::call(nr::SETSID, []) };
    if let Err(errno) = led {
        return Verdict::stopped("setsid", errno);
    }
    // SAFETY: the argument is a number: 0, do not steal.
    let taken: Answer = unsafe { sys::call(nr::IOCTL, [int(fd), TIOCSCTTY, 0]) };
    match taken {
        Ok(_) => push(fd, TIOCSTI, mark),
        Err(errno) => Verdict::stopped("ioctl TIOCSCTTY", errno),
    }
}

/// Asks a console for its shift keys: of all subcommands the one that
/// changes nothing. A pseudo-terminal is no console and says ENOTTY.
fn console(fd: i32) -> Verdict {
    let mut subcommand = [6_u8, 0];
    let at = (&raw mut subcommand).expose_provenance();
    // SAFETY: this subcommand reads one byte and writes one in its place.
    let asked = unsafe { sys::call(nr::IOCTL, [int(fd), TIOCLINUX, at]) };
    Verdict::of(
        "ioctl TIOCLINUX",
        asked,
        "the console's subcommands are open",
    )
}

fn open_and_push(path: &str, mark: &str) -> Verdict {
    const O_NOCTTY: i32 = 0o400;
    const O_NONBLOCK: i32 = 0o4000;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(O_NOCTTY | O_NONBLOCK)
        .open(path);
    let fd = match opened {
        Ok(file) => file.into_raw_fd(),
        Err(error) => return Verdict::refused("open", &error),
    };
    let mut group = 0_i32;
    let at = (&raw mut group).expose_provenance();
    // SAFETY: the request writes one int, which is on this frame.
    match unsafe { sys::call(nr::IOCTL, [int(fd), TIOCGPGRP, at]) } {
        Ok(_) => push(fd, TIOCSTI, mark),
        Err(errno) => Verdict::stopped("ioctl TIOCGPGRP", errno),
    }
}
