//! What is written to which file.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use nix::errno::Errno;

use super::{Bound, MAX, THROTTLES, WEIGHT, Wanted, io_line, shares};
use crate::cgroup::placement::{Placement, keeper, read, write};
use crate::cgroup::{CgroupError, Version};

/// What is written to a file.
pub(super) enum Text {
    Own(String),
    /// What the cgroup above has.
    Parents,
}

impl Wanted {
    /// Writes each to its file, as far as it is another than `before`.
    pub(in crate::cgroup) fn write(
        &self,
        placements: &[Placement],
        before: Option<&Self>,
    ) -> Result<(), CgroupError> {
        Bound::ALL
            .into_iter()
            .try_for_each(|bound| self.write_one(placements, bound, before))
    }

    /// The same of one of them.
    pub(in crate::cgroup) fn write_one(
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
                    setting: bound.setting_of(file),
                    remedy: bound.remedy(version, source),
                    file: file.to_string_lossy().into_owned(),
                    path: placement.path().to_owned(),
                    source,
                },
            })?;
        }
        Ok(())
    }

    /// What is written to which file, in order.
    pub(super) fn texts(
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
        let (quota, period) = self.cpu_quota();
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
            (Bound::CpuQuota, Version::V1) => {
                // The old quota in the new period could be more than the
                // cgroup above has, which refuses it.
                let moves = before.is_some_and(|before| before.cpu_quota().1 != period);
                let free = moves.then(|| own(c"cpu.cfs_quota_us", or_none(None)));
                let written = [
                    own(c"cpu.cfs_period_us", period.to_string()),
                    own(c"cpu.cfs_quota_us", or_none(quota)),
                ];
                free.into_iter().chain(written).collect()
            }
            (Bound::CpuQuota, Version::V2) => {
                vec![own(c"cpu.max", format!("{} {period}", max(quota)))]
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
