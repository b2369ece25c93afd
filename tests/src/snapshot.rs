//! What a machine consists of, as far as a test might change it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use cloison_escape::stage::rtnetlink::Rtnetlink;
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SETTLE_TIMEOUT: Duration = Duration::from_secs(2);
const SETTLE_PAUSE: Duration = Duration::from_millis(5);
/// What names a thing on the machine as ours.
const OURS: &str = "cloison";

/// Settings of the kernel that a test might change; each is read, where it
/// exists.
const SYSCTLS: &[&str] = &[
    "fs/protected_hardlinks",
    "fs/protected_symlinks",
    "fs/suid_dumpable",
    "kernel/core_pattern",
    "kernel/dmesg_restrict",
    "kernel/hostname",
    "kernel/domainname",
    "kernel/kptr_restrict",
    "kernel/modprobe",
    "kernel/perf_event_paranoid",
    "kernel/randomize_va_space",
    "kernel/sysrq",
    "kernel/unprivileged_bpf_disabled",
    "kernel/yama/ptrace_scope",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_unprivileged_port_start",
    "user/max_mnt_namespaces",
    "user/max_net_namespaces",
    "user/max_pid_namespaces",
    "user/max_user_namespaces",
    "vm/overcommit_memory",
    "vm/swappiness",
];

/// The files in a cgroup that bound it.
const BOUNDS: &[&str] = &[
    "cpu.cfs_quota_us",
    "cpu.max",
    "devices.list",
    "memory.limit_in_bytes",
    "memory.max",
    "pids.max",
];

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    // In the reverse of the order in which they are undone.
    Mount {
        point: PathBuf,
        line: String,
    },
    Cgroup(PathBuf),
    Link(String),
    Process {
        pid: i32,
        start: String,
        name: String,
    },
    SystemV(String),
    Key(String),
    Setting(String),
    Unreadable(&'static str),
}

/// All mounts, cgroups, links, processes, System V objects, keys and some
/// settings that a process sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<Item>);

/// One thing that is there and was not, or the reverse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    item: Item,
    appeared: bool,
}

impl Snapshot {
    /// Looks at a stage: all that there is on it.
    #[must_use]
    pub fn of_stage() -> Self {
        let mut items = BTreeSet::new();
        gather_shared(&mut items);
        gather_cgroups(&mut items, |_| true);
        gather_processes(&mut items);
        gather_bounds(&mut items);
        Self(items)
    }

    /// Looks at the machine, which others use too: of what has a name, only
    /// what has ours. No process of ours is left where no cgroup of ours is:
    /// a group that holds one cannot be removed.
    #[must_use]
    pub fn of_machine() -> Self {
        let mut items = BTreeSet::new();
        gather_shared(&mut items);
        gather_cgroups(&mut items, |path| {
            // Another stage may come and go meanwhile.
            let own = format!("cloison-stage-{}-", std::process::id());
            let path = path.to_string_lossy();
            path.contains(&own) || (path.contains(OURS) && !path.contains("cloison-stage-"))
        });
        Self(items)
    }

    /// What differs from `before`, after things that end by themselves had
    /// the time to.
    #[must_use]
    pub fn settled(look: fn() -> Self, before: &Self) -> Vec<Difference> {
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        loop {
            let differences = look().differences(before);
            let hopeless = !differences.iter().any(Difference::may_pass);
            if hopeless || Instant::now() > deadline {
                return differences;
            }
            thread::sleep(SETTLE_PAUSE);
        }
    }

    /// Removes from the stage what was not there, as far as that is simple.
    pub fn restore(&self) {
        for difference in Self::of_stage().differences(self) {
            difference.undo();
        }
    }

    fn differences(&self, before: &Self) -> Vec<Difference> {
        // A process that ended took nothing with it that is not seen here.
        let gone = before.0.difference(&self.0).cloned();
        let gone = gone.filter(|item| !matches!(item, Item::Process { .. }));
        // Backwards: a folder comes after what lies in it, a group after the
        // processes in it.
        let mut come: Vec<Item> = self.0.difference(&before.0).cloned().collect();
        come.reverse();
        let gone = gone.map(|item| Difference {
            item,
            appeared: false,
        });
        let come = come.into_iter().map(|item| Difference {
            item,
            appeared: true,
        });
        gone.chain(come).collect()
    }
}

impl Difference {
    /// Whether the kernel, or a process that is about to end, may yet undo it.
    fn may_pass(&self) -> bool {
        let lasting = matches!(self.item, Item::Mount { .. } | Item::Setting(_));
        self.appeared && !lasting
    }

