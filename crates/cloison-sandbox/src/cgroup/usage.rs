//! What the processes of a cgroup use, and how often a limit held them.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use serde::Serialize;

use super::limits::Directories;
use super::placement::read;
use super::{Cgroup, CgroupError, CgroupStep, Version};
use crate::proc::fields::{decimal, lines, words};

/// What all processes of a sandbox use together, and how often a limit was
/// reached. `None`: this host does not tell.
///
/// Counters only grow, from the making of the cgroup on: a server that is
/// launched again in it goes on with them.
///
/// # Source
/// The kernel's documentation of cgroup v2 and v1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Memory in use now, with its page cache, in bytes.
    pub memory_bytes: Option<u64>,
    /// Swap in use now, in bytes.
    pub swap_bytes: Option<u64>,
    /// The most memory that was in use, in bytes.
    ///
    /// # Kernel
    /// v2: 5.19.
    pub memory_bytes_peak: Option<u64>,
    /// How often its memory limit was reached.
    pub memory_limit_hits: Option<u64>,
    /// Processes that were ended since no memory was left within its limit.
    ///
    /// # Kernel
    /// v2, or v1 from 4.13 on.
    pub oom_kills: Option<u64>,
    /// Processes and threads now.
    pub tasks: Option<u64>,
    /// How often one was refused since there were too many.
    ///
    /// # Kernel
    /// v2, or v1 from 4.7 on.
    pub task_limit_hits: Option<u64>,
    /// Time on processors, in microseconds.
    pub cpu_us: Option<u64>,
    /// In how many periods its quota was used up.
    pub cpu_throttled_periods: Option<u64>,
    /// How long it was kept off the processors by its quota, in microseconds.
    pub cpu_throttled_us: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_written_bytes: Option<u64>,
    /// How long its processes waited for what was short.
    pub pressure: Option<Pressure>,
}

/// How long processes of a sandbox waited for what was short (PSI).
///
/// # Kernel
/// 4.20, `CONFIG_PSI`, cgroup v2.
///
/// # Source
/// The kernel's Documentation/accounting/psi.rst
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pressure {
    /// For processors.
    pub cpu: Stall,
    /// For memory.
    pub memory: Stall,
    /// For I/O.
    pub io: Stall,
}

/// How long processes stood still for want of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stall {
    /// At least one of them, in microseconds.
    pub some_us: u64,
    /// All of them at once, in microseconds.
    pub full_us: u64,
    /// At least one, in hundredths of a percent of the last ten seconds.
    pub some_last_10_s: u64,
}

impl Cgroup {
    /// What its processes use now, and how often a limit was reached.
    ///
    /// # Errors
    /// [`CgroupError::Step`]. What this host does not tell is no error.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        usage(&self.directories()).map_err(|source| {
            let first = self.placements.first();
            first.map_or(CgroupError::NoHierarchy, |placement| {
                placement.failed(CgroupStep::Read, source)
            })
        })
    }
}

/// The same by its directories.
pub(crate) fn usage(directories: &Directories<'_>) -> Result<Usage, Errno> {
    let mut usage = Usage::default();
    let keeper = |controller| directories.keeper(controller);
    match keeper("memory") {
        Some((Version::V1, directory)) => memory_v1(directory, &mut usage)?,
        Some((Version::V2, directory)) => memory_v2(directory, &mut usage)?,
        None => {}
    }
    if let Some((_, directory)) = keeper("pids") {
        usage.tasks = single(directory, c"pids.current")?;
        usage.task_limit_hits = keyed(directory, c"pids.events", b"max")?;
    }
    match keeper("cpu") {
        Some((Version::V1, directory)) => {
            usage.cpu_throttled_periods = keyed(directory, c"cpu.stat", b"nr_throttled")?;
            let throttled = keyed(directory, c"cpu.stat", b"throttled_time")?;
            usage.cpu_throttled_us = throttled.map(|ns| ns / 1000);
        }
        Some((Version::V2, directory)) => {
            usage.cpu_us = keyed(directory, c"cpu.stat", b"usage_usec")?;
            usage.cpu_throttled_periods = keyed(directory, c"cpu.stat", b"nr_throttled")?;
            usage.cpu_throttled_us = keyed(directory, c"cpu.stat", b"throttled_usec")?;
        }
        None => {}
    }
    if let Some((Version::V1, directory)) = keeper("cpuacct") {
        usage.cpu_us = single(directory, c"cpuacct.usage")?.map(|ns| ns / 1000);
    }
    match keeper("blkio") {
        Some((Version::V1, directory)) => io_v1(directory, &mut usage)?,
        Some((Version::V2, directory)) => io_v2(directory, &mut usage)?,
        None => {}
    }
    // Version 1 has none for a cgroup; of version 2 it is there without the
    // controllers, too.
    if let Some(directory) = directories.v2() {
        usage.pressure = pressure(directory)?;
    }
    Ok(usage)
}

