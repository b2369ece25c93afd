//! Why a process refuses to play on a stage: the checks made by the stage
//! itself, of what the kernel shows and not of what it was told.

use std::collections::BTreeSet;
use std::fs;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::devices;
use super::hierarchies::{Hierarchy, Kind, LIMITING};
use super::namespaces::{Machine, Namespace, NamespaceId, NamespaceIds};
use super::rtnetlink::{Link, Rtnetlink};

/// Why a place is not a stage.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A namespace is the machine's own.
    #[error("the {0} namespace is the machine's own")]
    SharedNamespace(Namespace),
    /// A link is neither lo nor a veth to a namespace made on the stage.
    #[error("the link {name} is neither lo nor a veth to a namespace of the stage")]
    ForeignLink {
        /// The link.
        name: String,
    },
    /// There is a way out of the network namespace.
    #[error("the network namespace has a default route")]
    DefaultRoute,
    /// `/dev` has a node that no stage makes.
    #[error("{} is a device of the machine", path.display())]
    ForeignDevice {
        /// The node.
        path: PathBuf,
    },
    /// Memory is not bounded below what the machine has.
    #[error("there is no limit on memory")]
    NoMemoryLimit,
    /// The number of processes is not bounded.
    #[error("there is no limit on the number of processes")]
    NoProcessLimit,
    /// Processor time is not bounded.
    #[error("there is no limit on processor time")]
    NoCpuLimit,
    /// Nothing ends the stage after a time.
    #[error("there is no limit on wall-clock time")]
    NoWallClock,
    /// What must be checked cannot be read.
    #[error("{what} cannot be read")]
    Unreadable {
        /// What was to be checked.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
}

impl Refusal {
    /// The exit code of a program that refuses for this reason.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::SharedNamespace(Namespace::Mount) => 101,
            Self::SharedNamespace(Namespace::Pid) => 102,
            Self::SharedNamespace(Namespace::Network) => 103,
            Self::SharedNamespace(Namespace::Ipc) => 104,
            Self::SharedNamespace(Namespace::Uts) => 105,
            Self::SharedNamespace(Namespace::Cgroup) => 106,
            Self::ForeignLink { .. } => 107,
            Self::DefaultRoute => 108,
            Self::NoMemoryLimit => 109,
            Self::NoProcessLimit => 110,
            Self::NoCpuLimit => 111,
            Self::NoWallClock => 112,
            Self::Unreadable { .. } => 113,
            Self::ForeignDevice { .. } => 114,
        }
    }
}

/// Checks all that makes a stage; `machine` is what it must differ from.
pub(super) fn verify(machine: &Machine) -> Result<(), Refusal> {
    verify_namespaces(machine)?;
    devices::verify()?;
    verify_network(machine)?;
    verify_limits()?;
    verify_wall_clock()
}

/// Checks that all six namespaces are others than the machine's.
pub(super) fn verify_namespaces(machine: &Machine) -> Result<(), Refusal> {
    let own = NamespaceIds::read(Path::new("/proc/self")).map_err(unreadable("a namespace"))?;
    match machine.shares(&own).or_else(|| own.shared_with_boot()) {
        Some(namespace) => Err(Refusal::SharedNamespace(namespace)),
        None => Ok(()),
    }
}

fn verify_network(machine: &Machine) -> Result<(), Refusal> {
    let rtnetlink = Rtnetlink::open().map_err(unreadable("the network"))?;
    let links = rtnetlink.links().map_err(unreadable("the network"))?;
    let made_here = namespaces_made_here(&rtnetlink, machine).map_err(unreadable("the network"))?;
    for link in links {
        if !harmless(&link, &made_here) {
            return Err(Refusal::ForeignLink { name: link.name });
        }
    }
    match rtnetlink.has_default_route() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Refusal::DefaultRoute),
        Err(source) => Err(unreadable("the network")(source)),
    }
}

fn harmless(link: &Link, made_here: &BTreeSet<i32>) -> bool {
    let lo = link.index == 1 && link.name == "lo" && link.kind.is_none();
    let veth = link.kind.as_deref() == Some("veth")
        && link
            .peer_namespace
            .is_none_or(|peer| made_here.contains(&peer));
    lo || veth
}

