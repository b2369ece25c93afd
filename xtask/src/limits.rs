//! `docs/limits.md`: every bound of one server, with what the code itself
//! gives where nothing is said.

use cloison_sandbox::{SandboxName, Spec};

use crate::error::Error;
use crate::table::table;

const HEAD: &str = "# All bounds of one server

Made by `cargo xtask docs`; a test compares it with the code.

*Setting* is the key of a server's file. *Where nothing is said* is what a server
gets then: no bound can be left out. *Counted for* says whose use is summed up. A
limit of the cgroup is written before anything is in the cgroup, and read back from
the kernel's own files before the command starts, as every other field of the
posture; a host whose cgroups cannot keep it starts nothing and names the remedy.
`cloison inspect NAME` shows each limit of the cgroup, what is used of it, and how
often it was reached, and the limits of each process; of a file system's size and of
inotify it shows nothing. The table is no promise of effect for the share of
block devices: the kernel keeps that number, and shares only devices that have the
`bfq` scheduler or an enabled `io.cost.qos`.

";

const FOOT: &str = "
## How the kernel rounds

Memory and swap are kept in whole pages of 4096 bytes, rounded down; the posture
expects the rounded number. Memory file systems are rounded up. On cgroup v1 swap
is what memory and swap together may be, less memory, and a weight of 100 is 1024
shares. A quota of 100 is one processor. It counts in fiftieths of a second, so that
one who took his at once is not away for long; below 5 % in tenths, since the kernel
keeps none of less than a thousandth.

## How long a neighbour waits

A quota and a weight say how much of a processor a server gets, not how soon. On a
processor that another keeps busy a request waits for the end of that one's turn,
up to a tick of the kernel (4 ms where `CONFIG_HZ` is 250), and longer for a call that
a kernel without preemption does not interrupt: a request of 1 ms beside a fork
bomb takes several times as long, and none fails. Where that is too long, give
servers processors of their own with `cgroup.processors`; `.ci/bench noisy F01 F04`
measures it.

## What no namespace divides

These are pools of the whole machine. One server is held below by what the table
says; the sum of all servers is not, so `cloison check` shows how full each pool is
and warns from 80 % on. Of two the kernel tells nothing: pipe buffers, which count
for a user id, and anonymous devices, one for each file system in memory; there are
1,048,576 of those, and a server of `app` has some ten and mounts none.

| pool | what holds one server |
| --- | --- |
| open files (`fs.file-max`) | open files of each process, times tasks; their memory counts in its cgroup |
| processes, threads and ids (`kernel.threads-max`, `kernel.pid_max`) | tasks |
| asynchronous I/O requests (`fs.aio-max-nr`) | seccomp: `io_setup` is refused, and io_uring |
| pseudo-terminals (`kernel.pty.max`) | terminals of its devpts |
| TCP memory (`net.ipv4.tcp_mem`) | memory of its cgroup, open files |
| inotify instances and watches of the host's root, in whose name every server's user namespace was made | its own user namespace, for each of its users; in `app` the command has one |
| compiled filters (`net.core.bpf_jit_limit`) | seccomp: no filter of its own, on itself or on a socket |
| keys (`kernel.keys.maxkeys`), pipe buffers (`fs.pipe-user-pages-soft`) | counted for a user id, which no other server has |
| neighbours (`net.ipv4.neigh.default.gc_thresh3`, `net.ipv6...`), tracked connections | no network but `lo`; they come with the network |
| huge pages (`vm.nr_hugepages`) | nothing yet: set none aside on a host of servers |

## Not bounded yet

Bytes and files on disk of a tree of its own: they come with the storage. Rates
of a block device have no default, since no device is known beforehand: a host
that shares a disk names it in `cgroup.io`. inotify is counted for a user: a server
that keeps CAP_SETUID has 65,536 of them.

Of the catalogue's class F, `tests/noisy` tries F01 to F04, F06 to F09, F11, F15 and,
in guests, F17, with N07 and N09 beside; F16, a server that will not stop, is tried by
the tests of `stop`. No server can begin with F10 (keys), F13 (mounts, namespaces,
cgroups of its own) and the asynchronous requests of F18: probes show that the calls
are refused. Not tried: bytes on disk (F05) and networks (F14), which come with
storage and network; a flood of lines (F12), which waits for whoever reads them; who
is charged for a page that two share (N14).
";

/// One bound.
struct Bound {
    what: &'static str,
    setting: &'static str,
    default: fn(&Spec) -> String,
    counted_for: &'static str,
    kept_by: &'static str,
    proved_by: &'static str,
}

const POSTURE: &str = "`test:broken_field_is_noticed`";

const fn bound(
    what: &'static str,
    setting: &'static str,
    default: fn(&Spec) -> String,
    counted_for: &'static str,
    kept_by: &'static str,
    proved_by: &'static str,
) -> Bound {
    Bound {
        what,
        setting,
        default,
        counted_for,
        kept_by,
        proved_by,
    }
}

