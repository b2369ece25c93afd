//! Failures that a launch survives, each with its reason. One that is not
//! listed here and does not come to light fails the test.

use std::sync::OnceLock;

use cloison_sandbox::{Feature, Kernel};
use cloison_tests::fault::{Call, Role};
use nix::errno::Errno;

/// A failure that may go unnoticed.
struct Ignored {
    role: Role,
    call: &'static str,
    /// What the path it names, if any, must end with.
    path: &'static str,
    /// With which error; `None`: with any.
    errno: Option<Errno>,
    /// Which of its arguments has which value.
    argument: Option<(usize, u64)>,
    reason: &'static str,
}

const fn ignored(
    role: Role,
    call: &'static str,
    path: &'static str,
    reason: &'static str,
) -> Ignored {
    Ignored {
        role,
        call,
        path,
        errno: None,
        argument: None,
        reason,
    }
}

impl Ignored {
    const fn with(self, errno: Errno) -> Self {
        Self {
            errno: Some(errno),
            ..self
        }
    }

    const fn where_argument(self, at: usize, value: u64) -> Self {
        Self {
            argument: Some((at, value)),
            ..self
        }
    }
}

const EPOLL_CTL_DEL: u64 = 2;
const PR_SCHED_CORE: u64 = 62;
const PR_GET_SPECULATION: u64 = 52;
const RLIMIT_NOFILE: u64 = 7;

const COUNTED_ELSEWHERE: &str = "the C library counts the processors in another way";
const HELD: &str = "a hold on a mount namespace only saves time";
const STANDS_IN: &str = "where process 1 may not be looked at, the first namespaces stand in";
const READ_ELSEWHERE: &str = "it is read from /proc instead";
const REPLACED: &str = "a spawner that ends is replaced, and takes no status along";
const REMEMBERED: &str = "of a namespace's maker nobody asks; a sandbox's pidfd remembers";
const DISPENSABLE: &str = "a feature that a launch can do without counts as absent";
const WAIVED: &str = "the layer is waived here";

const IGNORED: &[Ignored] = &[
    ignored(Role::Caller, "openat", "/ns/mnt", HELD),
    ignored(Role::Caller, "openat", "1", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/mnt", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/pid", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/ipc", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/uts", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/cgroup", STANDS_IN).with(Errno::EACCES),
    ignored(Role::Caller, "readlinkat", "ns/time", STANDS_IN).with(Errno::EACCES),
    ignored(
        Role::Caller,
        "unlinkat",
        "cloison-fault",
        "a cgroup that is busy is removed a moment later",
    )
    .with(Errno::EBUSY),
    ignored(
        Role::Caller,
        "unlinkat",
        "socket",
        "a drop has nobody to tell: the next start replaces what nobody listens on",
    ),
    ignored(Role::Caller, "openat", "cpu/online", COUNTED_ELSEWHERE),
    ignored(Role::Caller, "read", "cpu/online", COUNTED_ELSEWHERE),
    ignored(
        Role::Caller,
        "lseek",
        "",
        "a list that was read is closed next",
    ),
    ignored(
        Role::Spawner,
        "setsid",
        "",
        "one that leads a session keeps it",
    ),
    ignored(Role::Spawner, "epoll_wait", "", REPLACED),
    ignored(Role::Spawner, "recvmsg", "", REPLACED),
    ignored(Role::Spawner, "waitid", "", REMEMBERED),
    ignored(Role::Spawner, "sendmsg", "", REMEMBERED),
    ignored(
        Role::Spawner,
        "epoll_ctl",
        "",
        "it told of its end, and does so only once",
    )
    .where_argument(1, EPOLL_CTL_DEL),
    ignored(Role::Caller, "fsopen", "tmpfs", DISPENSABLE).with(Errno::EPERM),
    ignored(Role::Caller, "fsconfig", "", DISPENSABLE).with(Errno::EPERM),
    ignored(Role::Caller, "landlock_create_ruleset", "", DISPENSABLE).with(Errno::EPERM),
    ignored(Role::Caller, "prctl", "", WAIVED).where_argument(0, PR_SCHED_CORE),
    ignored(Role::Caller, "prctl", "", WAIVED).where_argument(0, PR_GET_SPECULATION),
    ignored(Role::Maker, "read", "", "what it waits for is its own end"),
    ignored(Role::Child, "personality", "", READ_ELSEWHERE),
    ignored(Role::Child, "prctl", "", WAIVED).where_argument(0, PR_SCHED_CORE),
    ignored(
        Role::Caller,
        "openat",
        "smt/active",
        "what cannot be read counts as on",
    ),
    ignored(
        Role::Caller,
        "read",
        "smt/active",
        "what cannot be read counts as on",
    ),
    ignored(
        Role::Caller,
        "statx",
        "",
        "only for how much room to reserve",
    ),
    ignored(
        Role::Caller,
        "uname",
        "",
        "the release is for people, never for a decision",
    ),
    ignored(
        Role::Caller,
        "prlimit64",
        "",
        "the C library takes any number where it is not told the limit",
    )
    .where_argument(1, RLIMIT_NOFILE),
    ignored(
        Role::Caller,
        "rt_sigprocmask",
        "",
        "the C library's own: it is never refused",
    ),
    ignored(
        Role::Starting,
        "execve",
        "",
        "the next place on the way is looked at",
    )
    .with(Errno::EACCES),
    ignored(
        Role::Starter,
        "rt_sigaction",
        "",
        "the C library's own: it is never refused",
    ),
    ignored(
        Role::Starter,
        "rt_sigprocmask",
        "",
        "the C library's own: it is never refused",
    ),
    ignored(
        Role::Caller,
        "munmap",
        "",
        "it has memory less, and no more",
    ),
];

/// Whether the posture may be another where `call` fails: what cannot be asked
/// for counts as absent, and its layer is waived here.
pub(crate) fn changes_posture(call: &Call) -> bool {
    let [option, ..] = call.arguments;
    call.role == Role::Caller && call.name() == "prctl" && option == PR_GET_SPECULATION
}

/// Why `call` may keep a descriptor where it fails.
pub(crate) fn keeps(call: &Call) -> Option<&'static str> {
    // nix gives a descriptor to fdopendir(3), which asks whose it is, and takes
    // none back. The kernel does answer that for an open directory.
    let is_of_directory = call.name() == "newfstatat" && call.path.as_deref() == Some("");
    is_of_directory.then_some("nix loses it")
}

