//! What must be back where it was.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long what ends by itself may take.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
/// How much it may grow in the second half, by how many mishaps that has: less
/// than anything that one mishap could leak, but for what the kernel rounds.
const HALF_KIB_MAX: u64 = 1 << 10;
const MISHAP_BYTES_MAX: u64 = 512;
/// How much this process may grow: what the allocator keeps of four threads.
const OWN_KIB_MAX: u64 = 8 << 10;

/// One thing that was counted twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What.
    pub name: &'static str,
    /// At the beginning.
    pub before: u64,
    /// At the end.
    pub after: u64,
    /// How much more there may be at the end.
    pub grows_max: u64,
}

impl Measure {
    /// Whether it is back.
    #[must_use]
    pub fn is_back(&self) -> bool {
        self.after <= self.before + self.grows_max
            && (self.grows_max > 0 || self.after == self.before)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            before,
            after,
            grows_max,
        } = self;
        let verdict = if self.is_back() { "" } else { "  <- not back" };
        write!(f, "{name:28} {before:10} {after:10}  {grows_max}{verdict}")
    }
}

/// All that is counted, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measures {
    descriptors: u64,
    threads: u64,
    mounts: u64,
    cgroups: u64,
    namespaces: u64,
    processes: u64,
    own_kib: u64,
}

impl Measures {
    /// Counts now.
    #[must_use]
    pub fn take() -> Self {
        Self {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            mounts: lines("/proc/self/mountinfo"),
            cgroups: cgroups(),
            namespaces: namespaces(),
            processes: processes().len() as u64,
            own_kib: kib("/proc/self/status", "VmRSS:"),
        }
    }

    /// Counts until all is back, or it is clear that it does not come.
    #[must_use]
    pub fn settled(before: &Self) -> Self {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let now = Self::take();
            let is_back = before.beside(&now).iter().all(Measure::is_back);
            if is_back || Instant::now() > deadline {
                return now;
            }
            thread::sleep(PAUSE);
        }
    }

    /// The memory of the caller at half time beside that at the end, with as many
    /// mishaps in between.
    #[must_use]
    pub fn memory_beside(&self, after: &Self, mishaps: u64) -> Measure {
        Measure {
            name: "memory since half time, KiB",
            before: self.own_kib,
            after: after.own_kib,
            grows_max: HALF_KIB_MAX.max(mishaps * MISHAP_BYTES_MAX / 1024),
        }
    }

    /// Each of them beside what it became.
    #[must_use]
    pub fn beside(&self, after: &Self) -> Vec<Measure> {
        let same = |name, before, after| Measure {
            name,
            before,
            after,
            grows_max: 0,
        };
        vec![
            same("descriptors", self.descriptors, after.descriptors),
            same("threads", self.threads, after.threads),
            same("mounts", self.mounts, after.mounts),
            same("cgroups", self.cgroups, after.cgroups),
            same("namespaces", self.namespaces, after.namespaces),
            same("processes", self.processes, after.processes),
            Measure {
                grows_max: OWN_KIB_MAX,
                ..same("memory of the caller, KiB", self.own_kib, after.own_kib)
            },
        ]
    }
}

/// The memory that a process shares with nobody, and its descriptors.
pub(super) fn of_process(pid: u32) -> (u64, u64) {
    let rollup = format!("/proc/{pid}/smaps_rollup");
    let private = kib(&rollup, "Private_Dirty:") + kib(&rollup, "Private_Clean:");
    (private, entries(&format!("/proc/{pid}/fd")))
}

fn entries(folder: &str) -> u64 {
    fs::read_dir(folder).map_or(0, Iterator::count) as u64
}

fn lines(file: &str) -> u64 {
    fs::read_to_string(file).map_or(0, |text| text.lines().count()) as u64
}

fn kib(file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

fn processes() -> Vec<String> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .collect()
}

/// Namespaces that a process of the stage is in, or holds by a descriptor.
fn namespaces() -> u64 {
    let mut found = BTreeSet::new();
    for pid in processes() {
        for folder in ["ns", "fd"] {
            let folder = Path::new("/proc").join(&pid).join(folder);
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let target = fs::read_link(entry.path()).unwrap_or_default();
                let target = target.to_string_lossy();
                if target.ends_with(']') && is_namespace(&target) {
                    found.insert(target.into_owned());
                }
            }
        }
    }
    found.len() as u64
}

fn is_namespace(target: &str) -> bool {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let kind = target.split(':').next().unwrap_or_default();
    KINDS.contains(&kind)
}

fn cgroups() -> u64 {
    let mut folders = vec![Path::new("/sys/fs/cgroup").to_owned()];
    let mut count = 0;
    while let Some(folder) = folders.pop() {
        count += 1;
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    count
}
