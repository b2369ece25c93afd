//! What the numbers of a spec may be.

use std::collections::HashSet;

use crate::error::Refused;
use crate::spec::{CgroupLimits, OwnAccess, Root, Spec};

/// A tmpfs is bounded by no less than a page: for the kernel a size of 0, and
/// one that overflows when it is rounded up to pages, is no bound at all.
const TMPFS_BYTES: (u64, u64) = (4096, 1 << 44);
/// Room for what the launch itself makes; 0 is no bound either.
const TMPFS_FILES: (u64, u64) = (16, 1 << 32);
/// The launch needs its descriptors; the kernel refuses more than
/// `fs.nr_open`, of which this is the default.
const OPEN_FILES: (u64, u64) = (256, 1 << 20);
/// Init, command and one more. `pid_max` is never larger.
const PROCESSES: (u64, u64) = (3, 1 << 22);
/// A devpts takes one more (`NR_UNIX98_PTY_MAX`), which it does not show: it
/// could not be read back.
const TERMINALS: (u64, u64) = (0, (1 << 20) - 1);
/// The kernel keeps a signed number of 32 bits.
const INOTIFY: (u64, u64) = (0, i32::MAX as u64);
/// A signed number of bytes; what is more the kernel takes for no limit.
const BYTES: (u64, u64) = (0, i64::MAX as u64);

/// Room for the launch itself, and less than the kernel's own largest.
const MEMORY_BYTES: (u64, u64) = (16 << 20, 1 << 50);
const SWAP_BYTES: (u64, u64) = (0, 1 << 50);
/// What a weight of version 2 may be.
const WEIGHT: (u64, u64) = (1, 10_000);
/// A thousandth of a period is the least that the kernel takes.
const CPU_PERCENT: (u64, u64) = (1, 1_000_000);
/// 0 is no limit for the kernel.
const IO_RATE: (u64, u64) = (1, 1 << 50);
/// The kernel keeps 32 bits, of which the largest number is no limit.
const IO_OPERATIONS: (u64, u64) = (1, u32::MAX as u64 - 1);
/// The most devices that limits are named for.
const IO_DEVICES_MAX: usize = 32;

/// The ports from 1024 on.
const PORTS: usize = 65_536 - 1024;

/// What the strings of a spec may take of a block of steps: the rest is for the
/// steps themselves.
const TEXT_BYTES_MAX: usize = 104 << 10;
/// What a string takes besides itself: a NUL, and its place in a list.
const TEXT_BYTES_BESIDES: usize = 9;

/// Checks every number of `spec`, and the size of all its strings.
pub(super) fn check(spec: &Spec) -> Result<(), Refused> {
    let (tmpfs, limits) = (&spec.tmpfs, &spec.limits);
    let terminals = u64::from(limits.terminals_max);
    for (field, value, bounds) in [
        ("tmpfs.tmp_bytes_max", tmpfs.tmp_bytes_max, TMPFS_BYTES),
        ("tmpfs.run_bytes_max", tmpfs.run_bytes_max, TMPFS_BYTES),
        ("tmpfs.shm_bytes_max", tmpfs.shm_bytes_max, TMPFS_BYTES),
        ("tmpfs.files_max", tmpfs.files_max, TMPFS_FILES),
        ("limits.open_files_max", limits.open_files_max, OPEN_FILES),
        ("limits.processes_max", limits.processes_max, PROCESSES),
        ("limits.core_bytes_max", limits.core_bytes_max, BYTES),
        ("limits.locked_bytes_max", limits.locked_bytes_max, BYTES),
        (
            "limits.pending_signals_max",
            limits.pending_signals_max,
            BYTES,
        ),
        (
            "limits.message_queue_bytes_max",
            limits.message_queue_bytes_max,
            BYTES,
        ),
        ("limits.terminals_max", terminals, TERMINALS),
        (
            "limits.inotify_instances_max",
            limits.inotify_instances_max,
            INOTIFY,
        ),
        (
            "limits.inotify_watches_max",
            limits.inotify_watches_max,
            INOTIFY,
        ),
    ] {
        within(field, value, bounds)?;
    }
    if let Root::Own(own) = &spec.root
        && let OwnAccess::MemoryLayer {
            bytes_max,
            files_max,
        } = own.access
    {
        for (field, value, bounds) in [
            (
                "root.own.access.memory-layer.bytes_max",
                bytes_max,
                TMPFS_BYTES,
            ),
            (
                "root.own.access.memory-layer.files_max",
                files_max,
                TMPFS_FILES,
            ),
        ] {
            within(field, value, bounds)?;
        }
    }
    cgroup(&spec.cgroup)?;
    let unprivileged = spec.tcp.bind.iter().filter(|port| **port >= 1024);
    if unprivileged.collect::<HashSet<_>>().len() == PORTS {
        return Err(Refused::EveryPort);
    }
    let bytes = text_bytes(spec);
    if bytes > TEXT_BYTES_MAX {
        return Err(Refused::TooLarge {
            bytes,
            bytes_max: TEXT_BYTES_MAX,
        });
    }
    Ok(())
}