/// The numbers, as rtnetlink gives them, of the network namespaces that the
/// processes on the stage are in. The pid namespace shows no process of the
/// machine, so each was made here; the machine's own is left out all the same.
fn namespaces_made_here(rtnetlink: &Rtnetlink, machine: &Machine) -> io::Result<BTreeSet<i32>> {
    let foreign = [&machine.first_process, &machine.outer].map(|ids| ids.id(Namespace::Network));
    let mut numbers = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("ns/net");
        // Not a process, or one that has ended.
        let Ok(namespace) = File::open(&path) else {
            continue;
        };
        if !foreign.contains(&NamespaceId::read(&path)?) {
            numbers.extend(rtnetlink.namespace_number(namespace.as_fd())?);
        }
    }
    Ok(numbers)
}

fn verify_limits() -> Result<(), Refusal> {
    let hierarchies = Hierarchy::read_all().map_err(unreadable("a cgroup"))?;
    for controller in LIMITING {
        let bounded = hierarchies
            .iter()
            .any(|hierarchy| limit_is_set(hierarchy, controller));
        if !bounded {
            return Err(match controller {
                "memory" => Refusal::NoMemoryLimit,
                "pids" => Refusal::NoProcessLimit,
                _ => Refusal::NoCpuLimit,
            });
        }
    }
    Ok(())
}

/// Whether the outer cgroup, which is the root of what the stage's cgroup
/// namespace shows, bounds `controller`. A file that cannot be read bounds
/// nothing.
fn limit_is_set(hierarchy: &Hierarchy, controller: &str) -> bool {
    let file = match (&hierarchy.kind, controller) {
        (Kind::V1 { .. }, "memory") => "memory.limit_in_bytes",
        (Kind::V2, "memory") => "memory.max",
        (Kind::V1 { .. }, "cpu") => "cpu.cfs_quota_us",
        (Kind::V2, "cpu") => "cpu.max",
        _ => "pids.max",
    };
    let Ok(value) = fs::read_to_string(hierarchy.mount_point.join(file)) else {
        return false;
    };
    let limit: Option<u64> = value
        .split_whitespace()
        .next()
        .and_then(|first| first.parse().ok());
    match (controller, limit) {
        ("memory", Some(bytes)) => memory_of_machine_bytes().is_some_and(|all| bytes < all),
        (_, limit) => limit.is_some(),
    }
}

pub(super) fn memory_of_machine_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kibibytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// Looks for the running timer that the stage's process 1 holds.
///
/// # Kernel
/// A timer descriptor shows its remaining time in fdinfo since 3.17.
fn verify_wall_clock() -> Result<(), Refusal> {
    let what = "the first process of the stage";
    for entry in fs::read_dir("/proc/1/fdinfo").map_err(unreadable(what))? {
        let path = entry.map_err(unreadable(what))?.path();
        let Ok(state) = fs::read_to_string(&path) else {
            continue; // Closed meanwhile.
        };
        let remaining = state
            .lines()
            .find_map(|line| line.strip_prefix("it_value: "));
        if remaining.is_some_and(|time| time.trim() != "(0, 0)") {
            return Ok(());
        }
    }
    Err(Refusal::NoWallClock)
}

fn unreadable(what: &'static str) -> impl FnOnce(io::Error) -> Refusal {
    move |source| Refusal::Unreadable { what, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: Option<&str>, peer_namespace: Option<i32>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: kind.map(str::to_owned),
            flags: 0,
            peer_namespace,
        }
    }

    #[test]
    fn only_lo_and_veths_to_own_namespaces_are_harmless() {
        let made_here = BTreeSet::from([3]);
        assert!(harmless(&link(1, "lo", None, None), &made_here));
        assert!(harmless(&link(2, "v", Some("veth"), None), &made_here));
        assert!(harmless(&link(2, "v", Some("veth"), Some(3)), &made_here));
        assert!(!harmless(&link(2, "v", Some("veth"), Some(4)), &made_here));
        assert!(!harmless(&link(2, "lo", None, None), &made_here));
        assert!(!harmless(&link(2, "eth0", None, None), &made_here));
        assert!(!harmless(&link(2, "br", Some("bridge"), None), &made_here));
    }
}