/// Why `call` may fail with `errno` and the launch go on. `is_repeated`: the
/// same call came again.
pub(crate) fn reason(call: &Call, errno: Errno, is_repeated: bool) -> Option<&'static str> {
    // The init asks again for whatever reason.
    let asks_again = call.role == Role::Init && matches!(call.name(), "wait4" | "accept4");
    if is_repeated && (errno == Errno::EINTR || asks_again) {
        return Some("it is made again");
    }
    if call.name() == "close" {
        return Some("the descriptor is free, whatever is said");
    }
    if call.role == Role::Child && reports_what_is_not_had(call) {
        return Some(WAIVED);
    }
    let path = call.path.as_deref().unwrap_or_default();
    IGNORED
        .iter()
        .find(|ignored| {
            ignored.role == call.role
                && ignored.call == call.name()
                && ignored.errno.is_none_or(|only| only == errno)
                && path.ends_with(ignored.path)
                && ignored
                    .argument
                    .is_none_or(|(at, value)| call.arguments.get(at) == Some(&value))
        })
        .map(|ignored| ignored.reason)
}

/// Whether `call` asks for a control of speculation that this host withholds, so
/// that nothing is expected of the answer.
fn reports_what_is_not_had(call: &Call) -> bool {
    static WITHHELD: OnceLock<[bool; 2]> = OnceLock::new();
    let withheld = WITHHELD.get_or_init(|| {
        let kernel = Kernel::probe().expect("probing the kernel");
        [Feature::StoreBypassControl, Feature::IndirectBranchControl]
            .map(|feature| !kernel.has(feature))
    });
    let [option, control, ..] = call.arguments;
    let control = usize::try_from(control).ok();
    call.name() == "prctl"
        && option == PR_GET_SPECULATION
        && control.and_then(|at| withheld.get(at)) == Some(&true)
}

const WITHOUT_FAILURE: &[(&str, &str)] = &[
    (
        "being refused further namespaces",
        "what the kernel answers is reported, and must be that a limit refused",
    ),
    ("setting the umask", "umask(2) cannot fail"),
    (
        "gathering the self-report",
        "what a call answers is what is reported",
    ),
];

/// Why a step that is described so cannot fail.
pub(crate) fn step_cannot_fail(step: &str) -> Option<&'static str> {
    let found = WITHOUT_FAILURE.iter().find(|(name, _)| *name == step);
    found.map(|(_, reason)| *reason)
}
