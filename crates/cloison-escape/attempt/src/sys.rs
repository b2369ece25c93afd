//! Raw calls, and the few of the C library that a forking program needs.
//!
//! The attempts go through [`call`], so that nothing between the probe and
//! the kernel may check, change or emulate what is asked.

use std::ffi::{c_int, c_ulong};
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;

/// What a raw call answered.
pub(crate) type Answer = Result<usize, Errno>;

/// An error number of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

pub(crate) const EPERM: Errno = Errno(1);
pub(crate) const ENOENT: Errno = Errno(2);
pub(crate) const ESRCH: Errno = Errno(3);
pub(crate) const EBADF: Errno = Errno(9);
pub(crate) const EACCES: Errno = Errno(13);
pub(crate) const EFAULT: Errno = Errno(14);
pub(crate) const ETXTBSY: Errno = Errno(26);
pub(crate) const ENOSYS: Errno = Errno(38);
pub(crate) const EPROTONOSUPPORT: Errno = Errno(93);
pub(crate) const EAFNOSUPPORT: Errno = Errno(97);

const NAMES: &[(i32, &str)] = &[
    (1, "EPERM"),
    (2, "ENOENT"),
    (3, "ESRCH"),
    (4, "EINTR"),
    (5, "EIO"),
    (6, "ENXIO"),
    (8, "ENOEXEC"),
    (9, "EBADF"),
    (10, "ECHILD"),
    (11, "EAGAIN"),
    (12, "ENOMEM"),
    (13, "EACCES"),
    (14, "EFAULT"),
    (16, "EBUSY"),
    (17, "EEXIST"),
    (18, "EXDEV"),
    (19, "ENODEV"),
    (20, "ENOTDIR"),
    (21, "EISDIR"),
    (22, "EINVAL"),
    (24, "EMFILE"),
    (25, "ENOTTY"),
    (26, "ETXTBSY"),
    (28, "ENOSPC"),
    (30, "EROFS"),
    (32, "EPIPE"),
    (38, "ENOSYS"),
    (40, "ELOOP"),
    (61, "ENODATA"),
    (75, "EOVERFLOW"),
    (87, "EUSERS"),
    (88, "ENOTSOCK"),
    (92, "ENOPROTOOPT"),
    (93, "EPROTONOSUPPORT"),
    (94, "ESOCKTNOSUPPORT"),
    (95, "EOPNOTSUPP"),
    (97, "EAFNOSUPPORT"),
    (99, "EADDRNOTAVAIL"),
    (101, "ENETUNREACH"),
    (106, "EISCONN"),
    (107, "ENOTCONN"),
    (110, "ETIMEDOUT"),
    (111, "ECONNREFUSED"),
    (115, "EINPROGRESS"),
    (126, "ENOKEY"),
    (127, "EKEYEXPIRED"),
    (128, "EKEYREVOKED"),
    (129, "EKEYREJECTED"),
];