fn memory_v1(directory: BorrowedFd<'_>, usage: &mut Usage) -> Result<(), Errno> {
    usage.memory_bytes = single(directory, c"memory.usage_in_bytes")?;
    let both = single(directory, c"memory.memsw.usage_in_bytes")?;
    // The two are read one after the other.
    let swap = both.zip(usage.memory_bytes);
    usage.swap_bytes = swap.map(|(both, memory)| both.saturating_sub(memory));
    usage.memory_bytes_peak = single(directory, c"memory.max_usage_in_bytes")?;
    usage.memory_limit_hits = single(directory, c"memory.failcnt")?;
    usage.oom_kills = keyed(directory, c"memory.oom_control", b"oom_kill")?;
    Ok(())
}

fn memory_v2(directory: BorrowedFd<'_>, usage: &mut Usage) -> Result<(), Errno> {
    usage.memory_bytes = single(directory, c"memory.current")?;
    usage.swap_bytes = single(directory, c"memory.swap.current")?;
    usage.memory_bytes_peak = single(directory, c"memory.peak")?;
    usage.memory_limit_hits = keyed(directory, c"memory.events", b"max")?;
    usage.oom_kills = keyed(directory, c"memory.events", b"oom_kill")?;
    Ok(())
}

fn io_v1(directory: BorrowedFd<'_>, usage: &mut Usage) -> Result<(), Errno> {
    let Some(text) = whole(directory, c"blkio.throttle.io_service_bytes")? else {
        return Ok(());
    };
    let sum = |kind: &[u8]| {
        let of_kind = lines(&text).filter_map(|line| {
            let mut fields = words(line);
            let (_device, found, number) = (fields.next()?, fields.next()?, fields.next()?);
            (found == kind).then(|| decimal(number))?
        });
        of_kind.fold(0, u64::saturating_add)
    };
    usage.io_read_bytes = Some(sum(b"Read"));
    usage.io_written_bytes = Some(sum(b"Write"));
    Ok(())
}

fn io_v2(directory: BorrowedFd<'_>, usage: &mut Usage) -> Result<(), Errno> {
    let Some(text) = whole(directory, c"io.stat")? else {
        return Ok(());
    };
    let sum = |key: &[u8]| {
        let all = lines(&text).flat_map(words);
        let found = all.filter_map(|word| decimal(word.strip_prefix(key)?));
        found.fold(0, u64::saturating_add)
    };
    usage.io_read_bytes = Some(sum(b"rbytes="));
    usage.io_written_bytes = Some(sum(b"wbytes="));
    Ok(())
}

