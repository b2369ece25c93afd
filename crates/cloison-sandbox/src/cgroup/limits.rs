//! The limits of a cgroup: what is written to which file of which version,
//! and what the file then says.
//!
//! What is expected is worked out from the spec; what is found comes from the
//! files alone. Both are brought into one form here, which hides nothing but
//! the kernel's own words for "none".

mod found;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
mod written;

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, major, minor, stat};

use super::placement::{Placement, keeper, read};
use super::{CgroupError, Hierarchy, Version};
use crate::kernel::Feature;
use crate::posture::Value;
use crate::spec::CgroupLimits;

/// What a quota is counted in: a server that took its quota at once is away for
/// the rest of the period, and so are its neighbours for the quota's length.
/// The kernel's own default is five times as long.
const CPU_PERIOD_US: u64 = 20_000;
/// The same for a quota that would be less than the kernel's least of 1 ms.
///
/// # Source
/// kernel/sched/core.c, `min_cfs_quota_period`
const LONG_CPU_PERIOD_US: u64 = 100_000;
const LEAST_QUOTA_US: u64 = 1_000;
/// What everybody has who asks for nothing.
const WEIGHT: u64 = 100;
/// The same in version 1.
const SHARES: u64 = 1024;
/// The kernel counts memory in these.
const PAGE_BYTES: u64 = 4096;
/// No limit, in the words of version 2.
const MAX: &str = "max";
/// What no controller at work keeps.
const NOT_KEPT: &str = "not kept";

/// One bound that a cgroup keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Memory,
    Swap,
    Tasks,
    CpuWeight,
    CpuQuota,
    Processors,
    MemoryNodes,
    Io,
}

impl Bound {
    pub(crate) const ALL: [Self; 8] = [
        Self::Memory,
        Self::Swap,
        Self::Tasks,
        Self::CpuWeight,
        Self::CpuQuota,
        Self::Processors,
        Self::MemoryNodes,
        Self::Io,
    ];

    /// The controller of version 1 that keeps it.
    fn controller_v1(self) -> &'static str {
        match self {
            Self::Memory | Self::Swap => "memory",
            Self::Tasks => "pids",
            Self::CpuWeight | Self::CpuQuota => "cpu",
            Self::Processors | Self::MemoryNodes => "cpuset",
            Self::Io => "blkio",
        }
    }

    /// What the kernel must offer.
    fn feature(self, file: &CStr) -> Feature {
        match self {
            Self::Memory => Feature::MemoryController,
            Self::Swap => Feature::SwapLimit,
            Self::Tasks => Feature::PidsController,
            Self::CpuWeight | Self::CpuQuota => Feature::CpuController,
            Self::Processors | Self::MemoryNodes => Feature::CpusetController,
            Self::Io if file.to_bytes().ends_with(b"weight") => Feature::IoWeight,
            Self::Io => Feature::IoController,
        }
    }

    /// The setting of the spec that is written to `file`.
    fn setting_of(self, file: &CStr) -> &'static str {
        match self {
            Self::Io if file.to_bytes().ends_with(b"weight") => "cgroup.io_weight",
            bound => bound.setting(),
        }
    }

    /// What an operator does where the kernel refused a value.
    fn remedy(self, version: Version, refused: Errno) -> Option<&'static str> {
        match (self, version, refused) {
            (
                Self::Processors | Self::MemoryNodes,
                _,
                Errno::ERANGE | Errno::EINVAL | Errno::EACCES,
            ) => Some("name only what this host has and the cgroup above may use"),
            (Self::CpuQuota, Version::V1, Errno::EINVAL) => {
                Some("ask for no more than the cgroup above has (its cpu.cfs_quota_us)")
            }
            (Self::Io, Version::V1, Errno::ERANGE) => Some("a weight is 1 to 1,000 on version 1"),
            (Self::Io, _, Errno::ENODEV) => Some("name a whole disk, no part of one"),
            _ => None,
        }
    }

    /// The setting of the spec.
    fn setting(self) -> &'static str {
        match self {
            Self::Memory => "cgroup.memory_bytes_max",
            Self::Swap => "cgroup.swap_bytes_max",
            Self::Tasks => "cgroup.tasks_max",
            Self::CpuWeight => "cgroup.cpu_weight",
            Self::CpuQuota => "cgroup.cpu_percent_max",
            Self::Processors => "cgroup.processors",
            Self::MemoryNodes => "cgroup.memory_nodes",
            Self::Io => "cgroup.io",
        }
    }
}