impl Errno {
    /// The error number inside an error of the standard library.
    pub(crate) fn of(error: &std::io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

/// One system call of the native interface, with up to six arguments.
///
/// # Safety
/// Every argument that the call takes as a pointer is null, wild on purpose
/// (the kernel answers EFAULT), or points at memory that is as large and as
/// writable as the call wants for as long as it runs; and the call does not
/// take away memory or descriptors that safe code still holds.
pub(crate) unsafe fn call<const N: usize>(number: usize, arguments: [usize; N]) -> Answer {
    const { assert!(N <= 6) };
    let argument = |position: usize| arguments.get(position).copied().unwrap_or(0);
    let answer: isize;
    // SAFETY: the instruction clobbers rcx and r11 only, both declared; what
    // the kernel does to memory is the caller's promise.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") number => answer,
            in("rdi") argument(0),
            in("rsi") argument(1),
            in("rdx") argument(2),
            in("r10") argument(3),
            in("r8") argument(4),
            in("r9") argument(5),
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    decode(answer)
}

/// The kernel's convention: -4095 to -1 are error numbers.
pub(crate) fn decode(answer: isize) -> Answer {
    match i32::try_from(answer) {
        Ok(negative @ -4095..=-1) => Err(Errno(-negative)),
        _ => Ok(answer.cast_unsigned()),
    }
}

unsafe extern "C" {
    #[link_name = "fork"]
    safe fn c_fork() -> c_int;
    #[link_name = "_exit"]
    safe fn c_exit(status: c_int) -> !;
    #[link_name = "kill"]
    safe fn c_kill(pid: c_int, signal: c_int) -> c_int;
    #[link_name = "waitpid"]
    fn c_waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    #[link_name = "poll"]
    fn c_poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
}

#[repr(C)]
struct PollFd {
    fd: c_int,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;
const SIGKILL: c_int = 9;
pub(crate) const SIGSYS: i32 = 31;

fn last_errno() -> Errno {
    Errno::of(&std::io::Error::last_os_error())
}

/// Forks; the child gets `None`. The program has one thread.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    match c_fork() {
        -1 => Err(last_errno()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Ends this process at once, without running what `exit` would.
pub(crate) fn exit(status: i32) -> ! {
    c_exit(status)
}

/// Ends a child that this process forked and has not waited for.
pub(crate) fn kill_own_child(child: i32) {
    if child > 1 {
        c_kill(child, SIGKILL);
    }
}

/// How a child ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It exited.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
}

/// Waits for one child.
pub(crate) fn wait(child: i32) -> Result<Ended, Errno> {
    let mut status: c_int = 0;
    loop {
        // SAFETY: waitpid writes one int, which outlives the call.
        let ended = unsafe { c_waitpid(child, &raw mut status, 0) };
        match ended {
            -1 if last_errno() == Errno(4) => {}
            -1 => return Err(last_errno()),
            _ if status & 0x7f == 0 => return Ok(Ended::Exit((status >> 8) & 0xff)),
            _ => return Ok(Ended::Signal(status & 0x7f)),
        }
    }
}

/// Whether `file` has bytes or an end to read within the time.
pub(crate) fn readable_within(file: &File, timeout_ms: i32) -> bool {
    let mut entry = PollFd {
        fd: file.as_raw_fd(),
        events: POLLIN,
        revents: 0,
    };
    // SAFETY: one entry is passed and counted, and it outlives the call.
    unsafe { c_poll(&raw mut entry, 1, timeout_ms) > 0 }
}

/// This process.
pub(crate) fn own_pid() -> i32 {
    i32::try_from(std::process::id()).unwrap_or(0)
}

/// `value` as a call's argument, its sign extended as C would.
pub(crate) fn int(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

/// The address of `name` as a call's argument.
pub(crate) fn name(name: &std::ffi::CStr) -> usize {
    name.as_ptr().expose_provenance()
}

/// The numbers of the native interface that the probes use.
///
/// # Source
/// syscalls(2), table of x86-64.
pub(crate) mod nr {
    pub(crate) const IOCTL: usize = 16;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const CONNECT: usize = 42;
    pub(crate) const SENDTO: usize = 44;
    pub(crate) const SENDMSG: usize = 46;
    pub(crate) const SETSOCKOPT: usize = 54;
    pub(crate) const GETSOCKOPT: usize = 55;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXIT: usize = 60;
    pub(crate) const KILL: usize = 62;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const FCHDIR: usize = 81;
    pub(crate) const PTRACE: usize = 101;
    pub(crate) const SETSID: usize = 112;
    pub(crate) const RT_SIGQUEUEINFO: usize = 129;
    pub(crate) const GETPRIORITY: usize = 140;
    pub(crate) const SETPRIORITY: usize = 141;
    pub(crate) const SCHED_SETSCHEDULER: usize = 144;
    pub(crate) const SCHED_GETSCHEDULER: usize = 145;
    pub(crate) const SCHED_GETPARAM: usize = 143;
    pub(crate) const MOUNT: usize = 165;
    pub(crate) const UMOUNT2: usize = 166;
    pub(crate) const SCHED_SETAFFINITY: usize = 203;
    pub(crate) const SCHED_GETAFFINITY: usize = 204;
    pub(crate) const TGKILL: usize = 234;
    pub(crate) const ADD_KEY: usize = 248;
    pub(crate) const REQUEST_KEY: usize = 249;
    pub(crate) const KEYCTL: usize = 250;
    pub(crate) const IOPRIO_SET: usize = 251;
    pub(crate) const IOPRIO_GET: usize = 252;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const UNSHARE: usize = 272;
    pub(crate) const GET_ROBUST_LIST: usize = 274;
    pub(crate) const MOVE_PAGES: usize = 279;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const PROCESS_VM_READV: usize = 310;
    pub(crate) const PROCESS_VM_WRITEV: usize = 311;
    pub(crate) const KCMP: usize = 312;
    pub(crate) const PIDFD_SEND_SIGNAL: usize = 424;
    pub(crate) const IO_URING_SETUP: usize = 425;
    pub(crate) const IO_URING_ENTER: usize = 426;
    pub(crate) const IO_URING_REGISTER: usize = 427;
    pub(crate) const OPEN_TREE: usize = 428;
    pub(crate) const MOVE_MOUNT: usize = 429;
    pub(crate) const FSCONFIG: usize = 431;
    pub(crate) const FSPICK: usize = 433;
    pub(crate) const PIDFD_OPEN: usize = 434;
    pub(crate) const CLONE3: usize = 435;
    pub(crate) const PIDFD_GETFD: usize = 438;
    pub(crate) const PROCESS_MADVISE: usize = 440;
    pub(crate) const MOUNT_SETATTR: usize = 442;
    pub(crate) const MMAP: usize = 9;
}
