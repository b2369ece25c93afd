//! B12: the calls of another interface, which a filter for one misses.

use std::ffi::c_int;

use crate::arguments::Arguments;
use crate::report::{CouldNotTry, Report, Verdict};
use crate::sys::{self, Answer, Errno, nr};

/// Numbers of the 32-bit interface.
mod i386 {
    pub(super) const GETPID: usize = 20;
    pub(super) const MOUNT: usize = 21;
    pub(super) const SOCKETCALL: usize = 102;
    pub(super) const KEYCTL: usize = 288;
    pub(super) const UNSHARE: usize = 310;
    pub(super) const SOCKET: usize = 359;
    pub(super) const IO_URING_SETUP: usize = 425;
}

/// What x32 adds to each number.
const X32_BIT: usize = 0x4000_0000;
const AF_VSOCK: usize = 40;
const SOCK_STREAM: usize = 1;
const SIGSEGV: c_int = 11;

unsafe extern "C" {
    #[link_name = "signal"]
    fn c_signal(signal: c_int, handler: usize) -> usize;
    #[link_name = "mmap"]
    fn c_mmap(
        at: usize,
        length: usize,
        protection: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut u32;
}

/// Asks by `int 0x80` and by x32 numbers for a harmless answer and for what
/// the native interface denies. Sockets are closed unused.
pub(crate) fn b12(_arguments: &Arguments, report: &mut Report) -> Result<(), CouldNotTry> {
    report.way("int80-getpid", || {
        int80_answers("getpid", int80(i386::GETPID, [0; 5]), own_pid())
    });
    report.way("int80-socketcall-vsock", socketcall);
    report.way("int80-socket-vsock", || {
        reached(
            "socket",
            int80(i386::SOCKET, [AF_VSOCK, SOCK_STREAM, 0, 0, 0]),
        )
    });
    report.way("int80-unshare-user", || {
        const CLONE_NEWUSER: usize = 0x1000_0000;
        reached("unshare", int80(i386::UNSHARE, [CLONE_NEWUSER, 0, 0, 0, 0]))
    });
    report.way("int80-mount", || {
        // Null names: EFAULT or EINVAL would show that the call was reached.
        past_the_filter("mount", int80(i386::MOUNT, [0; 5]))
    });
    report.way("int80-keyctl", || {
        const KEYCTL_GET_KEYRING_ID: usize = 0;
        const PROCESS_KEYRING: usize = 0xffff_fffe;
        let answer = int80(
            i386::KEYCTL,
            [KEYCTL_GET_KEYRING_ID, PROCESS_KEYRING, 1, 0, 0],
        );
        reached("keyctl", answer)
    });
    report.way("int80-io_uring_setup", || {
        match low_page() {
            // The structure is 120 bytes, all zero.
            Ok((_, at)) => reached(
                "io_uring_setup",
                int80(i386::IO_URING_SETUP, [1, at, 0, 0, 0]),
            ),
            Err(untried) => untried,
        }
    });
    report.way("x32-getpid", || {
        x32_answers("getpid", x32(nr::GETPID, [0; 3]), own_pid())
    });
    report.way("x32-socket-vsock", || {
        match x32(nr::SOCKET, [AF_VSOCK, SOCK_STREAM, 0]) {
            Err(sys::ENOSYS) => no_x32(),
            other => reached("socket", other),
        }
    });
    report.way("x32-unshare-user", || {
        match x32(nr::UNSHARE, [0x1000_0000, 0, 0]) {
            Err(sys::ENOSYS) => no_x32(),
            other => reached("unshare", other),
        }
    });
    Ok(())
}

fn own_pid() -> usize {
    usize::try_from(sys::own_pid()).unwrap_or(0)
}

fn reached(call: &str, answer: Answer) -> Verdict {
    match answer {
        Ok(value) => Verdict::Through(format!("the foreign {call} answered {value}")),
        Err(errno) => Verdict::stopped(call, errno),
    }
}

/// Like [`reached`], where a wrong argument was passed on purpose.
fn past_the_filter(call: &str, answer: Answer) -> Verdict {
    match answer {
        Err(errno @ (sys::EFAULT | Errno(22))) => {
            Verdict::Through(format!("the foreign {call} was reached ({errno})"))
        }
        other => reached(call, other),
    }
}

fn int80_answers(call: &str, answer: Answer, expected: usize) -> Verdict {
    match answer {
        Ok(value) if value == expected => {
            Verdict::Through(format!("the foreign {call} answered rightly, {value}"))
        }
        Ok(value) => Verdict::Untried(format!("{call} answered {value}, not {expected}")),
        Err(errno) => Verdict::stopped(call, errno),
    }
}

fn x32_answers(call: &str, answer: Answer, expected: usize) -> Verdict {
    match answer {
        Err(sys::ENOSYS) => no_x32(),
        other => int80_answers(call, other, expected),
    }
}

/// ENOSYS is the answer of a kernel without x32 and of a filter that takes
/// the number for an unknown one: nobody is stopped by it where there is
/// nothing to reach, and nobody gets through.
fn no_x32() -> Verdict {
    Verdict::Absent("x32 ENOSYS".to_owned())
}

/// A page that a pointer of 32 bits can name, and its address.
fn low_page() -> Result<(*mut u32, usize), Verdict> {
    const PROT_READ_WRITE: c_int = 3;
    const MAP_PRIVATE_ANONYMOUS_32BIT: c_int = 0x2 | 0x20 | 0x40;
    // SAFETY: a new private mapping, wherever the kernel puts it.
    let page = unsafe { c_mmap(0, 4096, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_32BIT, -1, 0) };
    let address = page.expose_provenance();
    if address > 0xffff_0000 {
        return Err(Verdict::Untried("no page below 4 GiB".to_owned()));
    }
    Ok((page, address))
}

/// `socketcall(SYS_SOCKET, {AF_VSOCK, SOCK_STREAM, 0})`: a filter on numbers
/// cannot look at the arguments behind the pointer.
fn socketcall() -> Verdict {
    const SYS_SOCKET: usize = 1;
    let (page, address) = match low_page() {
        Ok(page) => page,
        Err(untried) => return untried,
    };
    for (position, word) in [AF_VSOCK as u32, SOCK_STREAM as u32, 0]
        .into_iter()
        .enumerate()
    {
        // SAFETY: the page holds 1024 words and nothing else knows of it.
        unsafe { page.wrapping_add(position).write(word) };
    }
    reached(
        "socketcall",
        int80(i386::SOCKETCALL, [SYS_SOCKET, address, 0, 0, 0]),
    )
}

/// A call by the gate of the 32-bit interface. A kernel built or booted
/// without it raises a fault, which ends the way as absent.
fn int80(number: usize, arguments: [usize; 5]) -> Answer {
    // SAFETY: the handler only makes an exit, by the C library's `_exit`.
    unsafe { c_signal(SIGSEGV, no_gate as extern "C" fn(c_int) as usize) };
    let answer: isize;
    // SAFETY: rbx belongs to the compiler, so it is swapped in and out by
    // hand; the gate clobbers r8 to r11. Pointers among the arguments are
    // null or a page of [`low_page`], which nobody else uses.
    unsafe {
        core::arch::asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) arguments[0] => _,
            inlateout("rax") number => answer,
            in("rcx") arguments[1],
            in("rdx") arguments[2],
            in("rsi") arguments[3],
            in("rdi") arguments[4],
            lateout("r8") _,
            lateout("r9") _,
            lateout("r10") _,
            lateout("r11") _,
        );
    }
    // The answer has 32 bits.
    sys::decode((answer as i32) as isize)
}

/// The exit code by which a way says that there is no 32-bit gate.
pub(crate) const NO_GATE: i32 = 77;

extern "C" fn no_gate(_signal: c_int) {
    sys::exit(NO_GATE)
}

fn x32(number: usize, arguments: [usize; 3]) -> Answer {
    // SAFETY: none of these calls takes a pointer.
    unsafe { sys::call(number | X32_BIT, arguments) }
}
