//! What is written where, and what files are understood.

use super::written::Text;
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
            "cpu.max=20000 20000",
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
            "cpu.cfs_period_us=20000",
            "cpu.cfs_quota_us=20000",
        ]
    );
    for version in [Version::V1, Version::V2] {
        assert_eq!(texts(&wanted, version, Some(&wanted)), [""; 0]);
    }
}

#[test]
fn small_quota_is_counted_in_a_longer_time() {
    let of = |cpu_percent_max| {
        let limits = CgroupLimits {
            cpu_percent_max,
            ..CgroupLimits::default()
        };
        Wanted::of(&limits).unwrap()
    };
    let written = |wanted: &Wanted, version, before: &Wanted| {
        let texts = texts(wanted, version, Some(before));
        texts.join(" ")
    };
    let (small, least, usual) = (of(4), of(5), of(100));
    let v2 = Version::V2;
    assert_eq!(written(&small, v2, &usual), "cpu.max=4000 100000");
    assert_eq!(written(&least, v2, &usual), "cpu.max=1000 20000");
    // Where the time changes, the old quota is never read in the new one.
    let period = |us| format!("cpu.cfs_period_us={us}");
    let quota = |us| format!("cpu.cfs_quota_us={us}");
    let v1 = Version::V1;
    assert_eq!(
        written(&usual, v1, &small),
        [quota("-1"), period("20000"), quota("20000")].join(" ")
    );
    assert_eq!(
        written(&usual, v1, &least),
        [period("20000"), quota("20000")].join(" ")
    );
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

#[test]
fn a_refused_value_names_its_setting_and_a_remedy() {
    assert_eq!(
        Bound::Io.setting_of(c"blkio.bfq.weight"),
        "cgroup.io_weight"
    );
    assert_eq!(Bound::Io.setting_of(c"io.max"), "cgroup.io");
    for (bound, version, errno) in [
        (Bound::Processors, Version::V2, Errno::ERANGE),
        (Bound::MemoryNodes, Version::V1, Errno::EINVAL),
        (Bound::CpuQuota, Version::V1, Errno::EINVAL),
        (Bound::Io, Version::V1, Errno::ERANGE),
        (Bound::Io, Version::V2, Errno::ENODEV),
    ] {
        assert!(bound.remedy(version, errno).is_some(), "{bound:?}");
    }
    assert_eq!(Bound::Tasks.remedy(Version::V2, Errno::EIO), None);
}
