//! Pools of the kernel that no namespace divides: how full they are.
//!
//! A server is bounded in what it can take of each (`docs/limits.md` says by
//! what), but the sum of all servers is not: an operator has to hear of it
//! before a pool runs dry.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, fstat};
use serde::Serialize;

use crate::proc::Reader;
use crate::proc::fields::{decimal, lines, words};

/// From how much of a pool on an operator is warned, in percent.
const WARN_PERCENT: u64 = 80;

/// One pool that all servers of the host share with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// What it holds.
    pub name: &'static str,
    /// How much of it is taken. `None`: this kernel does not tell.
    pub used: Option<u64>,
    /// How much there is. `None`: this kernel does not tell, or has none.
    pub size: Option<u64>,
    /// How an operator makes it larger.
    pub remedy: &'static str,
}

impl Pool {
    /// Whether so much of it is taken that an operator should hear of it.
    #[must_use]
    pub fn is_running_dry(&self) -> bool {
        let shares = self.used.zip(self.size);
        shares.is_some_and(|(used, size)| {
            u128::from(used) * 100 >= u128::from(size) * u128::from(WARN_PERCENT) && size > 0
        })
    }
}

/// What one file of proc holds, and how it is found there.
struct Source {
    file: &'static CStr,
    /// What the line starts with; empty: the first line.
    line: &'static [u8],
    /// The word of the line, from 0.
    word: usize,
}

const fn source(file: &'static CStr, line: &'static [u8], word: usize) -> Source {
    Source { file, line, word }
}

/// Each pool: its name, what is taken, its size, the remedy.
///
/// # Source
/// proc(5); the kernel's Documentation/admin-guide/sysctl
const POOLS: [(&str, Source, Source, &str); 7] = [
    (
        "open files",
        source(c"sys/fs/file-nr", b"", 0),
        source(c"sys/fs/file-nr", b"", 2),
        "raise the sysctl fs.file-max",
    ),
    (
        "processes and threads",
        source(c"loadavg", b"", 3),
        source(c"sys/kernel/threads-max", b"", 0),
        "raise the sysctl kernel.threads-max",
    ),
    (
        "process ids",
        source(c"loadavg", b"", 3),
        source(c"sys/kernel/pid_max", b"", 0),
        "raise the sysctl kernel.pid_max",
    ),
    (
        "asynchronous I/O requests",
        source(c"sys/fs/aio-nr", b"", 0),
        source(c"sys/fs/aio-max-nr", b"", 0),
        "raise the sysctl fs.aio-max-nr",
    ),
    (
        "pseudo-terminals",
        source(c"sys/kernel/pty/nr", b"", 0),
        source(c"sys/kernel/pty/max", b"", 0),
        "raise the sysctl kernel.pty.max",
    ),
    (
        "TCP memory, in pages",
        source(c"net/sockstat", b"TCP: ", 10),
        source(c"sys/net/ipv4/tcp_mem", b"", 2),
        "raise the third number of the sysctl net.ipv4.tcp_mem",
    ),
    (
        "tracked connections of the host's own network",
        source(c"sys/net/netfilter/nf_conntrack_count", b"", 0),
        source(c"sys/net/netfilter/nf_conntrack_max", b"", 0),
        "raise the sysctl net.netfilter.nf_conntrack_max",
    ),
];

/// How full each pool is, as the caller's proc tells. What it does not tell is
/// left out of the value, not of the list.
///
/// # Errors
/// What the kernel said of the caller's own proc.
///
/// # Kernel
/// Any; what one lacks is `None`.
pub fn pools() -> Result<Vec<Pool>, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let proc = openat(AT_FDCWD, c"/proc", flags, Mode::empty())?;
    let mut reader = Reader::new();
    let mut all: Vec<Pool> = POOLS
        .iter()
        .map(|(name, used, size, remedy)| Pool {
            name,
            used: found(&mut reader, &proc, used),
            size: found(&mut reader, &proc, size),
            remedy,
        })
        .collect();
    all.push(inotify(&mut reader, &proc));
    all.push(jit(&mut reader, &proc));
    all.push(huge_pages(&mut reader, &proc));
    Ok(all)
}

fn found(reader: &mut Reader, proc: &OwnedFd, source: &Source) -> Option<u64> {
    let text = reader.read(proc, source.file).ok()?;
    let line = lines(text).find(|line| line.starts_with(source.line))?;
    let word = words(line).nth(source.word)?;
    // What runs, of how many: `1/234`.
    let last = word.rsplit(|byte| *byte == b'/').next()?;
    decimal(last)
}