/// The directories of one cgroup, open, one a hierarchy.
pub(crate) struct Directories<'a>(Vec<(&'a Hierarchy, BorrowedFd<'a>)>);

impl<'a> Directories<'a> {
    pub(crate) fn new(all: impl IntoIterator<Item = (&'a Hierarchy, BorrowedFd<'a>)>) -> Self {
        Self(all.into_iter().collect())
    }

    /// What the files say of `bound`.
    pub(crate) fn found(&self, bound: Bound) -> Result<Value, Errno> {
        let Some((version, directory)) = self.keeper(bound.controller_v1()) else {
            return Ok(Value::Text(NOT_KEPT.to_owned()));
        };
        let found = match version {
            Version::V1 => found::v1(directory, bound),
            Version::V2 => found::v2(directory, bound),
        };
        match found {
            // No such controller is at work here.
            Err(Errno::ENOENT) if bound == Bound::Io => Ok(Value::List(Vec::new())),
            Err(Errno::ENOENT) => Ok(Value::Text(NOT_KEPT.to_owned())),
            found => found,
        }
    }

    /// The directory of version 2.
    pub(super) fn v2(&self) -> Option<BorrowedFd<'a>> {
        let mut all = self.0.iter();
        let found = all.find(|(hierarchy, _)| **hierarchy == Hierarchy::V2);
        found.map(|(_, directory)| *directory)
    }

    /// Whether the file of it is there and can be read.
    pub(super) fn offers(&self, what: Optional) -> bool {
        let (controller, v1, v2) = what.files();
        self.keeper(controller).is_some_and(|(version, directory)| {
            let file = match version {
                Version::V1 => v1,
                Version::V2 => v2,
            };
            read(directory, file).is_ok()
        })
    }

    /// Where a controller is at work, by its name in version 1: in one hierarchy
    /// only.
    pub(super) fn keeper(&self, controller: &str) -> Option<(Version, BorrowedFd<'a>)> {
        let mut all = self.0.iter();
        let found = all.find(|(hierarchy, _)| hierarchy.has_controller(controller));
        let v1 = found.map(|(_, directory)| (Version::V1, *directory));
        v1.or(self.v2().map(|directory| (Version::V2, directory)))
    }
}

/// What a host may lack as long as nobody asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Optional {
    Processors,
    IoRates,
    IoWeight,
    Pressure,
}

impl Optional {
    /// The controller of version 1 and its file, the file of version 2.
    fn files(self) -> (&'static str, &'static CStr, &'static CStr) {
        match self {
            Self::Processors => ("cpuset", c"cpuset.cpus", c"cpuset.cpus"),
            Self::IoRates => ("blkio", c"blkio.throttle.read_bps_device", c"io.max"),
            Self::IoWeight => ("blkio", c"blkio.bfq.weight", c"io.weight"),
            // Version 1 has none for a cgroup.
            Self::Pressure => ("", c"", c"memory.pressure"),
        }
    }
}

/// The number of a block device.
type Device = (u64, u64);

/// What is wanted of a cgroup: limits with the devices looked up, and some of
/// them lifted for a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    memory_bytes: Option<u64>,
    swap_bytes: Option<u64>,
    tasks: Option<u64>,
    cpu_weight: u64,
    cpu_percent: Option<u64>,
    processors: Option<String>,
    memory_nodes: Option<String>,
    io_weight: Option<u64>,
    io: Vec<(Device, [Option<u64>; 4])>,
}