fn pressure(directory: BorrowedFd<'_>) -> Result<Option<Pressure>, Errno> {
    let (Some(cpu), Some(memory), Some(io)) = (
        stall(directory, c"cpu.pressure")?,
        stall(directory, c"memory.pressure")?,
        stall(directory, c"io.pressure")?,
    ) else {
        return Ok(None);
    };
    Ok(Some(Pressure { cpu, memory, io }))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same of `full`,
/// which older kernels do not have for processors.
fn stall(directory: BorrowedFd<'_>, file: &CStr) -> Result<Option<Stall>, Errno> {
    let Some(text) = whole(directory, file)? else {
        return Ok(None);
    };
    let of = |kind: &[u8], key: &[u8]| {
        let line = lines(&text).find(|line| words(line).next() == Some(kind))?;
        words(line).find_map(|word| word.strip_prefix(key))
    };
    let total = |kind: &[u8]| of(kind, b"total=").map(|text| decimal(text).ok_or(Errno::EBADMSG));
    let share = of(b"some", b"avg10=").ok_or(Errno::EBADMSG)?;
    let share: Vec<u8> = share.iter().copied().filter(|byte| *byte != b'.').collect();
    Ok(Some(Stall {
        some_us: total(b"some").ok_or(Errno::EBADMSG)??,
        full_us: total(b"full").transpose()?.unwrap_or(0),
        some_last_10_s: decimal(&share).ok_or(Errno::EBADMSG)?,
    }))
}

/// A file that this host may lack: also one of a controller that PSI is off
/// for.
fn whole(directory: BorrowedFd<'_>, file: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    match read(directory.as_fd(), file) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::ENOENT | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

fn single(directory: BorrowedFd<'_>, file: &CStr) -> Result<Option<u64>, Errno> {
    let text = whole(directory, file)?;
    text.map(|text| decimal(text.trim_ascii_end()).ok_or(Errno::EBADMSG))
        .transpose()
}

/// The number behind `key`; a kernel that has no such line does not tell.
fn keyed(directory: BorrowedFd<'_>, file: &CStr, key: &[u8]) -> Result<Option<u64>, Errno> {
    let Some(text) = whole(directory, file)? else {
        return Ok(None);
    };
    let found = lines(&text).find_map(|line| {
        let mut fields = words(line);
        (fields.next() == Some(key)).then(|| fields.next().and_then(decimal))
    });
    found.map(|number| number.ok_or(Errno::EBADMSG)).transpose()
}

/// One line a number.
impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, number, unit) in [
            ("memory", self.memory_bytes, "bytes"),
            ("swap", self.swap_bytes, "bytes"),
            ("memory peak", self.memory_bytes_peak, "bytes"),
            ("memory limit reached", self.memory_limit_hits, "times"),
            ("ended for want of memory", self.oom_kills, "processes"),
            ("tasks", self.tasks, ""),
            ("task limit reached", self.task_limit_hits, "times"),
            ("cpu", self.cpu_us, "us"),
            ("cpu quota used up", self.cpu_throttled_periods, "periods"),
            ("cpu held back", self.cpu_throttled_us, "us"),
            ("read", self.io_read_bytes, "bytes"),
            ("written", self.io_written_bytes, "bytes"),
        ] {
            match number {
                Some(number) => writeln!(f, "{name:<26} {number} {unit}")?,
                None => writeln!(f, "{name:<26} not told by this host")?,
            }
        }
        let Some(pressure) = &self.pressure else {
            return writeln!(f, "{:<26} not told by this host", "pressure");
        };
        for (name, stall) in [
            ("waited for cpu", pressure.cpu),
            ("waited for memory", pressure.memory),
            ("waited for io", pressure.io),
        ] {
            let Stall {
                some_us, full_us, ..
            } = stall;
            writeln!(f, "{name:<26} some {some_us} us, all {full_us} us")?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::Hierarchy;
    use nix::fcntl::{AT_FDCWD, OFlag, openat};
    use nix::sys::stat::Mode;
    use std::fs;

    fn of(name: &str, hierarchy: &Hierarchy, files: &[(&str, &str)]) -> Result<Usage, Errno> {
        let own = std::process::id();
        let path = std::env::temp_dir().join(format!("cloison-usage-{name}-{own}"));
        fs::create_dir_all(&path).unwrap();
        for (file, text) in files {
            fs::write(path.join(file), text).unwrap();
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let directory = openat(AT_FDCWD, &path, flags, Mode::empty()).unwrap();
        let found = usage(&Directories::new([(hierarchy, directory.as_fd())]));
        fs::remove_dir_all(&path).unwrap();
        found
    }

    #[test]
    fn usage_of_version_2_is_read() {
        let psi = "some avg10=1.25 avg60=0.00 avg300=0.00 total=77\n\
                   full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n";
        let usage = of(
            "v2",
            &Hierarchy::V2,
            &[
                ("memory.current", "4096\n"),
                ("memory.swap.current", "0\n"),
                ("memory.events", "low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\n"),
                ("pids.current", "9\n"),
                ("pids.events", "max 4\n"),
                (
                    "cpu.stat",
                    "usage_usec 100\nnr_throttled 6\nthrottled_usec 7\n",
                ),
                (
                    "io.stat",
                    "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0\n8:16 rbytes=10 wbytes=20\n",
                ),
                (
                    "cpu.pressure",
                    "some avg10=0.00 avg60=0.00 avg300=0.00 total=9\n",
                ),
                ("memory.pressure", psi),
                ("io.pressure", psi),
            ],
        )
        .unwrap();
        assert_eq!(usage.memory_bytes, Some(4096));
        assert_eq!(usage.memory_bytes_peak, None);
        assert_eq!(
            (usage.memory_limit_hits, usage.oom_kills),
            (Some(3), Some(2))
        );
        assert_eq!((usage.tasks, usage.task_limit_hits), (Some(9), Some(4)));
        assert_eq!(
            (
                usage.cpu_us,
                usage.cpu_throttled_periods,
                usage.cpu_throttled_us
            ),
            (Some(100), Some(6), Some(7))
        );
        assert_eq!(
            (usage.io_read_bytes, usage.io_written_bytes),
            (Some(11), Some(22))
        );
        let pressure = usage.pressure.unwrap();
        let stall = Stall {
            some_us: 77,
            full_us: 5,
            some_last_10_s: 125,
        };
        assert_eq!((pressure.memory, pressure.cpu.full_us), (stall, 0));
    }

    #[test]
    fn usage_of_version_1_is_read() {
        let all = Hierarchy::V1("memory,pids,cpu,cpuacct,blkio".to_owned());
        let usage = of(
            "v1",
            &all,
            &[
                ("memory.usage_in_bytes", "4096\n"),
                ("memory.memsw.usage_in_bytes", "8192\n"),
                ("memory.max_usage_in_bytes", "9000\n"),
                ("memory.failcnt", "3\n"),
                (
                    "memory.oom_control",
                    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
                ),
                ("pids.current", "9\n"),
                ("pids.events", "max 4\n"),
                (
                    "cpu.stat",
                    "nr_periods 9\nnr_throttled 6\nthrottled_time 7000\n",
                ),
                ("cpuacct.usage", "100000\n"),
                (
                    "blkio.throttle.io_service_bytes",
                    "8:0 Read 1\n8:0 Write 2\n8:0 Total 3\n8:16 Read 10\nTotal 13\n",
                ),
            ],
        )
        .unwrap();
        assert_eq!(
            (usage.memory_bytes, usage.swap_bytes),
            (Some(4096), Some(4096))
        );
        assert_eq!(
            (usage.memory_limit_hits, usage.oom_kills),
            (Some(3), Some(2))
        );
        assert_eq!((usage.cpu_us, usage.cpu_throttled_us), (Some(100), Some(7)));
        assert_eq!(
            (usage.io_read_bytes, usage.io_written_bytes),
            (Some(11), Some(2))
        );
        assert_eq!(usage.pressure, None);
    }

    #[test]
    fn a_host_that_tells_nothing_is_no_error_and_an_odd_one_is() {
        assert_eq!(of("none", &Hierarchy::V2, &[]), Ok(Usage::default()));
        let odd = of("odd", &Hierarchy::V2, &[("memory.current", "4k\n")]);
        assert_eq!(odd, Err(Errno::EBADMSG));
        let text = Usage::default().to_string();
        assert_eq!(text.lines().count(), 13);
    }
}