/// Instances that count for the host's root: his own, and those of all servers,
/// whose user namespaces were made in his name. No file tells how many there
/// are; what is open in two processes counts twice.
///
/// # Source
/// kernel/ucount.c, `inc_ucount`
fn inotify(reader: &mut Reader, proc: &OwnedFd) -> Pool {
    let limit = source(c"sys/fs/inotify/max_user_instances", b"", 0);
    Pool {
        name: "inotify instances of root and all servers",
        used: instances(proc).ok(),
        size: found(reader, proc, &limit),
        remedy: "raise the sysctl fs.inotify.max_user_instances above limits.inotify_instances_max \
                 times the servers of this host",
    }
}

fn instances(proc: &OwnedFd) -> Result<u64, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let own = readlinkat(proc, c"self/ns/user")?;
    let mut all = Dir::openat(proc, c".", flags, Mode::empty())?;
    let mut count = 0;
    for entry in all.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if decimal(name.to_bytes()).is_none() {
            continue;
        }
        // What has ended meanwhile, or may not be looked at, has none.
        let Ok(process) = openat(proc, name, flags, Mode::empty()) else {
            continue;
        };
        let is_roots = fstat(&process).is_ok_and(|found| found.st_uid == 0);
        let is_servers = readlinkat(&process, c"ns/user").is_ok_and(|theirs| theirs != own);
        if !is_roots && !is_servers {
            continue;
        }
        let Ok(mut open) = Dir::openat(&process, c"fd", flags, Mode::empty()) else {
            continue;
        };
        let directory = open
            .as_fd()
            .try_clone_to_owned()
            .map_err(|_| Errno::EMFILE)?;
        for descriptor in open.iter().flatten() {
            let target = readlinkat(&directory, descriptor.file_name());
            count += u64::from(target.is_ok_and(|target| target == "anon_inode:inotify"));
        }
    }
    Ok(count)
}

/// Memory of compiled filters: of every seccomp program of the machine.
///
/// # Source
/// kernel/bpf/core.c, `bpf_jit_charge_modmem`
fn jit(reader: &mut Reader, proc: &OwnedFd) -> Pool {
    let size = found(reader, proc, &source(c"sys/net/core/bpf_jit_limit", b"", 0));
    let used = reader.read(proc, c"vmallocinfo").ok().map(|text| {
        let compiled = lines(text).filter(|line| {
            let mut all = words(line);
            all.any(|word| word.starts_with(b"bpf_jit_alloc") || word.starts_with(b"bpf_prog_pack"))
        });
        let bytes = compiled.filter_map(|line| words(line).nth(1).and_then(decimal));
        bytes.fold(0, u64::saturating_add)
    });
    Pool {
        name: "compiled filters, in bytes",
        used,
        size,
        remedy: "raise the sysctl net.core.bpf_jit_limit",
    }
}

/// Pages that were set aside, which any process may map.
fn huge_pages(reader: &mut Reader, proc: &OwnedFd) -> Pool {
    let mut number = |line| found(reader, proc, &source(c"meminfo", line, 1));
    let size = number(b"HugePages_Total:");
    let free = number(b"HugePages_Free:");
    Pool {
        name: "huge pages",
        used: size.zip(free).map(|(size, free)| size.saturating_sub(free)),
        size,
        remedy: "raise the sysctl vm.nr_hugepages, or set none aside",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pools_of_this_machine_are_told() {
        let all = pools().unwrap();
        let names: std::collections::BTreeSet<_> = all.iter().map(|pool| pool.name).collect();
        assert_eq!(names.len(), all.len());
        let files = all.first().unwrap();
        assert!(files.used.unwrap() > 0 && files.size.unwrap() > files.used.unwrap());
        let tasks = all.get(1).unwrap();
        assert!(
            tasks.used.unwrap() > 0 && tasks.size.unwrap() > 0,
            "{tasks:?}"
        );
    }

    #[test]
    fn what_is_open_is_counted() {
        let told = || {
            let all = pools().unwrap();
            let pool = all.iter().find(|pool| pool.name.starts_with("inotify"));
            pool.unwrap().used.unwrap()
        };
        let before = told();
        let flags = nix::sys::inotify::InitFlags::empty();
        let open: Vec<_> = (0..20)
            .map(|_| nix::sys::inotify::Inotify::init(flags).unwrap())
            .collect();
        // Others come and go meanwhile.
        assert!(told() >= before + 10, "{before}");
        drop(open);
    }

    #[test]
    fn a_pool_is_running_dry_from_four_fifths_on() {
        let pool = |used, size| Pool {
            name: "test",
            used,
            size,
            remedy: "",
        };
        assert!(pool(Some(80), Some(100)).is_running_dry());
        assert!(pool(Some(u64::MAX), Some(u64::MAX)).is_running_dry());
        assert!(!pool(Some(79), Some(100)).is_running_dry());
        assert!(!pool(Some(0), Some(0)).is_running_dry());
        assert!(!pool(None, Some(100)).is_running_dry());
        assert!(!pool(Some(100), None).is_running_dry());
    }
}