impl Wanted {
    /// The limits of a spec.
    pub(crate) fn of(limits: &CgroupLimits) -> Result<Self, CgroupError> {
        let mut io = Vec::with_capacity(limits.io.len());
        for limit in &limits.io {
            let refused = |source| CgroupError::Device {
                path: limit.device.clone(),
                source,
            };
            let found = stat(&limit.device).map_err(refused)?;
            if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != SFlag::S_IFBLK {
                return Err(refused(Errno::ENOTBLK));
            }
            let device = (major(found.st_rdev), minor(found.st_rdev));
            let rates = [
                limit.read_bytes_per_s_max,
                limit.write_bytes_per_s_max,
                limit.reads_per_s_max,
                limit.writes_per_s_max,
            ];
            // The same by another path.
            if io.iter().any(|(known, _)| *known == device) {
                return Err(refused(Errno::EEXIST));
            }
            io.push((device, rates));
        }
        io.sort_unstable();
        Ok(Self {
            memory_bytes: Some(limits.memory_bytes_max),
            swap_bytes: Some(limits.swap_bytes_max),
            tasks: Some(limits.tasks_max),
            cpu_weight: limits.cpu_weight,
            cpu_percent: Some(limits.cpu_percent_max),
            processors: limits.processors.as_ref().map(ToString::to_string),
            memory_nodes: limits.memory_nodes.as_ref().map(ToString::to_string),
            io_weight: limits.io_weight,
            io,
        })
    }

    /// The processors that are named.
    pub(crate) fn processors(&self) -> Option<&str> {
        self.processors.as_deref()
    }

    /// No limit at all.
    pub(crate) fn none() -> Self {
        Self {
            memory_bytes: None,
            swap_bytes: None,
            tasks: None,
            cpu_weight: WEIGHT + 1,
            cpu_percent: None,
            processors: None,
            memory_nodes: None,
            io_weight: None,
            io: Vec::new(),
        }
    }

    /// The same without one of them. A weight cannot be absent: another.
    pub(crate) fn without(mut self, bound: Bound) -> Self {
        let none = Self::none();
        match bound {
            Bound::Memory => self.memory_bytes = None,
            Bound::Swap => self.swap_bytes = None,
            Bound::Tasks => self.tasks = None,
            Bound::CpuWeight => self.cpu_weight = none.cpu_weight,
            Bound::CpuQuota => self.cpu_percent = None,
            Bound::Processors => self.processors = None,
            Bound::MemoryNodes => self.memory_nodes = None,
            Bound::Io => (self.io_weight, self.io) = (None, Vec::new()),
        }
        self
    }

    /// What it may use of a processor, and in which time; both in microseconds.
    fn cpu_quota(&self) -> (Option<u64>, u64) {
        let in_period = |percent: u64, period: u64| percent * period / 100;
        match self.cpu_percent {
            Some(percent) if in_period(percent, CPU_PERIOD_US) < LEAST_QUOTA_US => {
                let quota = in_period(percent, LONG_CPU_PERIOD_US);
                (Some(quota), LONG_CPU_PERIOD_US)
            }
            percent => {
                let quota = percent.map(|percent| in_period(percent, CPU_PERIOD_US));
                (quota, CPU_PERIOD_US)
            }
        }
    }