const SANDBOX: &str = "the sandbox";
const PROCESS: &str = "each process";
const USER: &str = "each of its users";
const SYSTEM: &str = "each file system";

const BOUNDS: &[Bound] = &[
    bound(
        "memory",
        "cgroup.memory_bytes_max",
        |s| bytes(s.cgroup.memory_bytes_max),
        SANDBOX,
        "cgroup, memory",
        "`test:memory_hog_starves_no_neighbour`, `test:kernel_memory_hog_starves_no_neighbour`, `test:socket_hog_starves_no_neighbour`",
    ),
    bound(
        "swap",
        "cgroup.swap_bytes_max",
        |s| bytes(s.cgroup.swap_bytes_max),
        SANDBOX,
        "cgroup, memory",
        "`test:broken_field_is_noticed`, in guests `test:swap_hog_starves_no_neighbour`",
    ),
    bound(
        "processes and threads",
        "cgroup.tasks_max",
        |s| s.cgroup.tasks_max.to_string(),
        SANDBOX,
        "cgroup, pids",
        "`test:fork_bomb_starves_no_neighbour`, `test:thread_bomb_starves_no_neighbour`",
    ),
    bound(
        "share of the processors",
        "cgroup.cpu_weight",
        |s| s.cgroup.cpu_weight.to_string(),
        SANDBOX,
        "cgroup, cpu",
        POSTURE,
    ),
    bound(
        "time on processors",
        "cgroup.cpu_percent_max",
        |s| format!("{} % of one", s.cgroup.cpu_percent_max),
        SANDBOX,
        "cgroup, cpu",
        "`test:processor_hog_starves_no_neighbour`, `test:crash_loop_starves_no_neighbour`",
    ),
    bound(
        "processors",
        "cgroup.processors",
        |s| named(s.cgroup.processors.as_ref()),
        SANDBOX,
        "cgroup, cpuset",
        POSTURE,
    ),
    bound(
        "memory nodes",
        "cgroup.memory_nodes",
        |s| named(s.cgroup.memory_nodes.as_ref()),
        SANDBOX,
        "cgroup, cpuset",
        "unit tests",
    ),
    bound(
        "share of block devices",
        "cgroup.io_weight",
        |s| named(s.cgroup.io_weight.as_ref()),
        SANDBOX,
        "cgroup, io; a number only, see above",
        "unit tests",
    ),
    bound(
        "rates of block devices",
        "cgroup.io",
        |s| {
            if s.cgroup.io.is_empty() {
                "none".to_owned()
            } else {
                "some".to_owned()
            }
        },
        SANDBOX,
        "cgroup, io",
        "`test:disk_hog_starves_no_neighbour`",
    ),
    bound(
        "devices",
        "-",
        |_| "null, zero, full, random, urandom, tty, terminals".to_owned(),
        SANDBOX,
        "cgroup, devices (v1) or a program (v2)",
        "`test:broken_layer_is_noticed_device_control`",
    ),
    bound(
        "processes of a user",
        "limits.processes_max",
        |s| s.limits.processes_max.to_string(),
        USER,
        "RLIMIT_NPROC",
        POSTURE,
    ),
    bound(
        "open files",
        "limits.open_files_max",
        |s| s.limits.open_files_max.to_string(),
        PROCESS,
        "RLIMIT_NOFILE",
        "`test:descriptor_hog_starves_no_neighbour`",
    ),
    bound(
        "core files",
        "limits.core_bytes_max",
        |s| bytes(s.limits.core_bytes_max),
        PROCESS,
        "RLIMIT_CORE",
        POSTURE,
    ),
    bound(
        "locked memory",
        "limits.locked_bytes_max",
        |s| bytes(s.limits.locked_bytes_max),
        USER,
        "RLIMIT_MEMLOCK",
        POSTURE,
    ),
    bound(
        "pending signals, timers",
        "limits.pending_signals_max",
        |s| s.limits.pending_signals_max.to_string(),
        USER,
        "RLIMIT_SIGPENDING",
        "`test:timer_hog_starves_no_neighbour`",
    ),
    bound(
        "message queues",
        "limits.message_queue_bytes_max",
        |s| bytes(s.limits.message_queue_bytes_max),
        USER,
        "RLIMIT_MSGQUEUE; seccomp refuses them in `app`",
        POSTURE,
    ),
    bound(
        "pseudo-terminals",
        "limits.terminals_max",
        |s| s.limits.terminals_max.to_string(),
        SANDBOX,
        "devpts, max=",
        "`test:terminal_hog_starves_no_neighbour`",
    ),
    bound(
        "inotify instances",
        "limits.inotify_instances_max",
        |s| s.limits.inotify_instances_max.to_string(),
        USER,
        "user namespace, user.max_inotify_instances",
        "`test:inotify_hog_starves_no_neighbour`",
    ),
    bound(
        "inotify watches",
        "limits.inotify_watches_max",
        |s| s.limits.inotify_watches_max.to_string(),
        USER,
        "user namespace, user.max_inotify_watches",
        "a failed write fails the launch",
    ),
    bound(
        "`/tmp`",
        "tmpfs.tmp_bytes_max",
        |s| bytes(s.tmpfs.tmp_bytes_max),
        SYSTEM,
        "tmpfs, size=; its memory counts in the cgroup",
        "`test:full_tmpfs_starves_no_neighbour`, `test:tmpfs_is_never_unbounded`",
    ),
    bound(
        "`/run`",
        "tmpfs.run_bytes_max",
        |s| bytes(s.tmpfs.run_bytes_max),
        SYSTEM,
        "tmpfs, size=",
        "`test:tmpfs_is_never_unbounded`",
    ),
    bound(
        "`/dev/shm`",
        "tmpfs.shm_bytes_max",
        |s| bytes(s.tmpfs.shm_bytes_max),
        SYSTEM,
        "tmpfs, size=",
        "`test:tmpfs_is_never_unbounded`",
    ),
    bound(
        "files of these",
        "tmpfs.files_max",
        |s| s.tmpfs.files_max.to_string(),
        SYSTEM,
        "tmpfs, nr_inodes=",
        "`test:inode_hog_starves_no_neighbour`",
    ),
    bound(
        "keys",
        "-",
        |_| "none".to_owned(),
        SANDBOX,
        "seccomp; the kernel's quota of its user ids",
        "`test:no_probe_gets_through`",
    ),
    bound(
        "asynchronous I/O",
        "-",
        |_| "none".to_owned(),
        SANDBOX,
        "seccomp",
        "`test:no_probe_gets_through`",
    ),
    bound(
        "compiled filters",
        "-",
        |_| "none of its own".to_owned(),
        SANDBOX,
        "seccomp",
        "`test:no_probe_gets_through`, in guests `test:filter_hog_starves_no_neighbour`",
    ),
    bound(
        "pipe buffers",
        "-",
        |_| "the kernel's, for a user id".to_owned(),
        USER,
        "fs.pipe-user-pages-soft; their memory counts in the cgroup",
        "`test:kernel_memory_hog_starves_no_neighbour`",
    ),
    bound(
        "namespaces of its own",
        "-",
        |_| "none".to_owned(),
        SANDBOX,
        "user namespace, user.max_*_namespaces",
        "`test:raised_limits_on_namespaces_are_noticed`",
    ),
];

