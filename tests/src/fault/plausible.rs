//! How each call may fail on a healthy kernel: too little of something, a
//! signal in between, a wall of somebody else's.

use nix::errno::Errno;

use super::Call;

const F_GETFD: u64 = 1;
const F_SETFD: u64 = 2;
const F_GETFL: u64 = 3;

/// How a call is made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injection {
    /// It is not made.
    Instead(Errno),
    /// It is made, and is told to have failed: close(2) frees the descriptor
    /// whatever it returns.
    Afterwards(Errno),
}

impl Injection {
    /// The error.
    #[must_use]
    pub fn errno(self) -> Errno {
        match self {
            Self::Instead(errno) | Self::Afterwards(errno) => errno,
        }
    }
}

/// The ways in which `call` may fail, the most telling first. None: it cannot
/// fail, or a failure has another form than an error number.
#[must_use]
pub fn plausible(call: &Call) -> Vec<Injection> {
    if call.name() == "close" {
        return vec![Injection::Afterwards(Errno::EIO)];
    }
    let errnos: &[Errno] = match (call.name(), call.arguments) {
        // Asking an open descriptor, and marking it.
        ("fcntl", [_, F_GETFD | F_SETFD | F_GETFL, ..]) => &[],
        (name, _) => errnos(name),
    };
    errnos.iter().copied().map(Injection::Instead).collect()
}

fn errnos(name: &str) -> &'static [Errno] {
    use Errno::*;
    match name {
        // They return what they return; brk(2) says no by the old address.
        "getpid" | "gettid" | "getppid" | "getuid" | "geteuid" | "getgid" | "getegid" | "umask"
        | "brk" | "exit" | "exit_group" | "rt_sigreturn" | "set_tid_address" | "sched_yield"
        | "alarm" => &[],
        "open" | "openat" | "openat2" | "open_tree" => &[EMFILE, EACCES],
        "read" | "pread64" | "readv" | "getdents64" => &[EIO, EINTR],
        "write" | "pwrite64" | "writev" => &[ENOSPC, EINTR],
        "stat" | "fstat" | "lstat" | "newfstatat" | "statx" | "fstatfs" | "statfs" | "readlink"
        | "readlinkat" | "access" | "faccessat" | "faccessat2" => &[EIO, EACCES],
        "socket" | "socketpair" | "pipe2" | "dup" | "dup2" | "dup3" | "epoll_create1"
        | "memfd_create" | "eventfd2" | "signalfd4" | "pidfd_open" => &[EMFILE, ENOMEM],
        "fcntl" => &[EMFILE, EPERM],
        "sendmsg" | "sendto" => &[ENOBUFS, EAGAIN, EINTR],
        "recvmsg" | "recvfrom" => &[ECONNRESET, EAGAIN, EINTR],
        "poll" | "ppoll" => &[ENOMEM, EINTR],
        "epoll_wait" | "epoll_pwait" => &[EBADF, EINTR],
        "epoll_ctl" => &[ENOMEM, ENOSPC],
        "wait4" | "waitid" => &[ECHILD, EINTR],
        "futex" | "getrandom" | "nanosleep" | "clock_nanosleep" => &[EINTR],
        "mmap" | "mremap" | "mprotect" | "munmap" | "madvise" => &[ENOMEM],
        "clone" | "clone3" | "fork" | "vfork" => &[EAGAIN, ENOMEM],
        "execve" | "execveat" => &[ENOMEM, EACCES],
        "ioctl" => &[EPERM, ENOTTY],
        "fsopen"
        | "fsconfig"
        | "landlock_create_ruleset"
        | "landlock_add_rule"
        | "landlock_restrict_self"
        | "seccomp" => &[ENOMEM, EPERM],
        "fsmount" | "move_mount" | "mkdir" | "mkdirat" | "mknodat" => &[ENOSPC, EPERM],
        "rmdir" | "unlink" | "unlinkat" | "umount2" | "pivot_root" => &[EBUSY, EPERM],
        "unshare" | "setns" => &[ENOMEM, EPERM],
        "keyctl" => &[EDQUOT, EACCES],
        "setresuid" | "setresgid" => &[EAGAIN, EPERM],
        "kill" | "tgkill" | "pidfd_send_signal" => &[EPERM],
        "rt_sigaction" | "rt_sigprocmask" | "sigaltstack" | "lseek" => &[EINVAL],
        _ => &[EPERM, ENOMEM],
    }
}