    /// Removes what appeared, as far as that is simple, so that the next case
    /// starts where this one did. It has been reported: an error changes
    /// nothing.
    pub(crate) fn undo(&self) {
        if !self.appeared {
            return;
        }
        let undone = match &self.item {
            Item::Mount { point, .. } => umount2(point, MntFlags::MNT_DETACH).is_ok(),
            Item::Cgroup(path) => remove_cgroup(path),
            Item::Process { pid, .. } => kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok(),
            _ => false,
        };
        if !undone {
            println!("not undone: {self}");
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.appeared { "new " } else { "gone " })?;
        match &self.item {
            Item::Mount { line, .. } => write!(f, "mount: {line}"),
            Item::Cgroup(path) => write!(f, "cgroup: {}", path.display()),
            Item::Link(link) => write!(f, "link: {link}"),
            Item::Process { pid, name, .. } => write!(f, "process: {pid} {name:?}"),
            Item::SystemV(line) => write!(f, "System V object: {line}"),
            Item::Key(line) => write!(f, "key: {line}"),
            Item::Setting(line) => write!(f, "setting: {line}"),
            Item::Unreadable(what) => write!(f, "state: {what} cannot be read"),
        }
    }
}

/// A group that held a process until just now takes a moment to be empty.
fn remove_cgroup(path: &Path) -> bool {
    let deadline = Instant::now() + SETTLE_TIMEOUT;
    while fs::remove_dir(path).is_err() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(SETTLE_PAUSE);
    }
    true
}

fn gather_shared(items: &mut BTreeSet<Item>) {
    gather_mounts(items);
    gather_links(items);
    for kind in ["msg", "sem", "shm"] {
        let lines = lines(&format!("/proc/sysvipc/{kind}"));
        items.extend(lines.skip(1).map(|line| {
            // Key and number; the rest are counters.
            let fields: Vec<&str> = line.split_whitespace().take(2).collect();
            Item::SystemV(format!("{kind} {}", fields.join(" ")))
        }));
    }
    for line in lines("/proc/keys") {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(number), Some(kind)) = (fields.first(), fields.get(7)) else {
            continue;
        };
        let description = fields.get(8).copied().unwrap_or_default();
        // Session keyrings of others come and go, and so does the key that
        // systemd gives each of its services.
        let passes = *kind == "keyring" || description.starts_with("invocation_id");
        if !passes || line.contains(OURS) {
            items.insert(Item::Key(format!("{number} {kind} {description}")));
        }
    }
    for name in SYSCTLS {
        if let Ok(value) = fs::read_to_string(Path::new("/proc/sys").join(name)) {
            items.insert(Item::Setting(format!("{name} = {}", value.trim())));
        }
    }
}

fn gather_mounts(items: &mut BTreeSet<Item>) {
    let before = items.len();
    for line in lines("/proc/self/mountinfo") {
        // Without the two numbers of the mount, which tell nothing.
        let mut fields = line.splitn(3, ' ').skip(2);
        let rest = fields.next().unwrap_or_default().to_owned();
        let point = rest.split(' ').nth(2).unwrap_or_default();
        items.insert(Item::Mount {
            point: PathBuf::from(point.replace("\\040", " ")),
            line: rest,
        });
    }
    if items.len() == before {
        items.insert(Item::Unreadable("the mounts"));
    }
}

fn gather_links(items: &mut BTreeSet<Item>) {
    match Rtnetlink::open().and_then(|rtnetlink| rtnetlink.links()) {
        Ok(links) => items.extend(links.into_iter().map(|link| {
            let kind = link.kind.unwrap_or_default();
            Item::Link(format!("{} {} {kind}", link.index, link.name))
        })),
        Err(_) => {
            items.insert(Item::Unreadable("the links"));
        }
    }
}

fn gather_cgroups(items: &mut BTreeSet<Item>, wanted: impl Fn(&Path) -> bool) {
    for root in cgroup_roots() {
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    folders.push(entry.path());
                }
            }
            if wanted(&folder) {
                items.insert(Item::Cgroup(folder));
            }
        }
    }
}

fn gather_bounds(items: &mut BTreeSet<Item>) {
    for root in cgroup_roots() {
        for file in BOUNDS {
            let file = root.join(file);
            if let Ok(value) = fs::read_to_string(&file) {
                items.insert(Item::Setting(format!(
                    "{} = {}",
                    file.display(),
                    value.trim()
                )));
            }
        }
    }
}

fn gather_processes(items: &mut BTreeSet<Item>) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue; // Ended meanwhile.
        };
        let Some((name, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let start = rest
            .split_whitespace()
            .nth(19)
            .unwrap_or_default()
            .to_owned();
        let name = name
            .split_once('(')
            .map_or(name, |(_, name)| name)
            .to_owned();
        items.insert(Item::Process { pid, start, name });
    }
}

fn cgroup_roots() -> Vec<PathBuf> {
    lines("/proc/self/mounts")
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            let point = PathBuf::from(fields.next()?);
            fields.next()?.starts_with("cgroup").then_some(point)
        })
        .collect()
}

fn lines(path: &str) -> impl Iterator<Item = String> + use<> {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into_iter()
}
