//! Pools of the kernel that no namespace divides: how full they are.
//!
//! A server is bounded in what it can take of each (`docs/limits.md` says by
//! what), but the sum of all servers is not: an operator has to hear of it
//! before a pool runs dry.

mod inotify;

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;
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
    all.extend(inotify::pools(&mut reader, &proc));
    all.extend(NEIGHBOURS.map(|table| neighbours(&mut reader, &proc, &table)));
    all.push(keys(&mut reader, &proc));
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

/// A table of link-layer addresses: its name, what is in it, how much may be.
/// Each network namespace takes of the same one.
///
/// # Source
/// arp(7); net/core/neighbour.c, `neigh_alloc` and `neigh_stat_seq_show`
const NEIGHBOURS: [(&str, &CStr, &CStr, &str); 2] = [
    (
        "neighbours of every network, IPv4",
        c"net/stat/arp_cache",
        c"sys/net/ipv4/neigh/default/gc_thresh3",
        "raise the sysctl net.ipv4.neigh.default.gc_thresh3",
    ),
    (
        "neighbours of every network, IPv6",
        c"net/stat/ndisc_cache",
        c"sys/net/ipv6/neigh/default/gc_thresh3",
        "raise the sysctl net.ipv6.neigh.default.gc_thresh3",
    ),
];

fn neighbours(
    reader: &mut Reader,
    proc: &OwnedFd,
    (name, table, size, remedy): &(&'static str, &CStr, &'static CStr, &'static str),
) -> Pool {
    let size = found(reader, proc, &source(size, b"", 0));
    let used = reader.read(proc, table).ok().and_then(|text| {
        // Below the heads, one line a processor; each says the same of this.
        let first = lines(text).nth(1)?;
        let entries = std::str::from_utf8(words(first).next()?).ok()?;
        u64::from_str_radix(entries, 16).ok()
    });
    Pool {
        name,
        used,
        size,
        remedy,
    }
}

/// Keys are counted for each user: those of the one who is nearest to his
/// quota.
///
/// # Source
/// proc_key-users(5)
fn keys(reader: &mut Reader, proc: &OwnedFd) -> Pool {
    let text = reader.read(proc, c"key-users").ok();
    let fullest = text.and_then(fullest_of_users);
    Pool {
        name: "keys of the user who is nearest to his quota",
        used: fullest.map(|(used, _)| used),
        size: fullest.map(|(_, size)| size),
        remedy: "raise the sysctl kernel.keys.maxkeys, for root kernel.keys.root_maxkeys",
    }
}

/// How many keys count for that user, of how many.
fn fullest_of_users(text: &[u8]) -> Option<(u64, u64)> {
    let counted = lines(text).filter_map(|line| {
        let (used, size) = words(line)
            .nth(3)?
            .split_at_checked(words(line).nth(3)?.iter().position(|byte| *byte == b'/')?)?;
        Some((decimal(used)?, decimal(size.strip_prefix(b"/")?)?))
    });
    let share =
        |(used, size): &(u64, u64)| u128::from(*used) * 1_000_000 / u128::from(*size).max(1);
    counted.max_by_key(share)
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
    fn keys_are_those_of_the_fullest_user() {
        let text =
            b"    0:    36 35/35 29/1000000 584/25000000\n 1000:     9 9/9 150/200 5/20000\n";
        assert_eq!(fullest_of_users(text), Some((150, 200)));
        assert_eq!(fullest_of_users(b"    0:  1 1/1 odd 1/2\n"), None);
        let all = pools().unwrap();
        let keys = all.iter().find(|pool| pool.name.starts_with("keys"));
        assert!(keys.unwrap().size.unwrap() > 0);
    }

    #[test]
    fn neighbours_are_told_in_their_own_base() {
        let all = pools().unwrap();
        let table = all.iter().find(|pool| pool.name.ends_with("IPv4")).unwrap();
        assert!(table.used < table.size && table.used.is_some(), "{table:?}");
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