fn cgroup(limits: &CgroupLimits) -> Result<(), Refused> {
    for (field, value, bounds) in [
        (
            "cgroup.memory_bytes_max",
            Some(limits.memory_bytes_max),
            MEMORY_BYTES,
        ),
        (
            "cgroup.swap_bytes_max",
            Some(limits.swap_bytes_max),
            SWAP_BYTES,
        ),
        ("cgroup.tasks_max", Some(limits.tasks_max), PROCESSES),
        ("cgroup.cpu_weight", Some(limits.cpu_weight), WEIGHT),
        (
            "cgroup.cpu_percent_max",
            Some(limits.cpu_percent_max),
            CPU_PERCENT,
        ),
        ("cgroup.io_weight", limits.io_weight, WEIGHT),
    ] {
        value.map_or(Ok(()), |value| within(field, value, bounds))?;
    }
    if limits.io.len() > IO_DEVICES_MAX {
        return Err(Refused::IoDevices(limits.io.len()));
    }
    for (at, limit) in limits.io.iter().enumerate() {
        let device = &limit.device;
        if !device.is_absolute() {
            return Err(Refused::HostPathNotAbsolute(device.clone()));
        }
        if device.as_os_str().as_encoded_bytes().contains(&0) {
            return Err(Refused::Nul);
        }
        if limits
            .io
            .iter()
            .take(at)
            .any(|other| other.device == *device)
        {
            return Err(Refused::IoDeviceTwice(device.clone()));
        }
        for (field, rate, bounds) in [
            (
                "cgroup.io.read_bytes_per_s_max",
                limit.read_bytes_per_s_max,
                IO_RATE,
            ),
            (
                "cgroup.io.write_bytes_per_s_max",
                limit.write_bytes_per_s_max,
                IO_RATE,
            ),
            (
                "cgroup.io.reads_per_s_max",
                limit.reads_per_s_max,
                IO_OPERATIONS,
            ),
            (
                "cgroup.io.writes_per_s_max",
                limit.writes_per_s_max,
                IO_OPERATIONS,
            ),
        ] {
            rate.map_or(Ok(()), |rate| within(field, rate, bounds))?;
        }
    }
    Ok(())
}

fn within(field: &'static str, value: u64, (least, most): (u64, u64)) -> Result<(), Refused> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Refused::OutOfBounds {
        field,
        value,
        least,
        most,
    })
}

fn text_bytes(spec: &Spec) -> usize {
    let commands = spec.command.iter().map(String::len);
    // With a `=` between.
    let variables = spec
        .environment
        .iter()
        .map(|(key, value)| key.len() + 1 + value.len());
    let targets = spec
        .mounts
        .iter()
        .map(|mount| mount.target.as_os_str().len());
    let directory = spec.working_directory.as_os_str().len();
    commands
        .chain(variables)
        .chain(targets)
        .chain([directory])
        .map(|length| length + TEXT_BYTES_BESIDES)
        .sum()
}