    /// What [`Directories::found`] should find.
    pub(super) fn expected(
        &self,
        bound: Bound,
        placements: &[Placement],
    ) -> Result<Value, CgroupError> {
        let version = keeper(placements, bound.controller_v1()).map(|(version, _)| version);
        let in_pages = |bytes: Option<u64>| number(bytes.map(|n| n / PAGE_BYTES * PAGE_BYTES));
        Ok(match (bound, version) {
            (Bound::Memory, _) => in_pages(self.memory_bytes),
            (Bound::Swap, Some(Version::V1)) => {
                let both = self.memory_bytes.zip(self.swap_bytes);
                let whole = |n: u64| n / PAGE_BYTES * PAGE_BYTES;
                number(both.map(|(memory, swap)| whole(memory + swap) - whole(memory)))
            }
            (Bound::Swap, _) => in_pages(self.swap_bytes),
            (Bound::Tasks, _) => number(self.tasks),
            (Bound::CpuWeight, Some(Version::V1)) => shown_shares(shares(self.cpu_weight)),
            (Bound::CpuWeight, _) => number(Some(self.cpu_weight)),
            (Bound::CpuQuota, _) => {
                let (quota, period) = self.cpu_quota();
                shown_quota(quota, period)
            }
            (Bound::Processors, version) => {
                listed(&self.processors, version, c"cpuset.cpus", placements)?
            }
            (Bound::MemoryNodes, version) => {
                listed(&self.memory_nodes, version, c"cpuset.mems", placements)?
            }
            (Bound::Io, _) => {
                let weight = self.io_weight.filter(|weight| *weight != WEIGHT);
                let weight = weight.map(shown_weight);
                let limited = self.io.iter().filter(|(_, rates)| *rates != [None; 4]);
                let lines = limited.map(|(device, rates)| io_line(*device, *rates));
                Value::List(weight.into_iter().chain(lines).collect())
            }
        })
    }
}

/// The throttles of version 1 and what version 2 calls them.
const THROTTLES: [(&CStr, &str); 4] = [
    (c"blkio.throttle.read_bps_device", "rbps"),
    (c"blkio.throttle.write_bps_device", "wbps"),
    (c"blkio.throttle.read_iops_device", "riops"),
    (c"blkio.throttle.write_iops_device", "wiops"),
];

/// As version 2 writes it.
fn io_line((major, minor): Device, rates: [Option<u64>; 4]) -> String {
    let mut line = format!("{major}:{minor}");
    for ((_, name), rate) in THROTTLES.iter().zip(rates) {
        let rate = rate.map_or_else(|| MAX.to_owned(), |rate| rate.to_string());
        line.push_str(&format!(" {name}={rate}"));
    }
    line
}

/// The shares of version 1 that a weight of version 2 is.
fn shares(weight: u64) -> u64 {
    (weight * SHARES + WEIGHT / 2) / WEIGHT
}

fn shown_shares(shares: u64) -> Value {
    Value::Text(format!("{shares} shares"))
}

fn shown_weight(weight: u64) -> String {
    format!("weight {weight}")
}

fn shown_quota(quota_us: Option<u64>, period_us: u64) -> Value {
    Value::Text(match quota_us {
        Some(quota) => format!("{quota} of {period_us} us"),
        None => MAX.to_owned(),
    })
}

fn number(limit: Option<u64>) -> Value {
    match limit.map(i64::try_from) {
        Some(Ok(limit)) => Value::Number(limit),
        Some(Err(_)) | None => Value::Text(MAX.to_owned()),
    }
}

/// A list of processors or nodes: its own, or that of the cgroup above.
fn listed(
    list: &Option<String>,
    version: Option<Version>,
    file: &CStr,
    placements: &[Placement],
) -> Result<Value, CgroupError> {
    if let Some(list) = list {
        return Ok(Value::Text(list.clone()));
    }
    let text = match version {
        None => NOT_KEPT.to_owned(),
        Some(Version::V1) => {
            let cpuset = placements
                .iter()
                .find(|placement| placement.hierarchy().has_controller("cpuset"));
            cpuset.map_or_else(|| Ok(String::new()), |placement| placement.above(file))?
        }
        Some(Version::V2) => {
            let v2 = placements
                .iter()
                .find(|placement| *placement.hierarchy() == Hierarchy::V2);
            match v2.map(|placement| placement.value(file)) {
                Some(Ok(_)) => String::new(),
                _ => NOT_KEPT.to_owned(),
            }
        }
    };
    Ok(Value::Text(shown_list(text)))
}

/// Version 2 says nothing where a cgroup has those of the one above.
fn shown_list(text: String) -> String {
    if text.is_empty() {
        "those above".to_owned()
    } else {
        text
    }
}
