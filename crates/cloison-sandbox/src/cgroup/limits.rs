//! The limits of a cgroup: what is written to which file of which version,
//! and what the file then says.
//!
//! What is expected is worked out from the spec; what is found comes from the
//! files alone. Both are brought into one form here, which hides nothing but
//! the kernel's own words for "none".

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, major, minor, stat};

use super::placement::{Placement, keeper, read, write};
use super::v1::UNLIMITED;
use super::{CgroupError, Hierarchy, Version};
use crate::kernel::Feature;
use crate::posture::Value;
use crate::proc::escaped;
use crate::proc::fields::{decimal, lines, words};
use crate::spec::CgroupLimits;

/// What a quota is counted in.
const CPU_PERIOD_US: u64 = 100_000;
/// Per percent of a processor, in a period.
const QUOTA_US_PER_PERCENT: u64 = CPU_PERIOD_US / 100;
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
            Version::V1 => found_v1(directory, bound),
            Version::V2 => found_v2(directory, bound),
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

    /// Writes each to its file, as far as it is another than `before`.
    pub(super) fn write(
        &self,
        placements: &[Placement],
        before: Option<&Self>,
    ) -> Result<(), CgroupError> {
        Bound::ALL
            .into_iter()
            .try_for_each(|bound| self.write_one(placements, bound, before))
    }

    /// The same of one of them.
    pub(super) fn write_one(
        &self,
        placements: &[Placement],
        bound: Bound,
        before: Option<&Self>,
    ) -> Result<(), CgroupError> {
        let lacking = |feature| CgroupError::Lacking { feature };
        let Some((version, placement)) = keeper(placements, bound.controller_v1()) else {
            let asked = self.texts(bound, Version::V2, before);
            let first = asked.first();
            return first.map_or(Ok(()), |(file, _)| Err(lacking(bound.feature(file))));
        };
        let directory = placement.directory();
        for (file, text) in self.texts(bound, version, before) {
            let written = match text {
                Text::Own(text) => write(directory, file, text.as_bytes()),
                Text::Parents => inherit(placements, directory, version, file),
            };
            written.map_err(|source| match source {
                Errno::ENOENT => lacking(bound.feature(file)),
                source => CgroupError::Limit {
                    setting: bound.setting(),
                    file: file.to_string_lossy().into_owned(),
                    path: placement.path().to_owned(),
                    source,
                },
            })?;
        }
        Ok(())
    }

    /// What is written to which file, in order.
    fn texts(
        &self,
        bound: Bound,
        version: Version,
        before: Option<&Self>,
    ) -> Vec<(&'static CStr, Text)> {
        if before.is_some_and(|before| before.is_same(self, bound, version)) {
            return Vec::new();
        }
        let max = |limit: Option<u64>| limit.map_or_else(|| MAX.to_owned(), |n| n.to_string());
        let or_none = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |n| n.to_string());
        let quota = self.cpu_percent.map(|n| n * QUOTA_US_PER_PERCENT);
        let own = |file, text: String| (file, Text::Own(text));
        let list = |file, list: &Option<String>, before: Option<&Option<String>>| match list {
            Some(list) => vec![(file, Text::Own(list.clone()))],
            // A new cgroup has it already.
            None if before.is_none_or(Option::is_none) => Vec::new(),
            None => vec![(file, Text::Parents)],
        };
        match (bound, version) {
            // Memory and swap together may never be less than memory.
            (Bound::Memory, Version::V1) => vec![
                own(c"memory.memsw.limit_in_bytes", "-1".to_owned()),
                own(c"memory.limit_in_bytes", or_none(self.memory_bytes)),
            ],
            (Bound::Memory, Version::V2) => vec![own(c"memory.max", max(self.memory_bytes))],
            (Bound::Swap, Version::V1) => {
                let both = self.memory_bytes.zip(self.swap_bytes);
                let both = or_none(both.map(|(memory, swap)| memory + swap));
                vec![own(c"memory.memsw.limit_in_bytes", both)]
            }
            (Bound::Swap, Version::V2) => vec![own(c"memory.swap.max", max(self.swap_bytes))],
            (Bound::Tasks, _) => vec![own(c"pids.max", max(self.tasks))],
            (Bound::CpuWeight, Version::V1) => {
                vec![own(c"cpu.shares", shares(self.cpu_weight).to_string())]
            }
            (Bound::CpuWeight, Version::V2) => {
                vec![own(c"cpu.weight", self.cpu_weight.to_string())]
            }
            (Bound::CpuQuota, Version::V1) => vec![
                own(c"cpu.cfs_period_us", CPU_PERIOD_US.to_string()),
                own(c"cpu.cfs_quota_us", or_none(quota)),
            ],
            (Bound::CpuQuota, Version::V2) => {
                vec![own(c"cpu.max", format!("{} {CPU_PERIOD_US}", max(quota)))]
            }
            (Bound::Processors, _) => {
                let before = before.map(|before| &before.processors);
                list(c"cpuset.cpus", &self.processors, before)
            }
            (Bound::MemoryNodes, _) => {
                let before = before.map(|before| &before.memory_nodes);
                list(c"cpuset.mems", &self.memory_nodes, before)
            }
            (Bound::Io, version) => self.io_texts(version, before),
        }
    }

    /// Whether nothing needs to be written of `bound`.
    fn is_same(&self, other: &Self, bound: Bound, version: Version) -> bool {
        match (bound, version) {
            // One stands for both.
            (Bound::Memory | Bound::Swap, Version::V1) => {
                (self.memory_bytes, self.swap_bytes) == (other.memory_bytes, other.swap_bytes)
            }
            (Bound::Memory, Version::V2) => self.memory_bytes == other.memory_bytes,
            (Bound::Swap, Version::V2) => self.swap_bytes == other.swap_bytes,
            (Bound::Tasks, _) => self.tasks == other.tasks,
            (Bound::CpuWeight, _) => self.cpu_weight == other.cpu_weight,
            (Bound::CpuQuota, _) => self.cpu_percent == other.cpu_percent,
            (Bound::Processors, _) => self.processors == other.processors,
            (Bound::MemoryNodes, _) => self.memory_nodes == other.memory_nodes,
            (Bound::Io, _) => (self.io_weight, &self.io) == (other.io_weight, &other.io),
        }
    }

    fn io_texts(&self, version: Version, before: Option<&Self>) -> Vec<(&'static CStr, Text)> {
        let mut texts = Vec::new();
        let had_weight = before.is_some_and(|before| before.io_weight.is_some());
        let weight = self.io_weight.or(had_weight.then_some(WEIGHT));
        texts.extend(weight.map(|weight| match version {
            Version::V1 => (c"blkio.bfq.weight", Text::Own(weight.to_string())),
            Version::V2 => (c"io.weight", Text::Own(format!("default {weight}"))),
        }));
        let lifted = before.into_iter().flat_map(|before| &before.io);
        let lifted = lifted.filter(|(device, _)| self.io.iter().all(|(own, _)| own != device));
        let lifted = lifted.map(|(device, _)| (*device, [None; 4]));
        for (device, rates) in self.io.iter().copied().chain(lifted) {
            match version {
                Version::V1 => {
                    texts.extend(THROTTLES.iter().zip(rates).map(|((file, _), rate)| {
                        let (major, minor) = device;
                        let rate = rate.unwrap_or(0);
                        (*file, Text::Own(format!("{major}:{minor} {rate}")))
                    }))
                }
                Version::V2 => texts.push((c"io.max", Text::Own(io_line(device, rates)))),
            }
        }
        texts
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
                let quota = self.cpu_percent.map(|n| n * QUOTA_US_PER_PERCENT);
                shown_quota(quota, CPU_PERIOD_US)
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

/// What is written to a file.
enum Text {
    Own(String),
    /// What the cgroup above has.
    Parents,
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

fn inherit(
    placements: &[Placement],
    directory: BorrowedFd<'_>,
    version: Version,
    file: &CStr,
) -> Result<(), Errno> {
    match version {
        Version::V2 => write(directory, file, b"\n"),
        Version::V1 => {
            let cpuset = placements
                .iter()
                .find(|placement| placement.hierarchy().has_controller("cpuset"));
            let placement = cpuset.ok_or(Errno::ENOENT)?;
            write(directory, file, &read(placement.parent(), file)?)
        }
    }
}

fn found_v1(directory: BorrowedFd<'_>, bound: Bound) -> Result<Value, Errno> {
    let one = |file: &CStr| single(directory, file);
    let limit = |file: &CStr| Ok(Some(one(file)?).filter(|limit| *limit < UNLIMITED));
    Ok(match bound {
        Bound::Memory => number(limit(c"memory.limit_in_bytes")?),
        Bound::Swap => {
            let memory = one(c"memory.limit_in_bytes")?;
            let both = limit(c"memory.memsw.limit_in_bytes")?;
            number(both.map(|both| both.saturating_sub(memory)))
        }
        Bound::Tasks => number_or_max(&read(directory, c"pids.max")?)?,
        Bound::CpuWeight => shown_shares(one(c"cpu.shares")?),
        Bound::CpuQuota => {
            let quota = read(directory, c"cpu.cfs_quota_us")?;
            let quota = match quota.trim_ascii_end() {
                b"-1" => None,
                quota => Some(decimal(quota).ok_or(Errno::EBADMSG)?),
            };
            shown_quota(quota, one(c"cpu.cfs_period_us")?)
        }
        Bound::Processors => text(directory, c"cpuset.cpus")?,
        Bound::MemoryNodes => text(directory, c"cpuset.mems")?,
        Bound::Io => {
            let mut found: Vec<(Device, [Option<u64>; 4])> = Vec::new();
            for (at, (file, _)) in THROTTLES.iter().enumerate() {
                for line in lines(&read(directory, file)?) {
                    let (device, rate) = device_and_rest(line).ok_or(Errno::EBADMSG)?;
                    let rate = decimal(rate).ok_or(Errno::EBADMSG)?;
                    let position = found.iter().position(|(other, _)| *other == device);
                    let position = position.unwrap_or_else(|| {
                        found.push((device, [None; 4]));
                        found.len() - 1
                    });
                    if let Some(slot) = found
                        .get_mut(position)
                        .and_then(|(_, rates)| rates.get_mut(at))
                    {
                        *slot = Some(rate);
                    }
                }
            }
            found.sort_unstable();
            let weight = match read(directory, c"blkio.bfq.weight") {
                Ok(text) => weight(&text)?,
                Err(Errno::ENOENT) => None,
                Err(errno) => return Err(errno),
            };
            let lines = found.iter().map(|(device, rates)| io_line(*device, *rates));
            Value::List(weight.into_iter().chain(lines).collect())
        }
    })
}

fn found_v2(directory: BorrowedFd<'_>, bound: Bound) -> Result<Value, Errno> {
    let limit = |file: &CStr| number_or_max(&read(directory, file)?);
    Ok(match bound {
        Bound::Memory => limit(c"memory.max")?,
        Bound::Swap => limit(c"memory.swap.max")?,
        Bound::Tasks => limit(c"pids.max")?,
        Bound::CpuWeight => limit(c"cpu.weight")?,
        Bound::CpuQuota => {
            let text = read(directory, c"cpu.max")?;
            let mut fields = words(text.trim_ascii_end());
            let (quota, period) = fields.next().zip(fields.next()).ok_or(Errno::EBADMSG)?;
            let quota = match quota {
                b"max" => None,
                quota => Some(decimal(quota).ok_or(Errno::EBADMSG)?),
            };
            shown_quota(quota, decimal(period).ok_or(Errno::EBADMSG)?)
        }
        Bound::Processors => text(directory, c"cpuset.cpus")?,
        Bound::MemoryNodes => text(directory, c"cpuset.mems")?,
        Bound::Io => {
            let text = read(directory, c"io.max")?;
            let mut found = Vec::new();
            for line in lines(&text) {
                let (device, _) = device_and_rest(line).ok_or(Errno::EBADMSG)?;
                found.push((device, escaped(line.trim_ascii_end())));
            }
            found.sort_unstable();
            let weight = match read(directory, c"io.weight") {
                Ok(text) => weight(&text)?,
                Err(Errno::ENOENT) => None,
                Err(errno) => return Err(errno),
            };
            let lines = found.into_iter().map(|(_, line)| line);
            Value::List(weight.into_iter().chain(lines).collect())
        }
    })
}

/// `MAJOR:MINOR REST`.
fn device_and_rest(line: &[u8]) -> Option<(Device, &[u8])> {
    let blank = line.iter().position(|byte| *byte == b' ')?;
    let (device, rest) = line.split_at(blank);
    let colon = device.iter().position(|byte| *byte == b':')?;
    let (major, minor) = device.split_at(colon);
    let number = (decimal(major)?, decimal(minor.get(1..)?)?);
    Some((number, rest.trim_ascii()))
}

/// The weight of `[default ]N`, where it is not everybody's.
fn weight(text: &[u8]) -> Result<Option<String>, Errno> {
    let first = lines(text).next().ok_or(Errno::EBADMSG)?;
    let weight = words(first).last().and_then(decimal);
    let weight = weight.ok_or(Errno::EBADMSG)?;
    Ok((weight != WEIGHT).then(|| shown_weight(weight)))
}

fn single(directory: BorrowedFd<'_>, file: &CStr) -> Result<u64, Errno> {
    decimal(read(directory, file)?.trim_ascii_end()).ok_or(Errno::EBADMSG)
}

fn number_or_max(text: &[u8]) -> Result<Value, Errno> {
    match text.trim_ascii_end() {
        b"max" => Ok(number(None)),
        limit => decimal(limit)
            .map(|limit| number(Some(limit)))
            .ok_or(Errno::EBADMSG),
    }
}

fn text(directory: BorrowedFd<'_>, file: &CStr) -> Result<Value, Errno> {
    let list = escaped(read(directory, file)?.trim_ascii_end());
    Ok(Value::Text(shown_list(list)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::spec::NumberList;
    use nix::fcntl::{AT_FDCWD, OFlag, openat};
    use nix::sys::stat::Mode;
    use std::fs;
    use std::os::fd::{AsFd, OwnedFd};
    use std::path::PathBuf;

    /// A directory with files of these contents, removed at the end.
    struct Files(PathBuf);

    impl Files {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let own = std::process::id();
            let path = std::env::temp_dir().join(format!("cloison-limits-{name}-{own}"));
            fs::create_dir_all(&path).unwrap();
            for (file, text) in files {
                fs::write(path.join(file), text).unwrap();
            }
            Self(path)
        }

        fn open(&self) -> OwnedFd {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            openat(AT_FDCWD, &self.0, flags, Mode::empty()).unwrap()
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn found(hierarchy: &Hierarchy, files: &Files) -> Vec<(Bound, Result<String, Errno>)> {
        let directory = files.open();
        let directories = Directories::new([(hierarchy, directory.as_fd())]);
        let all = Bound::ALL.into_iter();
        all.map(|bound| {
            (
                bound,
                directories.found(bound).map(|value| value.to_string()),
            )
        })
        .collect()
    }

    fn texts(wanted: &Wanted, version: Version, before: Option<&Wanted>) -> Vec<String> {
        Bound::ALL
            .into_iter()
            .flat_map(|bound| wanted.texts(bound, version, before))
            .map(|(file, text)| match text {
                Text::Own(text) => format!("{}={text}", file.to_string_lossy()),
                Text::Parents => format!("{} of the parent", file.to_string_lossy()),
            })
            .collect()
    }

    #[test]
    fn files_of_version_2_say_what_is_kept() {
        let files = Files::new(
            "v2",
            &[
                ("memory.max", "536870912\n"),
                ("memory.swap.max", "0\n"),
                ("pids.max", "max\n"),
                ("cpu.weight", "100\n"),
                ("cpu.max", "50000 100000\n"),
                ("cpuset.cpus", "\n"),
                (
                    "io.max",
                    "8:16 rbps=1 wbps=max riops=max wiops=9\n8:0 rbps=2 wbps=max riops=max wiops=max\n",
                ),
                ("io.weight", "default 50\n8:0 70\n"),
            ],
        );
        let all = found(&Hierarchy::V2, &files);
        let shown: Vec<&str> = all
            .iter()
            .map(|(_, said)| said.as_deref().unwrap())
            .collect();
        assert_eq!(
            shown,
            [
                "536870912",
                "0",
                "max",
                "100",
                "50000 of 100000 us",
                "those above",
                "not kept",
                "weight 50, 8:0 rbps=2 wbps=max riops=max wiops=max, 8:16 rbps=1 wbps=max riops=max wiops=9",
            ]
        );
    }

    #[test]
    fn files_of_version_1_say_what_is_kept() {
        let files = Files::new(
            "v1",
            &[
                ("memory.limit_in_bytes", "16777216\n"),
                ("memory.memsw.limit_in_bytes", "20971520\n"),
                ("pids.max", "512\n"),
                ("cpu.shares", "1024\n"),
                ("cpu.cfs_quota_us", "-1\n"),
                ("cpu.cfs_period_us", "100000\n"),
                ("cpuset.cpus", "0-1\n"),
                ("cpuset.mems", "0\n"),
                ("blkio.throttle.read_bps_device", "8:0 4096\n"),
                ("blkio.throttle.write_bps_device", ""),
                ("blkio.throttle.read_iops_device", ""),
                ("blkio.throttle.write_iops_device", "8:0 7\n"),
            ],
        );
        let all = Hierarchy::V1("memory,pids,cpu,cpuset,blkio".to_owned());
        let said = found(&all, &files);
        let shown: Vec<&str> = said
            .iter()
            .map(|(_, said)| said.as_deref().unwrap())
            .collect();
        assert_eq!(
            shown,
            [
                "16777216",
                "4194304",
                "512",
                "1024 shares",
                "max",
                "0-1",
                "0",
                "8:0 rbps=4096 wbps=max riops=max wiops=7",
            ]
        );
    }

    #[test]
    fn what_is_not_in_the_documented_form_is_no_limit() {
        let files = Files::new(
            "odd",
            &[
                ("memory.max", "12k\n"),
                ("cpu.max", "max\n"),
                ("io.max", "x\n"),
            ],
        );
        for (bound, said) in found(&Hierarchy::V2, &files) {
            if let Bound::Memory | Bound::CpuQuota | Bound::Io = bound {
                assert_eq!(said, Err(Errno::EBADMSG), "{bound:?}");
            }
        }
    }

    #[test]
    fn each_default_is_written_in_both_versions() {
        let wanted = Wanted::of(&CgroupLimits::default()).unwrap();
        assert_eq!(
            texts(&wanted, Version::V2, None),
            [
                "memory.max=536870912",
                "memory.swap.max=0",
                "pids.max=512",
                "cpu.weight=100",
                "cpu.max=100000 100000",
            ]
        );
        assert_eq!(
            texts(&wanted, Version::V1, None),
            [
                "memory.memsw.limit_in_bytes=-1",
                "memory.limit_in_bytes=536870912",
                "memory.memsw.limit_in_bytes=536870912",
                "pids.max=512",
                "cpu.shares=1024",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=100000",
            ]
        );
        for version in [Version::V1, Version::V2] {
            assert_eq!(texts(&wanted, version, Some(&wanted)), [""; 0]);
        }
    }

    #[test]
    fn what_was_limited_before_is_lifted() {
        let mut limited = Wanted::of(&CgroupLimits {
            processors: NumberList::new("1").ok(),
            io_weight: Some(7),
            ..CgroupLimits::default()
        })
        .unwrap();
        limited.io = vec![((8, 0), [Some(1), None, None, Some(2)])];
        let plain = Wanted::of(&CgroupLimits::default()).unwrap();
        assert_eq!(
            texts(&limited, Version::V2, Some(&plain)),
            [
                "cpuset.cpus=1",
                "io.weight=default 7",
                "io.max=8:0 rbps=1 wbps=max riops=max wiops=2",
            ]
        );
        assert_eq!(
            texts(&plain, Version::V2, Some(&limited)),
            [
                "cpuset.cpus of the parent",
                "io.weight=default 100",
                "io.max=8:0 rbps=max wbps=max riops=max wiops=max",
            ]
        );
        assert_eq!(
            texts(&plain, Version::V1, Some(&limited)),
            [
                "cpuset.cpus of the parent",
                "blkio.bfq.weight=100",
                "blkio.throttle.read_bps_device=8:0 0",
                "blkio.throttle.write_bps_device=8:0 0",
                "blkio.throttle.read_iops_device=8:0 0",
                "blkio.throttle.write_iops_device=8:0 0",
            ]
        );
    }

    #[test]
    fn each_weight_is_shares_of_its_own() {
        let all: std::collections::BTreeSet<u64> = (1..=10_000).map(shares).collect();
        assert_eq!(all.len(), 10_000);
        assert_eq!(
            (shares(1), shares(100), shares(10_000)),
            (10, 1024, 102_400)
        );
    }

    #[test]
    fn a_limit_without_its_controller_is_lacking() {
        let wanted = Wanted::of(&CgroupLimits::default()).unwrap();
        let lacking = wanted.write(&[], None);
        let feature = Feature::MemoryController;
        assert_eq!(lacking, Err(CgroupError::Lacking { feature }));
    }

    #[test]
    fn only_a_block_device_has_rates() {
        let limits = |device: &str| CgroupLimits {
            io: vec![crate::spec::IoLimit {
                device: device.into(),
                read_bytes_per_s_max: Some(1),
                write_bytes_per_s_max: None,
                reads_per_s_max: None,
                writes_per_s_max: None,
            }],
            ..CgroupLimits::default()
        };
        for (device, errno) in [("/dev/null", Errno::ENOTBLK), ("/nosuch", Errno::ENOENT)] {
            let refused = Wanted::of(&limits(device));
            let source = errno;
            let path = device.into();
            assert_eq!(refused, Err(CgroupError::Device { path, source }));
        }
    }
}