/// The whole document.
///
/// # Errors
/// [`Error::NoMeaning`] never: a name that is valid.
pub(crate) fn document() -> Result<String, Error> {
    let name = SandboxName::new("default").map_err(|_| Error::Usage)?;
    let spec = Spec::new(name, Vec::new());
    let rows = BOUNDS.iter().map(|bound| {
        let setting = match bound.setting {
            "-" => "-".to_owned(),
            setting => format!("`{setting}`"),
        };
        [
            bound.what.to_owned(),
            setting,
            (bound.default)(&spec),
            bound.counted_for.to_owned(),
            bound.kept_by.to_owned(),
            bound.proved_by.to_owned(),
        ]
    });
    let header = [
        "what",
        "setting",
        "where nothing is said",
        "counted for",
        "kept by",
        "proved by",
    ];
    Ok(format!("{HEAD}{}{FOOT}", table(header, rows)))
}

fn bytes(number: u64) -> String {
    match number {
        0 => "0".to_owned(),
        number if number.is_multiple_of(1 << 20) => format!("{} MiB", number >> 20),
        number if number.is_multiple_of(1 << 10) => format!("{} KiB", number >> 10),
        number => format!("{number} bytes"),
    }
}

fn named<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "those of the host".to_owned(), ToString::to_string)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys of the tables `cgroup`, `limits` and `tmpfs`, as serde has them.
    fn keys() -> BTreeSet<String> {
        let name = SandboxName::new("default").unwrap();
        let mut spec = Spec::new(name, Vec::new());
        // What is left out where it is not said.
        spec.cgroup.io_weight = Some(1);
        spec.cgroup.processors = cloison_sandbox::NumberList::new("0").ok();
        spec.cgroup.memory_nodes = cloison_sandbox::NumberList::new("0").ok();
        spec.cgroup.io = vec![cloison_sandbox::IoLimit {
            device: "/".into(),
            read_bytes_per_s_max: None,
            write_bytes_per_s_max: None,
            reads_per_s_max: None,
            writes_per_s_max: None,
        }];
        let all = serde_json::to_value(&spec).unwrap();
        let tables = ["cgroup", "limits", "tmpfs"].into_iter();
        tables
            .flat_map(|table| {
                let keys = all[table].as_object().unwrap().keys();
                keys.map(|key| format!("{table}.{key}")).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn every_setting_that_bounds_is_on_the_page() {
        let shown = BOUNDS.iter().map(|bound| bound.setting.to_owned());
        let shown: BTreeSet<String> = shown.filter(|setting| setting != "-").collect();
        assert_eq!(shown, keys());
    }
}
