//! System calls by number, for code that may neither allocate nor lock.

use core::arch::asm;

/// An error number of the kernel, as errno(3) names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl Errno {
    /// Not permitted.
    pub const EPERM: Self = Self(1);
    /// Interrupted by a signal.
    pub const EINTR: Self = Self(4);
    /// Not now.
    pub const EAGAIN: Self = Self(11);
    /// No child, or not ours.
    pub const ECHILD: Self = Self(10);
    /// Invalid argument.
    pub const EINVAL: Self = Self(22);
    /// The other end is gone.
    pub const EPIPE: Self = Self(32);
    /// The call does not exist.
    pub const ENOSYS: Self = Self(38);
    /// The other end is gone and has not read everything.
    pub const ECONNRESET: Self = Self(104);
    /// A malformed request.
    pub const EPROTO: Self = Self(71);
}

/// What a call returns.
pub type Result<T> = core::result::Result<T, Errno>;

/// Makes one system call.
///
/// # Safety
/// The kernel reads and writes memory as the call's arguments say: each that
/// is an address must be valid for what call `number` does with it.
#[inline(always)]
pub(crate) unsafe fn raw(number: i64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    let result;
    // SAFETY: the instruction clobbers rax, rcx and r11 only, which is what
    // the operands say (Intel SDM, SYSCALL); what the call does to memory is
    // the caller's promise above.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            in("r8") e,
            in("r9") f,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// The value or the error in what [`raw`] returned.
#[inline(always)]
pub(crate) fn check(result: i64) -> Result<i64> {
    if result < 0 {
        Err(Errno(-(result as i32)))
    } else {
        Ok(result)
    }
}

/// Numbers of the calls that this crate makes.
///
/// # Source
/// arch/x86/entry/syscalls/syscall_64.tbl
#[allow(
    dead_code,
    reason = "the static program, made from the same modules, uses the others"
)]
pub(crate) mod nr {
    pub(crate) const READ: i64 = 0;
    pub(crate) const WRITE: i64 = 1;
    pub(crate) const CLOSE: i64 = 3;
    pub(crate) const POLL: i64 = 7;
    pub(crate) const RT_SIGACTION: i64 = 13;
    pub(crate) const RT_SIGPROCMASK: i64 = 14;
    pub(crate) const IOCTL: i64 = 16;
    pub(crate) const SOCKET: i64 = 41;
    pub(crate) const CONNECT: i64 = 42;
    pub(crate) const SENDMSG: i64 = 46;
    pub(crate) const RECVMSG: i64 = 47;
    pub(crate) const BIND: i64 = 49;
    pub(crate) const GETSOCKNAME: i64 = 51;
    pub(crate) const GETSOCKOPT: i64 = 55;
    pub(crate) const CLONE: i64 = 56;
    pub(crate) const EXECVE: i64 = 59;
    pub(crate) const WAIT4: i64 = 61;
    pub(crate) const KILL: i64 = 62;
    pub(crate) const FCNTL: i64 = 72;
    pub(crate) const CHDIR: i64 = 80;
    pub(crate) const FCHDIR: i64 = 81;
    pub(crate) const UMASK: i64 = 95;
    pub(crate) const SETSID: i64 = 112;
    pub(crate) const SETGROUPS: i64 = 116;
    pub(crate) const SETRESUID: i64 = 117;
    pub(crate) const SETRESGID: i64 = 119;
    pub(crate) const SETFSUID: i64 = 122;
    pub(crate) const SETFSGID: i64 = 123;
    pub(crate) const CAPSET: i64 = 126;
    pub(crate) const PERSONALITY: i64 = 135;
    pub(crate) const SETPRIORITY: i64 = 141;
    pub(crate) const SCHED_SETSCHEDULER: i64 = 144;
    pub(crate) const PIVOT_ROOT: i64 = 155;
    pub(crate) const PRCTL: i64 = 157;
    pub(crate) const MOUNT: i64 = 165;
    pub(crate) const UMOUNT2: i64 = 166;
    pub(crate) const SETHOSTNAME: i64 = 170;
    pub(crate) const GETXATTR: i64 = 191;
    pub(crate) const SCHED_SETAFFINITY: i64 = 203;
    pub(crate) const EXIT_GROUP: i64 = 231;
    pub(crate) const EPOLL_WAIT: i64 = 232;
    pub(crate) const EPOLL_CTL: i64 = 233;
    pub(crate) const SET_MEMPOLICY: i64 = 238;
    pub(crate) const GET_MEMPOLICY: i64 = 239;
    pub(crate) const WAITID: i64 = 247;
    pub(crate) const KEYCTL: i64 = 250;
    pub(crate) const IOPRIO_SET: i64 = 251;
    pub(crate) const IOPRIO_GET: i64 = 252;
    pub(crate) const OPENAT: i64 = 257;
    pub(crate) const MKDIRAT: i64 = 258;
    pub(crate) const MKNODAT: i64 = 259;
    pub(crate) const UNSHARE: i64 = 272;
    pub(crate) const ACCEPT4: i64 = 288;
    pub(crate) const SIGNALFD4: i64 = 289;
    pub(crate) const EPOLL_CREATE1: i64 = 291;
    pub(crate) const DUP3: i64 = 292;
    pub(crate) const PRLIMIT64: i64 = 302;
    pub(crate) const SETNS: i64 = 308;
    pub(crate) const SECCOMP: i64 = 317;
    pub(crate) const MEMFD_CREATE: i64 = 319;
    pub(crate) const BPF: i64 = 321;
    pub(crate) const EXECVEAT: i64 = 322;
    pub(crate) const STATX: i64 = 332;
    pub(crate) const PIDFD_SEND_SIGNAL: i64 = 424;
    pub(crate) const OPEN_TREE: i64 = 428;
    pub(crate) const MOVE_MOUNT: i64 = 429;
    pub(crate) const FSOPEN: i64 = 430;
    pub(crate) const FSCONFIG: i64 = 431;
    pub(crate) const FSMOUNT: i64 = 432;
    pub(crate) const CLONE3: i64 = 435;
    pub(crate) const CLOSE_RANGE: i64 = 436;
    pub(crate) const OPENAT2: i64 = 437;
    pub(crate) const MOUNT_SETATTR: i64 = 442;
    pub(crate) const QUOTACTL_FD: i64 = 443;
    pub(crate) const LANDLOCK_CREATE_RULESET: i64 = 444;
    pub(crate) const LANDLOCK_ADD_RULE: i64 = 445;
    pub(crate) const LANDLOCK_RESTRICT_SELF: i64 = 446;
}

/// Ends the process.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group(2) takes a number and touches no memory.
        let _never = unsafe { raw(nr::EXIT_GROUP, [code as u64, 0, 0, 0, 0, 0]) };
    }
}

/// Closes a descriptor, which close(2) frees whatever it returns.
#[inline(always)]
pub(crate) fn close(descriptor: i32) {
    let _freed = by_value(nr::CLOSE, [descriptor as u64, 0, 0, 0, 0, 0]);
}

/// Calls with plain numbers as arguments, none of them an address.
///
/// Only for calls whose arguments the kernel takes as values: the numbers
/// listed in the body.
#[inline(always)]
pub(crate) fn by_value(number: i64, arguments: [u64; 6]) -> Result<i64> {
    // SAFETY: this crate only, whose uses pass only values: each use is
    // of close, fchdir, umask, setsid, setresuid, setresgid, setfsuid, setfsgid, personality,
    // setpriority, unshare, setns, dup3, fcntl(F_DUPFD), close_range, kill,
    // pidfd_send_signal without siginfo, epoll_ctl(DEL) without event,
    // keyctl(JOIN, NULL), prctl with numbers, ioprio, landlock_restrict_self,
    // accept4 with two null addresses.
    check(unsafe { raw(number, arguments) })
}
